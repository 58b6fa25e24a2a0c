"""The values of epsilon and delta that every accountant accepts."""

from __future__ import annotations


def check_delta(delta: float) -> None:
    """``ValueError`` unless 0 < delta < 1."""
    if not 0 < delta < 1:
        raise ValueError(f"delta = {delta} is not in (0, 1); choose one well below 1 / records")


def check_epsilon(epsilon: float) -> None:
    """``ValueError`` unless epsilon >= 0. Infinity is allowed: it means no cap."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon = {epsilon} is not 0 or above")
