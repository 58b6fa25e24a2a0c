"""The price of a request, known before a record is touched, and whom it is charged to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.inner import Algorithm, Setting
from metaward.client.schedule import Share
from metaward.client.tasks.base import Hospital
from metaward.privacy import Charge, Events, Mechanism, Rehearsal, Use
from metaward.privacy.description import ChargeDescription, described
from metaward.privacy.price import Counts, counts, events, profiles


@dataclass(frozen=True)
class Plan:
    """Every sum a request will take over records, what a unit may be in, and what is charged."""

    uses: Sequence[Use]
    profiles: Sequence[Counts]
    description: ChargeDescription

    @property
    def noise(self) -> Mapping[str, float]:
        """The noise multiplier of each kind of sum."""
        return self.description.noise


def plan(
    mechanism: Mechanism,
    algorithm: Algorithm,
    setting: Setting,
    theta: Tensor,
    share: Share,
    rng: np.random.Generator,
) -> Plan:
    """The sums that ``algorithm`` will take, found by a rehearsal, and their noise multipliers."""

    def rehearse() -> list[Use]:
        session = Rehearsal(mechanism.trained)
        algorithm.update(setting, theta, share.episodes, session, rng)
        return session.uses

    tasks = [np.concatenate([e.support_rows, e.query_rows]).tolist() for e in share.episodes]
    uses, times = mechanism.uses(rehearse, tasks), share.participations
    noise = mechanism.noise_multipliers(uses, tasks, times)
    within = profiles(mechanism.unit, uses, tasks)
    return Plan(uses, within, described(mechanism, uses, within, noise, len(tasks), times))


def charges(mechanism: Mechanism, price: Plan, hospital: Hospital) -> list[Charge]:
    """What each identity pays; identities are each record's owner, and each record's content.

    A record is known by both, so that neither a new name nor a corrected value gives it a new
    budget. Where several records share a content, it pays what the costliest of them pays.
    """
    unit = mechanism.unit
    keys = [f"{unit.key}:{owner}" for owner in unit.owners(hospital)]
    spent = dict(counts(price.uses, keys.__getitem__))
    if unit.every_round:  # the hospital pays every round, whichever of its records it used
        spent[f"{unit.name}:{hospital.seat.name}"] = Counter(use.kind for use in price.uses)
    rows = sorted({row for use in price.uses for row in use.rows})
    for row, content in zip(rows, contents(hospital, rows), strict=True):
        mine, before = spent[keys[row]], spent.get(content)
        spent[content] = mine if before is None else before | mine  # the larger count of each kind
    return _grouped(spent, price, mechanism.sampling_rate)


def contents(hospital: Hospital, rows: Sequence[int]) -> list[str]:
    """``content:<sha256>`` of each row as it is stored: no request chooses what is hashed."""
    found = (hashlib.sha256(_bytes(hospital.as_stored(row))).hexdigest() for row in rows)
    return [f"content:{digest}" for digest in found]


def _bytes(x: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def _grouped(spent: Mapping[str, Counter[str]], price: Plan, sampling_rate: float) -> list[Charge]:
    """One charge for each different list of events."""
    groups: dict[Events, list[str]] = {}
    for key, count in spent.items():
        groups.setdefault(events(count, price.noise, sampling_rate), []).append(key)
    return [Charge(tuple(keys), cost) for cost, keys in groups.items()]
