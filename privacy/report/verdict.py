"""What follows from a report's inputs: verdict, each hospital's risk, the federation's figures.

The words of the verdict are in ``verdict.md``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy import accounting
from metaward.privacy.accounting import gdp
from metaward.privacy.report.inputs import BESIDE, ReportInputs
from metaward.privacy.report.sections import AtDelta, TrainingHospital
from metaward.privacy.report.templates import environment
from metaward.privacy.report.values import Amount, Count, Loss, Name, Positive, Share, Strict

Level = Literal["protected", "weak", "unchecked", "attention", "none"]
Sentence = Annotated[str, Field(min_length=1, description="In plain words.")]

WEAK = 10.0
"""Above this epsilon a promise says little (Ponomareva and others, 2023, How to DP-fy ML)."""


@dataclass(frozen=True)
class Verdict(Strict):
    """The report in words; it follows from the inputs."""

    level: Level
    """protected; weak: epsilon above 10; unchecked: no ledger that was charged was looked at, as at
    a server; attention: there are concerns; none: no privacy."""
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

    With ``mu`` it is exact; else it is the smallest that any of the ``epsilons`` allows, and 1
    where there is none.
    """
    if mu is not None:
        return gdp.advantage(mu)
    return min((accounting.advantage(at.epsilon, at.delta) for at in epsilons), default=1.0)


def risk(hospital: TrainingHospital) -> Risk:
    """One hospital's risk."""
    most = advantage(hospital.mu, hospital.epsilons)
    budget, spent = hospital.budget, hospital.spent
    return Risk(
        hospital=hospital.name,
        advantage=most,
        attack_accuracy=(1 + most) / 2,
        left=None if budget is None else max(0.0, budget - spent.epsilon),
        over_budget=budget is not None and spent.epsilon > budget * (1 + 1e-9),
        delta_times_units=None if hospital.units is None else spent.delta * hospital.units,
    )


def federation(hospitals: tuple[TrainingHospital, ...], risks: tuple[Risk, ...]) -> Federation:
    """The figures over all hospitals, of which ``risks`` has one each.

    Against a person with a unit at each hospital losses mu add up in squares (Gaussian differential
    privacy); else advantages add up at worst.
    """
    worst = max(hospitals, key=lambda hospital: hospital.spent.epsilon)
    units = [hospital.units for hospital in hospitals if hospital.units is not None]
    mus = [hospital.mu for hospital in hospitals if hospital.mu is not None]
    gaussian = len(mus) == len(hospitals)
    summed = min(1.0, sum(risk.advantage for risk in risks))
    return Federation(
        hospitals=len(hospitals),
        units=sum(units) if len(units) == len(hospitals) else None,
        maximum=worst.spent.epsilon,
        maximum_hospital=worst.name,
        total=sum(hospital.spent.epsilon for hospital in hospitals),
        total_delta=sum(hospital.spent.delta for hospital in hospitals),
        advantage_together=gdp.advantage(math.hypot(*mus)) if gaussian else summed,
    )


def judge(inputs: ReportInputs, risks: tuple[Risk, ...]) -> Verdict:
    """The verdict, from the inputs and the ``risks`` of their hospitals, which follow from them."""
    pairs = list(zip(inputs.hospitals, risks, strict=True))
    concerns = _said("concerns", inputs, pairs) if inputs.unit.protected else ()
    level = _level(inputs, concerns)
    accuracy = max(risk.attack_accuracy for risk in risks)
    return Verdict(
        level=level,
        headline=_said("headline", inputs, level, _weak(inputs))[0],
        sentence=_said("sentence", inputs, level, accuracy)[0],
        attack_accuracy=accuracy,
        concerns=concerns,
        notes=_said("notes", inputs, BESIDE, unseen(inputs)),
    )


def _level(inputs: ReportInputs, concerns: tuple[str, ...]) -> Level:
    if not inputs.unit.protected:
        return "none"
    if concerns:
        return "attention"
    if unseen(inputs):
        return "unchecked"
    return "weak" if _weak(inputs) else "protected"


def _weak(inputs: ReportInputs) -> bool:
    return max(hospital.spent.epsilon for hospital in inputs.hospitals) > WEAK


def unseen(inputs: ReportInputs) -> tuple[str, ...]:
    """Training hospitals that keep a ledger of which nothing was checked."""
    kept = [(hospital.name, hospital.ledger) for hospital in inputs.hospitals]
    return tuple(name for name, ledger in kept if ledger and ledger.chain == "not checked")


def _said(macro: str, *values: object) -> tuple[str, ...]:
    """The paragraphs that a macro of ``verdict.md`` says about the values, each on one line."""
    said = getattr(environment(escape=False).get_template("verdict.md").module, macro)(*values)
    paragraphs = re.split(r"\n{2,}", said.strip("\n"))
    return tuple(text.replace("\n", " ") for text in paragraphs if text)
