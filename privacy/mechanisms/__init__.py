"""How records are protected: one mechanism a file, and one entry for it here."""

from __future__ import annotations

from metaward.privacy.mechanisms.base import Mechanism
from metaward.privacy.mechanisms.none import NoPrivacy
from metaward.privacy.mechanisms.sums import Sums
from metaward.privacy.mechanisms.whole import Whole
from metaward.privacy.units import UNITS

MECHANISMS: dict[str, type[Mechanism]] = {cls.name: cls for cls in (NoPrivacy, Sums, Whole)}


def choices() -> str:
    """The protecting mechanisms, each with its units, as an error lists them."""
    return "; ".join(
        f"{name} for unit {' or '.join(units)}"
        for name, cls in MECHANISMS.items()
        if (units := [u.name for u in UNITS.values() if u.protected and cls.serves(u)])
    )


def serving(unit: str) -> str:
    """What to write where a unit's name was taken for a mechanism's; "" for any other word."""
    able = (name for name, cls in MECHANISMS.items() if unit in UNITS and cls.serves(UNITS[unit]))
    found = next(able, None)
    return f"; {unit} is a unit: write mechanism: {found} and unit: {unit}" if found else ""


__all__ = ["MECHANISMS", "Mechanism", "NoPrivacy", "Sums", "Whole", "choices", "serving"]
