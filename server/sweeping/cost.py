"""What a sweep would cost in privacy if its hospitals were real ones.

Every trial trains on the hospitals' records anew, and each of them is a release, also those of the
combinations that are not chosen. A record that takes part in all of them pays for all of them: its
events are joined and priced together (Gaussian sums: the squares of mu add up; Dong, Roth, Su 2019,
"Gaussian Differential Privacy").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from metaward.privacy.accounting import reported_epsilon
from metaward.privacy.event import Events, counted
from metaward.server.folder import Folder
from metaward.server.office.accounts.spending import DELTA, Spending
from metaward.server.office.report.gather import from_folder
from metaward.server.sweeping.trials import SweepTrial

CHOOSING = (
    "Declared, and covered by no epsilon: the scores by which a combination is chosen come from "
    "the records of hospitals for validation, without noise."
)


@dataclass(frozen=True)
class SweepCost:
    """Epsilon at ``delta`` of the unit that paid most, in the trial that paid most (``one``) and in
    all ``trials`` that began (``together``); infinite where a trial had no privacy.

    ``together`` takes it that the same unit paid most in every trial of its hospital; so it is
    never below the truth.
    """

    units: tuple[str, ...]
    delta: float
    trials: int
    one: float
    together: float

    @property
    def text(self) -> str:
        """The cost in plain words."""
        if self.together == inf:
            return "NO PRIVACY: trials were trained on the hospitals' records without protection."
        unit = " or ".join(self.units)
        return (
            f"Privacy: one trial has spent at most epsilon {self.one:.4g} on any one {unit} at "
            f"delta {self.delta:g}. If these were real hospitals, with the same records in every "
            f"trial, all {self.trials} trials together would have spent at most epsilon "
            f"{self.together:.4g}: trials that are not chosen count as well."
        )

    def plain(self) -> dict[str, Any]:
        """The cost as plain data, with both sentences for people."""
        return {**asdict(self), "words": self.text, "choosing": CHOOSING}


def cost_of(folders: Sequence[tuple[SweepTrial, Folder]]) -> SweepCost:
    """The cost of all trials that began; those of one hospital are joined by its name."""
    began = [(t, f) for t, f in folders if f.exists() and f.status()[0] != "absent"]
    budgets = [t.run.privacy.budget for t, _ in folders]
    delta = min((b.delta for b in budgets if b), default=DELTA)
    units = tuple(dict.fromkeys(t.run.privacy.unit.name for t, _ in folders))
    paid = [_paid(trial, folder, delta) for trial, folder in began]
    if None in paid:
        return SweepCost(units, delta, len(began), inf, inf)
    known = [one for one in paid if one is not None]
    names = dict.fromkeys(name for one in known for name in one)
    joined = [[one[name] for one in known if name in one] for name in names]
    return SweepCost(
        units,
        delta,
        len(began),
        _most((events for one in known for events in one.values()), delta),
        _most((_together(several) for several in joined), delta),
    )


def _paid(trial: SweepTrial, folder: Folder, delta: float) -> dict[str, Events] | None:
    """What the unit that paid most has paid at each hospital; None for a trial without privacy, or
    with a ledger that cannot be read."""
    if not trial.run.privacy.unit.protected:
        return None
    paid = {}
    for name, opened in from_folder(folder).ledgers.items():
        if opened.history is None:
            return None
        paid[name] = Spending.of(opened.history).worst(delta)
    return paid


def _together(several: Iterable[Events]) -> Events:
    return counted(event for events in several for event in events)


def _most(spent: Iterable[Events], delta: float) -> float:
    different = dict.fromkeys(counted(events) for events in spent)  # equal ones are priced once
    return max((reported_epsilon(events, delta).epsilon for events in different), default=0.0)
