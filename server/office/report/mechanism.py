"""The mechanism of a report: which noisy sums there were, how large, with how much noise.

Each charge in a ledger describes its sums. Where no ledger is here they are those of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from metaward.client.desk import LEARNER
from metaward.privacy.accounting import gdp
from metaward.privacy.description import ChargeDescription, SumDescription
from metaward.privacy.event import Budget, gaussian
from metaward.privacy.report.sections import MechanismSummary, NoisySum
from metaward.privacy.report.values import NoiseSource
from metaward.server.office.accounts.spending import Spending
from metaward.server.office.plan.rehearsal import rehearsed, spending
from metaward.server.office.report.dossier import Dossier
from metaward.server.office.report.touches import sampling

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


def mechanism(dossier: Dossier) -> MechanismSummary:
    """The mechanism of the run, as its charges describe it; without any, as it is configured."""
    run, rate = dossier.run, dossier.run.privacy.sampling_rate
    paid = [c.description for h in dossier.histories for c in dossier.own_charges(h)]
    sums = _by_kind(dossier, paid)
    times = (description.participations for description in paid)
    learner = LEARNER.plain(run.client.inner)[LEARNER.by]
    words = [run.privacy.treatment.method, f"Learner: {learner}."]
    return MechanismSummary(
        name=run.privacy.name,
        words=" ".join([*words, *_remarks(dossier, sums, bool(paid))]),
        sums=tuple(map(_worst, sums)),
        inner_steps=run.client.inner.inner_steps,
        participations=max(times, default=run.server.rounds),
        sampling_rate=rate,
        sampling=sampling(run),
        amplification=DRAWN if rate < 1 else None,
        noise_source=_noise_source(dossier),
        floating_point=POWER_OF_TWO if dossier.protected else None,
    )


Alike = Sequence[SumDescription]
"""Sums of one kind, in different rounds or hospitals."""


def _by_kind(dossier: Dossier, paid: Sequence[ChargeDescription]) -> list[Alike]:
    if dossier.protected is None:
        return []
    run, kinds = dossier.run, dict[str, list[SumDescription]]()
    planned = () if paid else rehearsed(run, run.client.tasks_per_round, 1).sums
    for one in (*(one for a_round in paid for one in a_round.sums), *planned):
        kinds.setdefault(one.kind, []).append(one)
    return list(kinds.values())


def _worst(same: Alike) -> NoisySum:
    """The largest clip norm and number, the smallest noise and B of all."""
    return NoisySum(
        kind=same[0].kind,
        clip_norm=max(one.clip_norm for one in same if one.clip_norm),
        noise_multiplier=min(one.noise_multiplier for one in same),
        batch=min((one.batch for one in same if one.batch), default=None),
        count=max(one.count for one in same),
    )


def _noise_source(dossier: Dossier) -> NoiseSource | None:
    if dossier.protected is None:
        return None
    return "seeded" if dossier.simulated else "operating system"


def _remarks(dossier: Dossier, sums: Sequence[Alike], known: bool) -> Iterator[str]:
    batches = sorted({one.batch for one in sums[0] if one.batch}) if sums else []
    if len(batches) > 1:
        yield (
            f"B follows the number of tasks in a round, which is public: {batches[0]:g} to "
            f"{batches[-1]:g} in the first kind of sum; shown is the smallest."
        )
    if dossier.protected and not known:
        yield UNKNOWN


def bound(dossier: Dossier, hospital: str) -> Spending:
    """At most what a hospital has spent in this run, from what the server saw of it.

    Where the noise is made for the budget, all scheduled rounds together stay within it. A round
    that was done again (its marks tell) is a further one.
    """
    mechanism, run = dossier.protected, dossier.run
    assert mechanism is not None
    rounds, again = len(dossier.left_rounds(hospital)), dossier.repeated(hospital)
    if not rounds:
        return Spending()
    if mechanism.unit.every_round or mechanism.noise_multiplier is not None:
        tasks, times = run.client.tasks_per_round, run.server.rounds
        units = spending(run, tasks, times, rounds + again).units
    elif mechanism.sampling_rate == 1:
        mu = gdp.mu_of(mechanism.epsilon, mechanism.delta)
        units = frozenset([(gaussian(1 / mu, 1 + again),)])
    else:
        return Spending(cap=Budget(inf if again else mechanism.epsilon, dossier.delta))
    return Spending(units, estimated=True)
