"""Numbers and times as the page and the verdict print them; never on the flattering side."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal

from metaward.json_text import UNLIMITED
from metaward.privacy.rounding import rounded_down, rounded_up

NOTHING = "\u2013"


def show_loss(value: float | None) -> str:
    """An epsilon or mu with two decimals (three below 0.1), rounded up."""
    if value is None:
        return NOTHING
    if math.isinf(value):
        return UNLIMITED
    return f"{rounded_up(value, 3):.3f}" if value < 0.1 else f"{rounded_up(value, 2):.2f}"


def show_left(value: float | None) -> str:
    """What is left of a budget, two decimals, rounded down."""
    return NOTHING if value is None else f"{rounded_down(value, 2):.2f}"


def show_budget(value: float | None) -> str:
    """A budget as it was set; ``none`` where there is none."""
    return "none" if value is None else f"{value:g}"


def show_count(value: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NOTHING if value is None else f"{value:,}".replace(",", "\u2009")


def show_small(value: float) -> str:
    """A small number such as a delta, written out: 1e-5 is 0.00001; below 1e-9 with an e."""
    if value and value < 1e-9:
        return f"{value:.2g}"
    return f"{Decimal(f'{value:.2g}'):f}"


def show_time(value: str) -> str:
    """A UTC time to the minute: 2 March 2026, 08:15 UTC."""
    at = datetime.fromisoformat(value)
    return f"{at.day} {at:%B %Y}, {at:%H:%M} UTC"
