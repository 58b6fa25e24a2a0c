"""The reference of all yaml keys, made from the types that read them.

``python -m metaward.reference`` prints ``docs/reference.md``. A key's name, type, default and range
are those of its field; its meaning is the text below the field in the class. A test compares the
page with what is printed here, so that neither can change alone.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from metaward.options import hints_of, named_in, plain, registry_of, section_of, show
from metaward.privacy.policy import Policy
from metaward.sim import Sim

HEAD = """# Reference of all yaml keys

This page is printed by `python -m metaward.reference`; do not edit it by hand. A key whose default
is *required* must be in the file. `null` is yaml's word for "no value". On the command line a key
is set with `--set section.key=value`.
"""
WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null"}
SIGNS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}


@dataclass(frozen=True)
class Key:
    """One line of the reference."""

    name: str
    type: str
    default: str
    range: str
    meaning: str


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page() -> str:
    """The whole page in Markdown."""
    run = [*_sections(Sim, "")]
    about = "This file belongs to the hospital; a run does not contain it."
    policy = ("The policy of a hospital", about, keys(Policy))
    return "\n".join([HEAD, *(_table(*section) for section in [*run, policy])])


Section = tuple[str, str, list[Key]]
"""Its title, a line about it, and its keys."""


def _sections(cls: type[Any], path: str) -> Iterator[Section]:
    """The keys of a section, then those of the sections and exchangeable parts below it."""
    own = keys(cls)
    if own:
        yield f"`{path}`" if path else "Top level", _first_line(cls), own
    for name, hint in hints_of(cls).items():
        below = f"{path}.{name}" if path else name
        registry, section = registry_of(hint), section_of(hint)
        if section:
            yield from _sections(section, below)
        if registry:
            for choice, part in registry.parts.items():
                title = f"`{below}` with `{registry.by}: {choice}`"
                yield title, _first_line(part), keys(part)
                yield from _within(part, below)


def _within(part: type[Any], path: str) -> Iterator[Section]:
    """The sections among the options of an exchangeable part."""
    hints = hints_of(part)
    for f in fields(part):
        section = section_of(hints[f.name])
        if section:
            yield from _sections(section, f"{path}.{f.name}")


def keys(cls: type[Any]) -> list[Key]:
    """The keys of one section or part, without those that are sections themselves."""
    hints = hints_of(cls)
    return [_key(cls, f, hints[f.name]) for f in fields(cls) if _is_key(hints[f.name])]


def _is_key(hint: Any) -> bool:
    """Whether a field is a key with a value; otherwise it is a section or an exchangeable part."""
    return not (registry_of(hint) or section_of(hint))


def _key(cls: type[Any], field: Field[Any], hint: Any) -> Key:
    meaning = meanings(cls)[field.name]
    return Key(field.name, _type(hint), _default(field, hint), _range(hint), meaning)


def meanings(cls: type[Any]) -> dict[str, str]:
    """Field -> the text below it in its class; ``ValueError`` for a field that has none."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            texts |= _texts(base)
    hints = hints_of(cls)
    missing = [f.name for f in fields(cls) if f.name not in texts and _is_key(hints[f.name])]
    if missing:
        raise ValueError(f"{cls.__module__}.{cls.__name__}: no text below {', '.join(missing)}")
    return texts


def _texts(cls: type[Any]) -> dict[str, str]:
    """The string below each annotated field of a class, as one line."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return texts


def _type(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{show(value).strip(chr(39))}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if named := named_in(hint):
        return named.words()
    if hasattr(hint, "__metadata__"):
        return _type(inner[0])
    return WORDS[hint]


def _range(hint: Any) -> str:
    """The limits of a number, a list or a text; "" where it has none beyond its type."""
    if named_in(hint):
        return ""
    if hasattr(hint, "__metadata__"):
        limits = [_limit(one) for mark in hint.__metadata__ for one in _marks(mark)]
        return ", ".join([text for text in limits if text] or [_range(get_args(hint)[0])])
    inner = [_range(one) for one in get_args(hint) if get_origin(hint) is not Literal]
    return ", ".join(text for text in inner if text)


def _marks(mark: Any) -> list[Any]:
    if not isinstance(mark, FieldInfo):
        return [mark]
    pattern = [p for m in mark.metadata if (p := getattr(m, "pattern", None))]
    return [*mark.metadata, *pattern]


def _limit(mark: Any) -> str:
    if isinstance(mark, str):
        return f"matches `{mark}`".replace("|", "\\|")
    if isinstance(mark, MinLen):
        return f"at least {mark.min_length} long"
    if isinstance(mark, MaxLen):
        return f"at most {mark.max_length} long"
    for kind, words in SIGNS.items():
        if isinstance(mark, kind):
            return f"{words} {getattr(mark, kind.__name__.lower()):.12g}"
    return ""


def _default(field: Field[Any], hint: Any) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "*required*"
    made = field.default if field.default_factory is MISSING else field.default_factory()
    named = named_in(hint)
    value = named.plain(made) if named else plain(made)
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value if isinstance(value, str) else show(value)}`"


def _table(title: str, about: str, rows: list[Key]) -> str:
    lines = [f"## {title}", "", about, ""]
    if not rows:
        return "\n".join([*lines, "This part has no keys of its own.", ""])
    lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    cells = ([f"`{r.name}`", r.type, r.default, r.range, r.meaning] for r in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def _first_line(cls: type[Any]) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


if __name__ == "__main__":
    main()
