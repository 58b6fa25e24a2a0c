"""The mechanism for a unit of protection, as an object and as it is written in yaml."""

from __future__ import annotations

from typing import Any

from metaward.privacy import MECHANISMS, UNITS, Mechanism


def serving(unit: str) -> type[Mechanism]:
    """The first mechanism that can protect a unit."""
    return next(cls for cls in MECHANISMS.values() if cls.serves(UNITS[unit]))


def protecting(unit: str, **options: Any) -> Any:
    """A mechanism that protects the unit, with these options."""
    given = {"unit": UNITS[unit]} if UNITS[unit].protected else {}
    return serving(unit)(**given, **options)


def spelled(unit: str, options: str = "") -> str:
    """The setting that chooses it: ``privacy={mechanism: ..., unit: ..., options}``."""
    name = protecting(unit).name
    chosen = [f"mechanism: {name}", f"unit: {unit}" if UNITS[unit].protected else "", options]
    return f"privacy={{{', '.join(filter(None, chosen))}}}"


EVERY = [
    cls(unit=unit) if unit.protected else cls()  # type: ignore[call-arg]
    for cls in MECHANISMS.values()
    for unit in UNITS.values()
    if cls.serves(unit)
]
"""Every mechanism with every unit that it can protect."""
