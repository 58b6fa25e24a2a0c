"""What happens to a record before the network sees it, as a source of tasks says of itself.

A number that is computed from many records (a mean, a deviation) would be one more release, and the
privacy report says of every such step whether the promise covers it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Covered = Literal["yes", "no", "not used"]


class Step(NamedTuple):
    """One step: whether the run's promise covers it (or it uses no record at all), and why."""

    covered: Covered
    words: str


class Preparation(NamedTuple):
    """How a source scales its records, and what was done to them before it opened them."""

    scaling: Step
    beforehand: Step


GREY_VALUES = Step(
    "not used", "Grey values 0 to 255 become -1 to 1 by constants, not by statistics."
)
MADE_UP = Step(
    "not used", "Records are made by this program, from a seed; there is nothing to prepare."
)

_UNSAID = Step("no", "The source does not say here what it does; ask whoever wrote it.")
UNSAID = Preparation(_UNSAID, _UNSAID)
"""Of a source that says nothing: not covered until somebody says what is so."""
