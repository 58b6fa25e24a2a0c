"""The values of epsilon, mu and delta that every accountant accepts."""

from __future__ import annotations


def check_delta(delta: float) -> None:
    """``ValueError`` unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise ValueError(f"delta = {delta} is not in (0, 1); choose one well below 1 / records")


def check_loss(name: str, value: float) -> None:
    """``ValueError`` unless an epsilon or mu is >= 0. Infinity is allowed: it means no cap."""
    if not value >= 0:
        raise ValueError(f"{name} = {value} is not 0 or above")
