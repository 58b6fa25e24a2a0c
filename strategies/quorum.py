"""How many valid replies a round needs, and the error of a round that has fewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil

from metaward.errors import RunError
from metaward.strategies.combine import Combine


class QuorumError(RunError):
    """Too few hospitals gave a valid answer; the text says who failed and why."""


def needed(quorum: float, asked: int) -> int:
    """How many of ``asked`` hospitals are the share ``quorum``: rounded up, and at least one."""
    return max(ceil(quorum * asked - 1e-9), 1)  # 0.55 * 20 is 11.000000000000002


def shortage(
    number: int, valid: int, rejected: Mapping[str, str], quorum: float, combine: Combine
) -> str | None:
    """Why round ``number`` with so many ``valid`` updates must not be combined; None where it can.

    It has fewer than the quorum, or fewer than the rule has a meaning for.
    """
    asked = valid + len(rejected)
    least, unsuited = needed(quorum, asked), combine.unsuited(valid)
    if valid >= least and unsuited is None:
        return None
    wanted = f"{least} are needed (strategies.quorum = {quorum:g})"
    if unsuited is not None and valid >= least:
        wanted = f"strategies.combine {unsuited}"
    return (
        f"round {number}: {valid} of {asked} hospitals gave a valid update, {wanted}; "
        f"without one: {reasons(rejected)}{_hint(rejected)}"
    )


NAMED = 20
"""An error names so many hospitals, and counts the others by their reasons."""


def reasons(rejected: Mapping[str, str]) -> str:
    """Who gave no valid answer and why, for an error that stays readable with 10,000 hospitals."""
    known = list(rejected.items())
    named = [f"{hospital} ({why})" for hospital, why in known[:NAMED]]
    others = Counter(why for _, why in known[NAMED:])
    return ", ".join([*named, *(f"{n} more ({why})" for why, n in others.most_common())])


def _hint(rejected: Mapping[str, str]) -> str:
    if set(rejected.values()) <= {"not-finite", "norm-above-cap"}:
        return (
            "; updates grow too long where the inner rate or an outer one is too high (lower it), "
            "and where noise is large (raise strategies.max_norm, or privacy.epsilon)"
        )
    return ""
