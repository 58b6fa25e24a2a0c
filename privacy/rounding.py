"""Rounding that never understates a risk: losses are rounded up, what is left is rounded down."""

from __future__ import annotations

import math

SLACK = 1e-6
"""A difference below this share of the last digit is taken for an error of floating point."""


def rounded_up(value: float, digits: int) -> float:
    """The next number of ``digits`` decimals that is not below ``value``."""
    return math.ceil(value * 10.0**digits - SLACK) / 10.0**digits


def rounded_down(value: float, digits: int) -> float:
    """The next number of ``digits`` decimals that is not above ``value``."""
    return math.floor(value * 10.0**digits + SLACK) / 10.0**digits


def percent_up(share: float) -> str:
    """A share in percent with one decimal, rounded up: 0.5533 is 55.4 %; one below 1 has as many
    as it takes not to read 100: 0.99966 is 99.97 %."""
    digits = next((d for d in range(1, 9) if rounded_up(100 * share, d) < 100), 1)
    return f"{rounded_up(100 * share, digits):.{digits}f} %"
