"""The mechanism of a report: which noisy sums there were, how large, with how much noise.

Which sums a learner takes is found by rehearsing it on blank tasks, as the price of a request is;
how much noise they had is read from what was charged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, isclose

from metaward.privacy.accounting import gdp
from metaward.privacy.event import gaussian
from metaward.privacy.ledger import History
from metaward.privacy.report.sections import MechanismSummary, NoisySum
from metaward.privacy.report.values import NoiseSource
from metaward.server.office.accounts.spending import Spending, most_participations
from metaward.server.office.plan.rehearsal import Summed, rehearsed
from metaward.server.office.report.dossier import Dossier
from metaward.server.office.report.losses import Losses, capped, losses
from metaward.server.office.report.touches import how, sampling
from metaward.sim import Sim

POWER_OF_TWO = (
    "Clipped sum and noise are rounded to one power-of-two grid before they meet (Mironov 2012)."
)
DRAWN = (
    "Every unit is drawn afresh before each sum, independently and in secret, and the sum is "
    "divided by a public constant; so each draw counts at its own rate."
)


UNKNOWN = (
    "No ledger is here, so the sums are those that the configuration asks for, with the least "
    "noise that its budget allows; each hospital's own report has the real ones."
)


@dataclass(frozen=True)
class PaidRound:
    """One charge: its tasks, and the noise multipliers of its sums."""

    tasks: int
    multipliers: frozenset[float]


def mechanism(dossier: Dossier) -> MechanismSummary:
    """The mechanism of the run, as its charges were; without any, as the configuration has it."""
    run, histories = dossier.run, dossier.histories
    paid = list(dict.fromkeys(one for history in histories for one in charged(dossier, history)))
    sums, batches = _sums(dossier, paid)
    rate = run.privacy.sampling_rate
    return MechanismSummary(
        name=run.privacy.name,
        words=" ".join([how(run), *_remarks(dossier, batches, bool(paid))]),
        sums=sums,
        inner_steps=run.client.inner.inner_steps,
        participations=_participations(dossier, paid),
        sampling_rate=rate,
        sampling=sampling(run),
        amplification=DRAWN if rate < 1 else None,
        noise_source=_noise_source(dossier),
        floating_point=POWER_OF_TWO if dossier.protected else None,
    )


def charged(dossier: Dossier, history: History) -> Iterator[PaidRound]:
    """This run's charges in a ledger. Tasks are all of one size, and every record is in one."""
    kinds = [name.partition(":")[0] for charge in history.charges for name in charge.new]
    size = dossier.run.client.tasks.task_size().records
    for charge in dossier.own_charges(history):
        count = Counter(kinds[unit - 1] for unit in charge.units())
        records = count.get("record") or count.get("content", 0)  # a group's are known by content
        yield PaidRound(ceil(records / size), frozenset(charge.noise_multipliers()))


def _sums(
    dossier: Dossier, paid: Sequence[PaidRound]
) -> tuple[tuple[NoisySum, ...], tuple[float, ...]]:
    """The kinds of sums, each with its smallest noise; and the different values of B."""
    if dossier.protected is None:
        return (), ()
    kinds: dict[str, list[NoisySum]] = {}
    for one in paid or (None,):
        tasks = one.tasks if one else dossier.run.client.tasks_per_round
        a_round = rehearsed(dossier.run, tasks, 1)
        noise = _noise(a_round.noise, one.multipliers) if one else a_round.noise
        for each in a_round.sums:
            kinds.setdefault(each.kind, []).append(_sum(dossier.run, each, noise[each.kind]))
    first = next(iter(kinds.values()))
    return tuple(map(_least, kinds.values())), tuple(sorted({s.batch for s in first if s.batch}))


def _least(same: Sequence[NoisySum]) -> NoisySum:
    """The one with the smallest noise, and the smallest B of all."""
    batch = min((one.batch for one in same if one.batch), default=None)
    return replace(min(same, key=lambda one: one.noise_multiplier), batch=batch)


def _sum(run: Sim, each: Summed, sigma: float) -> NoisySum:
    at_server = run.privacy.unit.noise_at_server  # divided by how many hospitals answered
    batch = None if at_server else run.privacy.sampling_rate * each.vectors / each.sums
    return NoisySum(each.kind, each.clip, sigma, batch, each.each)


def _noise(planned: Mapping[str, float], charged: frozenset[float]) -> Mapping[str, float]:
    """Which of the charged noise multipliers each kind of sum had.

    They keep the proportions of the plan, whose participations are not the hospital's. Where they
    do not, every kind is given the smallest one.
    """
    scale = max(charged) / max(planned.values()) if max(planned.values()) else 0.0
    scaled = {kind: scale * sigma for kind, sigma in planned.items()}
    if all(any(isclose(m, s, rel_tol=1e-6) for s in scaled.values()) for m in charged):
        return {k: min(charged, key=lambda m: abs(m - s)) for k, s in scaled.items()}
    return dict.fromkeys(planned, min(charged))


def _participations(dossier: Dossier, paid: Sequence[PaidRound]) -> int:
    """The most rounds of the run that a unit may be in."""
    run, rounds = dossier.run, dossier.run.server.rounds
    if dossier.protected is None or run.privacy.unit.every_round or not paid:
        return rounds
    own = (dossier.own_charges(history) for history in dossier.histories)
    seen = max((most_participations(charges) for charges in own), default=0)
    if dossier.protected.noise_multiplier is not None or run.privacy.sampling_rate < 1:
        return seen if dossier.status == "finished" else rounds
    return max(seen, *(_planned(run, one) for one in paid))


def _planned(run: Sim, paid: PaidRound) -> int:
    """Noise grows with the root of the participations that it was made for."""
    alone = max(rehearsed(run, paid.tasks, 1).noise.values())
    return round((max(paid.multipliers) / alone) ** 2)


def _noise_source(dossier: Dossier) -> NoiseSource | None:
    if dossier.protected is None:
        return None
    return "seeded" if dossier.simulated else "operating system"


def _remarks(dossier: Dossier, batches: Sequence[float], known: bool) -> Iterator[str]:
    if len(batches) > 1:
        yield (
            f"B follows the number of tasks in a round, which is public: {batches[0]:g} to "
            f"{batches[-1]:g} in the first kind of sum; shown is the smallest."
        )
    if dossier.protected and not known:
        yield UNKNOWN


def bound(dossier: Dossier, hospital: str) -> Losses:
    """At most what a hospital has spent in this run, from what the server saw of it.

    Where the noise is made for the budget, all scheduled rounds together stay within it. A round
    that was done again (its marks tell) is a further one.
    """
    mechanism, run = dossier.protected, dossier.run
    assert mechanism is not None
    rounds, again = len(dossier.left_rounds(hospital)), dossier.repeated(hospital)
    if not rounds:
        return losses(Spending(frozenset()), dossier.delta)
    if mechanism.unit.every_round or mechanism.noise_multiplier is not None:
        a_round = rehearsed(run, run.client.tasks_per_round, run.server.rounds)
        spending = a_round.spending(rounds + again)
    elif mechanism.sampling_rate == 1:
        mu = gdp.mu_of(mechanism.epsilon, mechanism.delta)
        spending = Spending(frozenset([(gaussian(1 / mu, 1 + again),)]))
    else:
        return capped(inf if again else mechanism.epsilon, dossier.delta)
    return replace(losses(spending, dossier.delta), error="never below the truth")
