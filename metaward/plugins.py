"""Parts from outside metaward: registered by a program, or offered by an installed package.

A registry looks here for a name that it does not know. A package offers parts by entry points:

    [project.entry-points."metaward.networks"]
    tiny = "my_package.networks:tiny"

They are found by their names alone. A package's code is imported when one of its parts is used, so
a package that cannot be imported harms only its own users.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, get_annotations, isfunction, signature
from typing import Any, Protocol, get_type_hints

from metaward.errors import InputError

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

Entry = Callable[[str, Any], type[Any]]
"""(name, registered thing) -> the frozen dataclass that the registry holds; ``TypeError`` or
``ValueError`` for a thing that does not fit."""


class PluginError(InputError):
    """An offered part cannot be used; the text names the package and the reason."""


@dataclass(frozen=True)
class Plugins:
    """The additions to a registry; ``group`` is the name of its entry points.

    ``registered`` holds what this process registered, by name; ``entries`` holds the classes made
    of these and of the parts of installed packages, as far as they were used.
    """

    group: str
    entry: Entry
    registered: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, type[Any]] = field(default_factory=dict)

    def register(self, name: str, thing: Any) -> None:
        """Add a part; it replaces an earlier one of this name."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name; use lower-case letters, digits and underscores")
        self.entries[name] = self.entry(name, thing)
        self.registered[name] = thing

    def names(self) -> list[str]:
        """All names, including those of packages; nothing is imported."""
        return [*self.entries, *(n for n in sorted(self._offers().names) if n not in self.entries)]

    def find(self, name: str) -> type[Any] | None:
        """The class of this name; None if there is none. ``PluginError`` where it is broken."""
        if name not in self.entries:
            offers = list(self._offers().select(name=name))
            if not offers:
                return None
            self.entries[name] = self._loaded(name, offers)
        return self.entries[name]

    def _offers(self) -> Any:
        return entry_points(group=self.group)

    def _loaded(self, name: str, offers: list[EntryPoint]) -> type[Any]:
        packages = [_package(offer) for offer in offers]
        if len(offers) > 1:
            raise PluginError(f"{name} is offered by {' and '.join(packages)}; uninstall one")
        try:
            return self.entry(name, offers[0].load())
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise PluginError(f"{name} of {packages[0]} cannot be used: {reason}") from error


def _package(offer: EntryPoint) -> str:
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else offer.value


def of_protocol(protocol: type[Any]) -> Entry:
    """The entry of a registry whose parts are classes with all members of ``protocol``."""

    def entry(name: str, thing: Any) -> type[Any]:
        if not isinstance(thing, type):
            raise TypeError(f"{name}: give a class, not {thing!r:.80}")
        missing = sorted(members(protocol) - {*dir(thing), *_annotated(thing)})
        if missing:
            text = f"{thing.__name__} lacks {', '.join(missing)} of {protocol.__name__}"
            raise TypeError(f"{name}: {text}; see {protocol.__module__}")
        _spell_out(thing)
        own = "__dataclass_params__" in vars(thing)  # not only a base class
        made: type[Any] = thing if own else dataclass(frozen=True)(thing)
        if not made.__dataclass_params__.frozen:
            raise TypeError(f"{name}: {made.__name__} must be a frozen dataclass")
        return made

    return entry


def members(protocol: type[Any]) -> set[str]:
    """The names that a protocol asks for."""
    asked: set[str] = set()
    for cls in protocol.__mro__[:-1]:
        asked |= (
            {*vars(cls), *getattr(cls, "__annotations__", {})} if cls is not Protocol else set()
        )
    return {name for name in asked if not name.startswith("_")}


def _annotated(cls: type[Any]) -> set[str]:
    """Names with an annotation in the class or in one of its bases."""
    return {name for one in cls.__mro__ for name in vars(one).get("__annotations__", {})}


def _spell_out(cls: type[Any]) -> None:
    """Replace names of types by the types, since a worker does not know the program's names."""
    for one in cls.__mro__:
        own = not one.__module__.startswith(("builtins", "typing", "metaward."))
        if own and "__annotations__" in vars(one):
            hints = get_type_hints(one, include_extras=True)
            one.__annotations__ = {name: hints[name] for name in one.__annotations__}


def spell_out_parameters(make: Callable[..., Any]) -> None:
    """The same for the parameters of a function, or for those by which a class is made."""
    function = getattr(make, "__init__") if isinstance(make, type) else make  # noqa: B009
    if isfunction(function):
        function.__annotations__ = get_annotations(function, eval_str=True)


def options_of(name: str, make: Callable[..., Any], given: int, what: str) -> list[Any]:
    """The parameters of a function behind the first ``given`` ones (``what``), as fields for
    ``make_dataclass``: yaml options. ``TypeError`` where one has no type."""
    spell_out_parameters(make)
    parameters = list(signature(make, eval_str=True).parameters.values())
    if len(parameters) < given:
        raise TypeError(f"{name}: the function needs parameters for {what}")
    options = parameters[given:]
    untyped = [p.name for p in options if p.annotation is p.empty]
    if untyped:
        raise TypeError(f"{name}: give {', '.join(untyped)} a type, such as width: int = 16")
    return [(p.name, p.annotation, _as_field(p)) for p in options]


def _as_field(parameter: Parameter) -> Field[Any]:
    none = parameter.default is parameter.empty
    made: Field[Any] = field() if none else field(default=parameter.default)
    return made
