"""What follows from a report's inputs: verdict, each hospital's risk, the federation's figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy import accounting
from metaward.privacy.report.hospitals import AtDelta, TrainingHospital
from metaward.privacy.report.inputs import BESIDE, ReportInputs
from metaward.privacy.report.numbers import show_budget, show_loss, show_small
from metaward.privacy.report.values import Amount, Count, Loss, Name, Positive, Share, Strict
from metaward.privacy.rounding import percent_up

Level = Literal["protected", "weak", "attention", "none"]
Sentence = Annotated[str, Field(min_length=1, description="In plain words.")]

WEAK = 10.0
"""Above this epsilon a promise says little (Ponomareva and others, 2023, How to DP-fy ML)."""

HEADLINES = {"none": "NO PRIVACY", "attention": "Not ready to be signed"}
TOLERANCE = 0.01
"""How far a second accountant may exceed the first, as a share."""


@dataclass(frozen=True)
class Verdict(Strict):
    """The report in words; it follows from the inputs."""

    level: Level
    """protected; weak: epsilon above 10; attention: there are concerns; none: no privacy."""
    headline: Sentence
    sentence: Sentence
    attack_accuracy: Share
    """The worst hospital: share of right guesses, at best, on whether a unit took part; 0.5 is a
    coin."""
    concerns: tuple[Sentence, ...]
    """What speaks against a signature."""
    notes: tuple[Sentence, ...]
    """What has to be known."""


@dataclass(frozen=True)
class Risk(Strict):
    """One hospital's spend as odds; it follows from the inputs."""

    hospital: Name
    advantage: Share
    """The most by which the rate of true alarms can exceed that of false alarms."""
    attack_accuracy: Share
    """(1 + advantage) / 2: the share of right guesses on membership."""
    left: Loss | None
    """How far epsilon may still rise, at the agreed delta; null: there is no budget."""
    over_budget: bool
    """Whether more was spent than the budget."""
    delta_times_units: Loss | None
    """delta times units; should be far below 1. null: the units are not known."""


@dataclass(frozen=True)
class Federation(Strict):
    """Figures over all training hospitals; they follow from the inputs."""

    hospitals: Positive
    units: Count | None
    """Units at all of them; null: not known at some."""
    maximum: Loss
    """The largest epsilon spent, at the agreed delta."""
    maximum_hospital: Name
    total: Loss
    """Sum of the epsilons: a bound for a person with a unit at every hospital, at total_delta
    (basic composition)."""
    total_delta: Amount
    """Sum of the deltas."""
    advantage_together: Share
    """Membership advantage against such a person."""


def advantage(mu: float | None, epsilons: tuple[AtDelta, ...]) -> float:
    """The most by which true may exceed false positive rate when guessing membership.

    With ``mu``: 2 Phi(mu / 2) - 1, exact (Dong, Roth, Su 2019, Gaussian differential privacy).
    Else the smallest that any of the ``epsilons`` allows; 1 where there is none.
    """
    if mu is not None:
        return math.erf(mu / 2 / math.sqrt(2))
    return min((accounting.advantage(at.epsilon, at.delta) for at in epsilons), default=1.0)


def risk(hospital: TrainingHospital) -> Risk:
    """One hospital's risk."""
    gained = advantage(hospital.mu, hospital.epsilons)
    budget, spent = hospital.budget, hospital.spent
    return Risk(
        hospital=hospital.name,
        advantage=gained,
        attack_accuracy=(1 + gained) / 2,
        left=None if budget is None else max(0.0, budget - spent.epsilon),
        over_budget=budget is not None and spent.epsilon > budget * (1 + 1e-9),
        delta_times_units=None if hospital.units is None else spent.delta * hospital.units,
    )


def federation(inputs: ReportInputs) -> Federation:
    """The figures over all hospitals."""
    worst = max(inputs.hospitals, key=lambda hospital: hospital.spent.epsilon)
    units = [hospital.units for hospital in inputs.hospitals if hospital.units is not None]
    return Federation(
        hospitals=len(inputs.hospitals),
        units=sum(units) if len(units) == len(inputs.hospitals) else None,
        maximum=worst.spent.epsilon,
        maximum_hospital=worst.name,
        total=sum(hospital.spent.epsilon for hospital in inputs.hospitals),
        total_delta=sum(hospital.spent.delta for hospital in inputs.hospitals),
        advantage_together=_together(inputs.hospitals),
    )


def _together(hospitals: tuple[TrainingHospital, ...]) -> float:
    """Someone with a unit in each: GDP composes in squares; total variation adds up at worst."""
    mus = [hospital.mu for hospital in hospitals if hospital.mu is not None]
    if len(mus) == len(hospitals):
        return advantage(math.hypot(*mus), ())
    return min(1.0, sum(advantage(h.mu, h.epsilons) for h in hospitals))


