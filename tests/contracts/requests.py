"""One round's request at a made-up hospital, for every mechanism and every learner under it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.charging import Plan, plan
from metaward.client.inner import ALGORITHMS, Algorithm, Setting
from metaward.client.models import Mlp
from metaward.client.schedule import Share
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import Batch, Mechanism, Opening, Rehearsal, Session, Use
from metaward.privacy.noise import SeededNoise
from metaward.privacy.price import profiles
from metaward.privacy.session import use
from tests.client.models.flat import Flat
from tests.mechanisms import EVERY

WAYS, SUPPORT, QUERY, TASKS, ROUNDS = 3, 2, 4, 2, 7
ROWS = WAYS * (SUPPORT + QUERY)
SPEC = TaskSpec(CLASSIFICATION, (6,), WAYS, 7, False)
PATIENTS = np.arange(TASKS * ROWS) // 3
"""Three records each, all in one task: as the schedule deals them."""
THETA_SEED = 4


def task(number: int) -> Episode:
    """Task ``number``, on rows of its own; records of one class stand together."""
    rng = np.random.default_rng(number)

    def half(n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        y = np.repeat(np.arange(WAYS), n)
        return rng.normal(size=(len(y), 6)).astype(np.float32), y

    rows = number * ROWS + rng.permutation(ROWS)
    cut = WAYS * SUPPORT
    return Episode(*half(SUPPORT), *half(QUERY), np.arange(WAYS), rows[:cut], rows[cut:])


SHARE = Share(tuple(task(n) for n in range(TASKS)), ROUNDS)
TASK_ROWS = [[*e.support_rows.tolist(), *e.query_rows.tolist()] for e in SHARE.episodes]


@cache
def setting(algorithm: str = "reptile") -> Setting:
    """With a network that the learner can learn with."""
    return Setting(Flat() if algorithm in NEED_LINEAR else Mlp((5,)), SPEC)


NEED_LINEAR = {"proto_anil"}
"""Learners that keep class means of the network's input."""


def setting_for(algorithm: Algorithm) -> Setting:
    """The same, for a learner that was made."""
    return setting(next((n for n, cls in ALGORITHMS.items() if type(algorithm) is cls), "reptile"))


def learner(name: str) -> Algorithm:
    """Two steps are enough to compose; ``batch`` where there are mini-batches."""
    made = ALGORITHMS[name]()
    few = {"steps": 2, "batch": 5}
    return replace(made, **{k: v for k, v in few.items() if hasattr(made, k)})  # type: ignore[type-var]


def allowed(mechanism: Mechanism, algorithm: str) -> bool:
    try:
        learner(algorithm).check(SPEC, mechanism.unit)
    except ValueError:
        return False
    return True


TRAINED = sorted(ALGORITHMS.keys() - {"centroid"})
PAIRS = [(m, a) for m in EVERY for a in TRAINED if allowed(m, a)]


def label(value: Any) -> str:
    return value if isinstance(value, str) else f"{value.name}-{value.unit.name}"


every_pair = pytest.mark.parametrize(("mechanism", "algorithm"), PAIRS, ids=label)
every_mechanism = pytest.mark.parametrize("mechanism", EVERY, ids=label)


def price_of(mechanism: Mechanism, algorithm: Algorithm) -> Plan:
    own = setting_for(algorithm)
    theta = algorithm.initial(own, THETA_SEED)
    return plan(mechanism, algorithm, own, theta, SHARE, np.random.default_rng(9))


def later_price_of(mechanism: Mechanism, algorithm: Algorithm) -> Plan:
    """The price of a round after the first, in which the hospital has what the learner keeps."""
    own = setting_for(algorithm)
    theta, rng = algorithm.initial(own, THETA_SEED), np.random.default_rng(9)
    kept = algorithm.update(own, theta, SHARE.episodes, Rehearsal(mechanism.trained), rng).keep
    return plan(mechanism, algorithm, own.recalling(kept), theta, SHARE, np.random.default_rng(9))


def opening(mechanism: Mechanism, price: Plan, seed: int) -> Opening:
    units = PATIENTS if mechanism.unit.cap else np.arange(TASKS * ROWS)
    return Opening(price.uses, price.noise, units, SeededNoise(seed))


def delta_of(mechanism: Mechanism, algorithm: Algorithm, seed: int, watch: Any = None) -> Tensor:
    """One request as ``client.work`` runs it: priced, then computed in the session."""
    price = price_of(mechanism, algorithm)
    session = mechanism.session(opening(mechanism, price, seed))
    own = setting_for(algorithm)
    theta = algorithm.initial(own, THETA_SEED)
    given = session if watch is None else watch(session)
    rng = np.random.default_rng(9)
    return algorithm.update(own, theta, SHARE.episodes, given, rng).delta


class Watch:
    """A session that writes down what it is asked for, and passes it on."""

    def __init__(self, session: Session) -> None:
        self.session, self.uses, self.combined = session, list[Use](), 0
        self.raw, self.trained = session.raw, session.trained

    def gradient(
        self, losses: Any, at: Any, kind: Any, mask: Tensor, beside: Any = ()
    ) -> tuple[Tensor, Tensor]:
        self.uses.append(use(kind, *(batch for _, batch in [*at, *beside])))
        return self.session.gradient(losses, at, kind, mask, beside)

    def gradients(
        self, losses: Any, phi: Tensor, tasks: Batch, kind: Any, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.uses += [use(kind, batch) for batch in tasks.unstack()]
        return self.session.gradients(losses, phi, tasks, kind, mask)

    def means(self, contribution: Any, given: Any, tasks: Batch, kind: Any, dim: int) -> Tensor:
        self.uses += [use(kind, batch) for batch in tasks.unstack()]
        return self.session.means(contribution, given, tasks, kind, dim)

    def mean(self, contributions: Any, kind: Any, dim: int) -> Tensor:
        self.uses.append(use(kind, *(batch for _, batch in contributions)))
        return self.session.mean(contributions, kind, dim)

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        self.combined += 1
        return self.session.combine(directions)


def squares(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (x @ phi - y).square()


PHI = torch.linspace(-1, 1, 4)
X = torch.linspace(-2, 3, 20).view(5, 4)
Y = torch.linspace(0, 1, 5)
MASK = torch.tensor([True, False, True, True])


def small_session(mechanism: Mechanism, seed: int, times: int = 1) -> tuple[Session, Batch]:
    """Five records, opened for ``times`` gradients over all of them."""
    batch = Batch(X.clone(), Y.clone(), np.arange(5))
    rows = [[0, 1, 2, 3, 4]]
    asked = mechanism.uses(lambda: [use("support", batch)] * times, rows)
    noise = mechanism.noise_multipliers(profiles(mechanism.unit, asked, rows))
    return mechanism.session(Opening(asked, noise, np.arange(5), SeededNoise(seed))), batch
