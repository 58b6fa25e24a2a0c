"""Checks of a hospital's answer before it is combined; a bad one is rejected and never fatal.

A NaN poisons a mean while the run reports success, a shape ``()`` broadcasts silently, and one
huge update outvotes everybody. So keys, type, shape, finiteness and norm are checked on the decoded
arrays, not on what the reply says about itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import numpy as np
from flwr.app import Message

from metaward.privacy import Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.wire import Request, WireError, decode_answer, decode_signature
from metaward.strategies.leg import UNREADABLE
from metaward.strategies.limits import norm_of
from metaward.strategies.proof import OPEN, SeatKeys

Answered = TypeVar("Answered", Release, Scores, Attendance)
Ranges = Mapping[str, tuple[float, float]]
"""The lowest and highest value of each score, by its name, in the order of the kind of task."""


@dataclass(frozen=True)
class Rejected:
    """An answer that does not count, and the fixed code that says why.

    ``proven``: the hospital has refused, and its signature stands under it.
    """

    hospital: str
    reason: str
    proven: bool = False


def read(
    reply: Message,
    kind: type[Answered],
    hospital: str,
    request: Request | None = None,
    keys: SeatKeys = OPEN,
) -> Answered | Rejected:
    """The typed answer in a reply, or the reason why there is none.

    With ``keys`` it must be signed by whom it is of, over the ``request`` that was sent; a refusal
    names its hospital only by its signature, and is then rejected under that name.
    """
    if reply.has_error():
        unread = reply.error.code == UNREADABLE
        return Rejected(hospital, "malformed-message" if unread else f"error-{reply.error.code}")
    try:
        answer: Answer = decode_answer(reply.content)
        signature = decode_signature(reply.content)
    except WireError as error:
        return Rejected(hospital, f"malformed-{error.fault}")
    if request is not None and (fault := keys.fault(answer, signature, request)):
        return Rejected(hospital, fault)
    if isinstance(answer, Refusal):
        proven = signature.hospital if keys and signature else None
        if proven and hospital in keys.keys and proven != hospital:
            return Rejected(hospital, "wrong-hospital")
        return Rejected(proven or hospital, answer.code, proven is not None)
    if not isinstance(answer, kind):
        return Rejected(hospital, "wrong-kind")
    return answer


def check_release(
    answer: Release, hospital: str, round: int, dim: int, max_norm: float = inf
) -> Release | Rejected:
    """Check that the update fits theta (dim,) and a norm cap, where there is one already."""
    update = answer.update
    if answer.hospital != hospital:
        return Rejected(hospital, "wrong-hospital")
    if answer.round != round:
        return Rejected(hospital, "wrong-round")
    if update.shape != (dim,):
        return Rejected(hospital, "wrong-shape")
    if not np.isfinite(update).all() or (answer.loss is not None and not np.isfinite(answer.loss)):
        return Rejected(hospital, "not-finite")
    if norm_of(update) > max_norm:
        return Rejected(hospital, "norm-above-cap")
    return answer


def check_scores(
    answer: Scores, hospital: str, round: int, episodes: int, ranges: Ranges
) -> Scores | Rejected:
    """Check that these are the requested scores, finite and in range, before and after."""
    if answer.hospital != hospital:
        return Rejected(hospital, "wrong-hospital")
    if answer.round != round:
        return Rejected(hospital, "wrong-round")
    if answer.names != tuple(ranges):
        return Rejected(hospital, "wrong-scores")
    lowest, highest = np.array(list(ranges.values())).T[:, :, None]
    for values in (answer.before, answer.after):
        if values.shape != (len(ranges), episodes):
            return Rejected(hospital, "wrong-shape")
        if not np.isfinite(values).all():
            return Rejected(hospital, "not-finite")
        if (values < lowest).any() or (values > highest).any():
            return Rejected(hospital, "out-of-range")
    return answer
