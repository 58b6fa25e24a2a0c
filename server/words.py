"""Numbers of things in words for people."""

from __future__ import annotations


def several(count: int, noun: str) -> str:
    """``1 shot``, ``5 shots``; the noun is one that takes an s."""
    return f"{count} {noun}{'s' * (count != 1)}"


def size_words(shots: int, steps: int) -> str:
    """The size of a task and of the adaptation to it."""
    return f"{several(shots, 'shot')}, {several(steps, 'step')}"
