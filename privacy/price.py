"""What a list of uses costs each unit, and the smallest noise that keeps a budget.

Everything here is a pure function of who is in which noisy sum; no record's value is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from metaward.privacy.accounting import allows
from metaward.privacy.accounting.gdp import mu_of
from metaward.privacy.event import Budget, Events, different, gaussian
from metaward.privacy.session import Use
from metaward.privacy.units import Unit

Who = TypeVar("Who", bound=Hashable)
Counts = Counter[str]
"""How many sums of each kind a unit is in."""

Weights = Callable[[str], float]
"""The weight of a kind of sum: its share of the budget, relative to those of other kinds."""

NARROWEST, WIDEST, PRECISION = 0.01, 1e4, 1e-4


def over_run(
    first: Sequence[Counts], later: Sequence[Counts], participations: int
) -> tuple[Counts, ...]:
    """What a unit may be in within a run, from what it may be in within a participation.

    ``first`` are the profiles of the first round, ``later`` those of each later one. A unit may
    take part in the first round, or in later ones alone. Where all rounds have the same profiles, a
    unit that changes from one to another spends no more than one that does not: each costs the same
    share of the budget.
    """
    found = [_times(b, participations) for b in later]
    if first != later:
        found += [a + _times(b, participations - 1) for a in first for b in later]
    return tuple({tuple(sorted(one.items())): one for one in found}.values())


def _times(profile: Counts, number: int) -> Counts:
    return Counter({kind: n * number for kind, n in profile.items() if number})


def counts(uses: Iterable[Use], unit: Callable[[int], Who]) -> dict[Who, Counts]:
    """Sums of each kind that each unit is in; records of one unit in one sum count once.

    Units that are in equally many sums mostly share one counter: it is not to be changed.
    """
    reached: list[Counts] = [Counter()]
    after: dict[tuple[int, str], int] = {}
    at: dict[Who, int] = {}
    for kind, rows in uses:
        for who in set(map(unit, rows)):
            step = at.get(who, 0), kind
            if step not in after:
                after[step] = len(reached)
                reached.append(reached[step[0]] + Counter({kind: 1}))
            at[who] = after[step]
    return {who: reached[number] for who, number in at.items()}


def events(count: Counts, noise: Mapping[str, float], sampling_rate: float) -> Events:
    """A unit's sums as events, with the noise multiplier of each kind."""
    return tuple(gaussian(noise[k], n, sampling_rate) for k, n in sorted(count.items()))


def profiles(unit: Unit, uses: Iterable[Use], tasks: Sequence[Sequence[int]]) -> tuple[Counts, ...]:
    """The sums a unit may be in within one participation: those that its records are in.

    A unit of several records may have one in every sum over its task. ``tasks`` are the rows of
    the round's tasks; each different profile comes once.
    """
    task = {row: number for number, rows in enumerate(tasks) for row in rows}
    found = counts(uses, task.__getitem__ if unit.cap is not None else lambda row: row)
    unique = {tuple(sorted(profile.items())): profile for profile in different(found.values())}
    return tuple(unique.values())


def calibrate(
    profiles: Iterable[Counts], budget: Budget, sampling_rate: float, weight: Weights
) -> dict[str, float]:
    """The noise multiplier of each kind, such that no profile spends more than the budget.

    ``profiles`` are what a unit may be in within the whole run. A profile's budget is divided
    between its kinds by their weights, and a kind's evenly between its sums; where a kind is in
    several profiles the largest noise counts.
    """
    noise: dict[str, float] = {}
    for profile in profiles:
        shape = _shape(profile, weight)
        scale = _scale(profile, shape, budget, sampling_rate)
        for kind, sigma in shape.items():
            noise[kind] = max(noise.get(kind, 0.0), scale * sigma)
    return noise


def _shape(profile: Counts, weight: Weights) -> dict[str, float]:
    """Noise multipliers by which mu^2 is 1 in all, and each kind has its share of it."""
    whole = sum(map(weight, profile))
    return {kind: (n * whole / weight(kind)) ** 0.5 for kind, n in profile.items()}


def _scale(
    profile: Counts, shape: Mapping[str, float], budget: Budget, sampling_rate: float
) -> float:
    if sampling_rate == 1:
        # mu^2 = 1 / scale^2; a little above, so that rounding never ends above budget
        return 1 / mu_of(budget.epsilon, budget.delta) * (1 + 1e-9)

    def fits(scale: float) -> bool:
        """Would the ledger's filter let all of it through? It is stricter than hindsight."""
        noise = {kind: scale * sigma for kind, sigma in shape.items()}
        return allows((), events(profile, noise, sampling_rate), budget)

    low, high = NARROWEST, WIDEST
    while high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
