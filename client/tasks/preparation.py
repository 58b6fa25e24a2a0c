"""What happens to a record before the network sees it, as its source of tasks declares it.

A number that is computed from many records (a mean, a deviation) would be one more release. The
privacy report therefore says of every such step whether the guarantee covers it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Covered = Literal["yes", "no", "not used"]


class Step(NamedTuple):
    """One step: whether the run's guarantee covers it (or it uses no record), and why."""

    covered: Covered
    words: str


NOT_SAID = "The source does not say whose records they are."


class Preparation(NamedTuple):
    """How a source scales its records, what was done to them before it opened them, and in a
    sentence whose records they are and under which licence."""

    scaling: Step
    beforehand: Step
    origin: str = NOT_SAID


GREY_VALUES = Step(
    "not used", "Grey values 0 to 255 become -1 to 1 by constants, not by statistics."
)
MADE_UP = Step(
    "not used", "Records are made by this program, from a seed; there is nothing to prepare."
)

NOBODYS = "Made up by this program; they belong to nobody."
"""Whose records those are."""

_UNSAID = Step("no", "The source does not say here what it does; ask its author.")
UNSAID = Preparation(_UNSAID, _UNSAID)
"""The default of a source that declares nothing: not covered."""
