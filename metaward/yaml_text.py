"""Strictly from yaml to plain data, with the line of each fault; and overrides of single keys."""

from __future__ import annotations

import re
from typing import Any

import yaml

from metaward.options import ConfigError, show


def override(mapping: Any, text: str) -> None:
    """Apply one ``section.key=value`` (the value is yaml) to plain data, in place."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError([f"{text!r} is not section.key=value"], "--set")
    place(mapping, key, read_yaml(value, f"--set {key}"))


def place(mapping: Any, key: str, value: Any) -> None:
    """Set ``section.key`` to plain data, in place; ``ConfigError`` if there is no such section."""
    *parents, last = key.split(".")
    if not isinstance(mapping, dict):
        raise ConfigError([f"{key}: the file holds no sections"], "--set")
    for parent in parents:
        if not isinstance(mapping.get(parent, {}), dict):
            raise ConfigError([f"{key}: {parent} is not a section"], "--set")
        mapping[parent] = dict(mapping.get(parent, {}))  # a yaml alias must not change its anchor
        mapping = mapping[parent]
    mapping[last] = value


ODD = re.compile(r"[-+]?(0[0-9_]+$|[0-9_]+:)")
"""Numbers that are not what they look like: 010 is 8 in yaml, and 1:30 is 90."""


CHOOSING = ("source", "network", "algorithm", "mechanism", "rule", "optimizer", "function")
"""Keys that choose a part: where one says another name, the part's other options are not kept."""


def merged(base: Any, own: Any) -> Any:
    """Plain data of two files, where ``own`` changes what ``base`` says, key by key."""
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    if any(key in own and own[key] != base.get(key) for key in CHOOSING):
        return own
    return {**base, **{key: merged(base.get(key), value) for key, value in own.items()}}


MOST = 1_000_000
"""Characters that a text may stand for: with aliases of aliases a few lines stand for any number.
"""


class _Loader(yaml.SafeLoader):
    """A loader that refuses a repeated key and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As in SafeLoader, but a repeated key is an error: the first would be lost silently."""
        seen: list[Any] = []
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refuse(key_node, f"key {show(key)} is repeated")
            seen.append(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As in SafeLoader, but the error for a value that is not what its tag says, such as a date
        without a month, has its line, and a number that yaml would read in base 8 or 60 is
        refused."""
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and ODD.match(str(node.value)):
            raise _refuse(
                node, f"{node.value} would be read in another base; write it plainly, or in quotes"
            )
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise _refuse(node, str(error)) from error
        except (ArithmeticError, AttributeError, LookupError) as error:  # SafeLoader expects none
            kind = node.tag.rpartition(":")[2]
            raise _refuse(node, f"{show(node.value)} is no {kind}; put it in quotes") from error

    def construct_document(self, node: yaml.Node) -> Any:
        """As in SafeLoader, but aliases that stand for endless or for huge data are refused."""
        _length(node, {})
        return super().construct_document(node)


def _length(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many characters and values a node stands for, with every alias written out; it is refused
    where that is more than ``MOST``, or has no end because it holds itself."""
    if id(node) not in known:
        known[id(node)] = None
        parts = [*node.value] if isinstance(node.value, list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else [part])]
        length = sum(_length(one, known) for one in inner)
        known[id(node)] = 1 + (length if isinstance(node.value, list) else len(node.value))
    found = known[id(node)]
    if found is None:
        raise _refuse(node, "an alias holds itself; write out what is meant")
    if found > MOST:
        raise _refuse(node, f"this stands for more than {MOST} characters; use fewer aliases")
    return found


def _refuse(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(text: str | bytes, source: str) -> Any:
    """Plain data from yaml; ``ConfigError`` names the line of a syntax error."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        text = "it is nested too deeply, or an alias holds itself"
        raise ConfigError([text], source) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        fault = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error)
        raise ConfigError([" ".join(fault.split())], source) from error
