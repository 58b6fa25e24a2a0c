"""What a round of training did, for metrics and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from metaward.privacy import Release, Scores
from metaward.strategies.checks import Rejected, read
from metaward.strategies.leg import Leg
from metaward.strategies.limits import norm_of
from metaward.strategies.proof import SeatKeys


@dataclass(frozen=True)
class RoundReport:
    """The outcome of a round.

    ``accepted`` are the hospitals whose reply counts; ``rejected`` maps any other one to why its
    reply does not. ``update_norm`` is the Euclidean norm of the combined update, ``norms`` that of
    each accepted hospital's update as it arrived. ``loss`` is the mean of the losses in their
    range; the hospitals in ``loss_left_out`` sent one that is not, and their update counts.
    """

    round: int
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    loss: float | None
    update_norm: float
    norms: Mapping[str, float]
    loss_left_out: tuple[str, ...] = ()


def outcome(
    number: int,
    accepted: Sequence[Release],
    rejected: Mapping[str, str],
    combined: NDArray[np.float32],
    loss_range: tuple[float, float],
) -> RoundReport:
    """The report of round ``number``, whose accepted updates were ``combined`` into one (dim,).

    A loss outside ``loss_range`` is left out of the mean. It changes nothing but what is shown, so
    that its hospital's update, which was judged by itself, still counts.
    """
    lowest, highest = loss_range
    sent = {a.hospital: a.loss for a in accepted if a.loss is not None}
    losses = {h: loss for h, loss in sent.items() if lowest <= loss <= highest}
    return RoundReport(
        round=number,
        accepted=tuple(a.hospital for a in accepted),
        rejected=dict(rejected),
        loss=float(np.mean(list(losses.values()))) if losses else None,
        update_norm=norm_of(combined),
        norms={a.hospital: norm_of(a.update) for a in accepted},
        loss_left_out=tuple(h for h in sent if h not in losses),
    )


Answered = TypeVar("Answered", Release, Scores)


def answers_of(
    leg: Leg,
    replies: Iterable[Message],
    kind: type[Answered],
    keys: SeatKeys,
    check: Callable[[Answered, str], Answered | Rejected],
) -> dict[str, Answered | Rejected]:
    """Each hospital's first valid answer of this kind, or why it has none.

    ``check`` judges an answer that came for a hospital. Replies name the request that they answer
    by themselves, so another's could come as this one's: a valid answer stays, whatever comes after
    it.
    """
    answers: dict[str, Answered | Rejected] = {}
    for hospital, reply in leg.by_hospital(replies):
        if isinstance(answers.get(hospital), Rejected | None):
            got = read(reply, kind, hospital, leg.request, keys)
            answers[hospital] = got if isinstance(got, Rejected) else check(got, hospital)
    keys.kept()
    return answers


def sorted_out(
    answers: Mapping[str, Answered | Rejected], asked: Sequence[str]
) -> tuple[list[Answered], dict[str, str]]:
    """Valid answers in the order of the hospitals' names, and the reasons of all others."""
    valid, rejected = [], {}
    for hospital in sorted(asked):
        answer = answers.get(hospital, Rejected(hospital, "no-reply"))
        if isinstance(answer, Rejected):
            rejected[hospital] = answer.reason
        else:
            valid.append(answer)
    return valid, rejected
