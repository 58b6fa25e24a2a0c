"""Strictly from plain data to frozen dataclasses: faults name the key, the value, the way out.

``build`` turns plain data into a dataclass whose fields are checked by pydantic in strict mode, are
sections (dataclasses) themselves, or are parts chosen from a registry (``Annotated[Protocol,
Registry(...)]``). Faults are collected, so a user sees all of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache, partial
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core.core_schema import no_info_after_validator_function, str_schema

from metaward.errors import InputError, printable
from metaward.plugins import PluginError, Plugins


class ConfigError(InputError):
    """The faults of a configuration, one line for each; ``source`` names the file."""

    code = "bad-request"

    def __init__(self, faults: Sequence[str], source: str = "configuration") -> None:
        self.faults = tuple(printable(fault) for fault in faults)
        super().__init__("\n".join(f"{printable(source)}: {fault}" for fault in self.faults))


@dataclass(frozen=True)
class Registry:
    """Marks a field whose value is one entry of a registry, chosen by the yaml key ``by``.

    ``parts`` come with metaward; ``plugins``, if given, add others. ``way_out`` can say what to
    write instead of a name that no entry has. With ``short`` a name alone stands for the part with
    its defaults.
    """

    by: str
    parts: Mapping[str, Any]
    plugins: Plugins | None = None
    way_out: Callable[[str], str] = lambda name: ""
    short: bool = False

    def names(self) -> str:
        """The choices, as an error lists them."""
        return ", ".join([*self.parts, *(self.plugins.names() if self.plugins else [])])

    def find(self, name: str) -> type[Any] | None:
        """The class of this name, built in or a plug-in; ``PluginError`` for one that is broken."""
        return self.parts.get(name) or (self.plugins.find(name) if self.plugins else None)

    def register(self, name: str, thing: Any) -> None:
        """Add a plug-in; ``ValueError`` where a built-in part has its name, or it does not fit."""
        if self.plugins is None or name in self.parts:
            raise ValueError(f"{self.by} {name} is metaward's own; choose another name")
        self.plugins.register(name, thing)

    def asked_plugins(self, given: Any) -> list[str]:
        """``by:name`` of the plug-in that ``given``, the mapping of a part, asks for, if any;
        nothing is imported."""
        mapping = self._spelled(given)
        name = mapping.get(self.by) if isinstance(mapping, dict) else None
        return [f"{self.by}:{name}"] if isinstance(name, str) and name not in self.parts else []

    def plain(self, part: Any) -> dict[str, Any]:
        """A part as the mapping from which ``build`` makes it."""
        name = next(name for name, cls in self._known().items() if type(part) is cls)
        return {self.by: name, **plain(part)}

    def build(self, given: Any, path: str, faults: list[str]) -> Any:
        """The part that ``given`` names, with its options; None where there are faults."""
        given = self._spelled(given)
        if not isinstance(given, dict) or self.by not in given:
            faults.append(f"{path}.{self.by}: missing; choose from {self.names()}")
            return None
        name = given[self.by]
        try:
            cls = self.find(name) if isinstance(name, str) else None
        except PluginError as error:
            faults.append(f"{path}.{self.by}: {error}")
            return None
        if cls is None:
            fault = f"{path}.{self.by}: unknown {show(name)}; choose from {self.names()}"
            faults.append(fault + self.way_out(str(name)))
            return None
        options = {key: value for key, value in given.items() if key != self.by}
        left_over = self._left_over(cls, options)
        if left_over:
            faults.append(
                f"{path}: {self.by} {name} has no {', '.join(left_over)}; to exchange the whole "
                f"part with its options: --set '{path}={{{self.by}: {name}}}'"
            )
            return None
        return build(cls, options, f"{path}.", faults)

    def _spelled(self, given: Any) -> Any:
        """The mapping behind a name that stands alone."""
        return {self.by: given} if self.short and isinstance(given, str) else given

    def _known(self) -> dict[str, type[Any]]:
        """Every class that a part can have; a plug-in has one only after it was used."""
        return {**self.parts, **(self.plugins.entries if self.plugins else {})}

    def _left_over(self, cls: type[Any], options: Mapping[str, Any]) -> list[str]:
        """Keys that ``cls`` does not know but another part does: they are left over where only the
        name of a part was changed."""
        known = {field.name for field in fields(cls)}
        others = {field.name for part in self._known().values() for field in fields(part)}
        return [key for key in options if key not in known and key in others]


def compact(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN, so that equal values are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, eq=False)  # by identity, so that it can be hashed
class Named:
    """Marks a field that is one of ``values``, named in yaml; a ``str`` field holds the name."""

    values: Mapping[str, Any]

    def plain(self, value: Any) -> str:
        """The name of the value."""
        return next(name for name, known in self.values.items() if value in (name, known))

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Accept a text that is a known name, and turn it into its value."""

        def read(name: str) -> Any:
            if name not in self.values:
                raise ValueError(f"must be one of {', '.join(self.values)}")
            return name if source is str else self.values[name]

        return no_info_after_validator_function(read, str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """The names, for a published schema."""
        return {"type": "string", "enum": list(self.values)}

    def words(self) -> str:
        """What can be written, in Markdown."""
        return ", ".join(f"`{name}`" for name in self.values)


def build(cls: type[Any], given: Any, path: str, faults: list[str]) -> Any:
    """Make a ``cls`` from a mapping; None, with lines added to ``faults``, if there are faults."""
    known = {f.name: f for f in fields(cls)}
    if not isinstance(given, dict):
        faults.append(
            f"{path.rstrip('.') or 'file'}: {show(given)} is not a mapping of {_list(known)}"
        )
        return None
    before = len(faults)
    unknown, keys = [key for key in given if key not in known], f"known keys are {_list(known)}"
    faults += [f"{path}{key}: unknown key; {nearest(str(key), known, keys)}" for key in unknown]
    hints = hints_of(cls)
    values = {}
    for name, spec in known.items():
        if name in given:
            values[name] = _value(hints[name], given[name], f"{path}{name}", faults)
        elif _required(spec):
            faults.append(_missing(hints[name], f"{path}{name}"))
    if len(faults) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:  # the part itself checks rules between two of its fields
        faults.append(f"{path}{error}")
        return None


def plain(value: Any) -> Any:
    """The inverse of ``build``: nested mappings, lists and scalars, every default filled in."""
    if not is_dataclass(value) or isinstance(value, type):
        return list(value) if isinstance(value, tuple) else value
    hints = hints_of(type(value))
    out = {}
    for f in fields(value):
        choice = registry_of(hints[f.name]) or named_in(hints[f.name])
        part = getattr(value, f.name)
        out[f.name] = choice.plain(part) if choice and part is not None else plain(part)
    return out


# ------------------------------------------------------------------------------ details


def _value(hint: Any, given: Any, path: str, faults: list[str]) -> Any:
    registry = registry_of(hint)
    if registry:
        return None if _left_out(hint, given) else registry.build(given, path, faults)
    section = section_of(hint)
    if section is not None:
        optional = section is not hint and given is None
        return None if optional else build(section, given, f"{path}.", faults)
    try:
        return _adapter(hint).validate_json(json.dumps(given, allow_nan=False), strict=True)
    except ValidationError as error:
        faults += [
            f"{_where(path, e)}: {show(e['input'])} is refused: {_why(e)}" for e in error.errors()
        ]
    except ValueError:
        faults.append(f"{path}: {show(given)} is refused: must be finite")
    except TypeError:
        faults.append(f"{path}: {show(given)} is refused: put it in quotes if it is text")
    return None


def show(value: Any) -> str:
    """A value in yaml's spelling: true and null, not True and None."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str) else str(value)


_WORDS = {
    "int_type": "must be a whole number, without quotes or a decimal point",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "dict_type": "must be a mapping, as in {key: value}",
    "tuple_type": "must be a list, as in [a, b]",
}


def _why(error: Any) -> str:
    """What is allowed instead, in words for the writer of a yaml file."""
    if error["type"] == "value_error":  # a check of our own, whose message is complete
        return str(error["ctx"]["error"])
    words: str = error["msg"].replace("Input should be", "must be")
    return _WORDS.get(error["type"], words.replace("String should match", "must match"))


def _where(path: str, error: Any) -> str:
    inner = [f"[{part}]" for part in error["loc"] if isinstance(part, int)]
    return path + "".join(inner)


def _missing(hint: Any, path: str) -> str:
    registry = registry_of(hint)
    if registry:
        return f"{path}: missing; give it a mapping with {registry.by}: {registry.names()}"
    section = section_of(hint)
    if section is not None:
        return f"{path}: missing; give it a mapping of {', '.join(f.name for f in fields(section))}"
    return f"{path}: missing"


def _left_out(hint: Any, given: Any) -> bool:
    """Whether a part that a run can do without is null."""
    return given is None and NoneType in get_args(get_args(hint)[0])


def _required(spec: Field[Any]) -> bool:
    return spec.default is MISSING and spec.default_factory is MISSING


def registry_of(hint: Any) -> Registry | None:
    """The registry that a field chooses its part from, None for any other field."""
    return next((arg for arg in get_args(hint) if isinstance(arg, Registry)), None)


def named_in(hint: Any) -> Named | None:
    """The values that a field chooses one of, None for any other field."""
    return next((arg for arg in get_args(hint) if isinstance(arg, Named)), None)


def section_of(hint: Any) -> type[Any] | None:
    """The dataclass that a field holds, or may hold beside None; None for any other field."""
    kinds = [hint, *get_args(hint)] if not registry_of(hint) and not named_in(hint) else []
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def nearest(name: str, known: Collection[str], otherwise: str) -> str:
    """The known name that may be meant, as a question; ``otherwise`` where none is near."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def _list(known: Mapping[str, Any]) -> str:
    return ", ".join(known) if known else "no keys"


def hints_of(cls: type[Any]) -> Mapping[str, Any]:
    """The types of the fields of ``cls`` with their limits."""
    return _hints(cls)


_hints: Callable[[Any], Mapping[str, Any]] = cache(partial(get_type_hints, include_extras=True))
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