def judge(inputs: ReportInputs) -> Verdict:
    """The verdict, from the inputs alone."""
    concerns = tuple(_concerns(inputs))
    accuracy = max(risk(hospital).attack_accuracy for hospital in inputs.hospitals)
    level = _level(inputs, concerns)
    return Verdict(
        level=level,
        headline=_headline(inputs, level),
        sentence=_sentence(inputs, level, accuracy),
        attack_accuracy=accuracy,
        concerns=concerns,
        notes=tuple(_notes(inputs)),
    )


def _level(inputs: ReportInputs, concerns: tuple[str, ...]) -> Level:
    if not inputs.unit.protected:
        return "none"
    if concerns:
        return "attention"
    return "weak" if federation(inputs).maximum > WEAK else "protected"


def _headline(inputs: ReportInputs, level: Level) -> str:
    if level in HEADLINES:
        return HEADLINES[level]
    how = "protected" if level == "protected" else "protected only weakly"
    simulated = inputs.run.setting == "simulation"
    return f"A deployment would be {how}" if simulated else how.capitalize()


def _sentence(inputs: ReportInputs, level: Level, accuracy: float) -> str:
    unit, n = inputs.unit, len(inputs.hospitals)
    hospitals = f"the {n} training hospitals" if n > 1 else "the training hospital"
    if not unit.protected:
        return (
            f"The updates of {hospitals} left without any noise. Whoever saw them may be able to "
            "tell who took part, and more. Use this setting with public or synthetic data only."
        )
    is_protected = "would be protected" if inputs.run.setting == "simulation" else "is protected"
    promise = (
        f"every {unit.part} of {hospitals} {is_protected}: nobody who sees everything that left "
        f"can tell whether a given {unit.subject} took part better than {percent_up(accuracy)} of "
        "the time (50 % is a coin)."
    )
    if level == "attention":
        return (
            f"Do not rely on this until the points below are settled. By numbers alone, {promise}"
        )
    return promise[0].upper() + promise[1:]


def _notes(inputs: ReportInputs) -> Iterator[str]:
    if inputs.run.setting == "simulation" and inputs.unit.protected:
        yield (
            "This was a simulation on one machine. Its noise was drawn from a seed, so that the "
            "run can be repeated; whoever knows the seed can take the noise away. The numbers are "
            "what a real deployment with the same settings would claim."
        )
    if inputs.unit.protected and any(gap.name == BESIDE for gap in inputs.not_covered):
        yield (
            "Other learners were trained on the same records, to compare. They are in none of the "
            "numbers above; what left under them is named under what is not covered."
        )
    if inputs.unit.noise_at_server:
        yield "The server adds the noise. It sees every update as it is and has to be trusted."
    if inputs.run.status != "finished":
        done, planned = inputs.run.rounds, inputs.run.rounds_planned
        ended = {"failed": "The run failed", "stopped": "The run was stopped"}
        how = ended.get(inputs.run.status, "The run goes on")
        yield f"{how}: {done} of {planned} rounds are done."


def _concerns(inputs: ReportInputs) -> Iterator[str]:
    if not inputs.unit.protected:
        return
    for hospital in inputs.hospitals:
        yield from (f"{hospital.name}: {what}" for what in _of_hospital(inputs, hospital))
    yield from _of_run(inputs)


def _of_hospital(inputs: ReportInputs, hospital: TrainingHospital) -> Iterator[str]:
    odds, spent, ledger = risk(hospital), hospital.spent.epsilon, hospital.ledger
    if math.isinf(spent):
        yield "its records left without a finite promise; epsilon is unlimited."
    elif hospital.budget is not None and odds.over_budget:
        yield f"epsilon {show_loss(spent)} is above its budget of {show_budget(hospital.budget)}."
    if odds.delta_times_units is not None and odds.delta_times_units >= 1:
        yield (
            f"delta {show_small(hospital.spent.delta)} is too large for {hospital.units} units; it "
            "has to be far below one over their number."
        )
    if ledger is None:
        if inputs.run.setting == "deployment" and hospital.participations:
            yield "it keeps no ledger, so nothing stops a later run from spending again."
        return
    if ledger.chain == "broken":
        yield f"the chain of its ledger is broken: {ledger.faults[0]}"
    if ledger.high_water == "went back":
        yield "its ledger went back behind an entry that the server has a mark of."


def _of_run(inputs: ReportInputs) -> Iterator[str]:
    audit, check = inputs.evidence.audit, inputs.accounting.cross_check
    if inputs.run.setting == "deployment" and inputs.mechanism.noise_source == "seeded":
        yield "The noise was drawn from a seed: whoever knows the seed can take it away."
    if inputs.accounting.error == "either side":
        yield "The account is an estimate and may lie below the truth."
    if check and check.relative_difference > TOLERANCE:
        yield f"A second accountant finds more: {show_loss(check.epsilon)} at {check.hospital}."
    if audit and audit.mu_lower > audit.mu_claimed:
        yield (
            f"The audit proved a loss (mu {audit.mu_lower:.3f}) above the claimed one "
            f"({audit.mu_claimed:.3f}): the mechanism is faulty."
        )
    if audit:
        yield from (f"The audit found a fault: {fault}" for fault in audit.faults)
