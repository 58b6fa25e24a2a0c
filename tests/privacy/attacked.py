"""Small federated tasks that the proofs of the privacy claims run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaward.client.desk import Desk
from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.embedding import Embedding
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.metric import Metric
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.inner.reptile import Reptile
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, Hospital, Seat, TaskSize, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import Mechanism
from tests.mechanisms import protecting

FLAT = TaskSpec(CLASSIFICATION, (6,), 3, 7, False)
IMAGE = TaskSpec(CLASSIFICATION, (1, 8, 8), 3, 7, False)
CURVE = TaskSpec(REGRESSION, (1,), 1, 0, True)
CASES = {"mlp": (Mlp((5,)), FLAT), "conv": (Conv(4, 2, 2), IMAGE), "curve": (Mlp((5,)), CURVE)}

LEARNERS: dict[str, Algorithm] = {
    "reptile": Reptile(lr=0.1, steps=2),
    "reptile in batches": Reptile(lr=0.1, steps=3, batch=5),
    "fomaml": Fomaml(lr=0.1, steps=2, l2=0.1),
    "fomaml, local rate": Fomaml(lr=0.1, steps=2, local_lr=0.2),
    "maml": Maml(lr=0.1, steps=2),
    "proto_maml": ProtoMaml(lr=0.1, steps=2),
    "proto_maml, no steps": ProtoMaml(steps=0),
    "fedavg": FedAvg(lr=0.1, steps=2),
    "embedding": Embedding(l2=0.1),
    "embedding, local rate": Embedding(local_lr=0.2),
    "metric": Metric(),
    "metric, centred": Metric(centre=True),
}
TASKS, SUPPORT, QUERY = 2, 6, 6
"""Records of a task: each class stands as often in support as in query."""


def admits(mechanism: Mechanism, learner: Algorithm, spec: TaskSpec = FLAT) -> bool:
    try:
        learner.check(spec, mechanism.unit)
    except ValueError:
        return False
    return True


def pairs(*units: str, spec: TaskSpec = FLAT) -> list[tuple[str, str]]:
    """These mechanisms, each with every learner that it can protect."""
    return [
        (unit, name)
        for unit in units
        for name, learner in LEARNERS.items()
        if admits(protecting(unit), learner, spec)
    ]


def records(spec: TaskSpec, seed: int) -> Hospital:
    """A hospital with ``TASKS`` tasks' worth of records, float64; a patient has two in one task."""
    rng = np.random.default_rng(seed)
    n = TASKS * (SUPPORT + QUERY)
    x = rng.normal(size=(n, *spec.input_shape))
    y = np.arange(n) % 3 if spec.kind.classes else rng.normal(size=(n, 1))
    rows = np.arange(n)
    ids = np.array([f"r{i}" for i in rows])
    patients = np.array([f"p{i // 2}" for i in rows])
    return Hospital(
        Seat("a", "train"), x, y, rows, ids, patients, lambda h, r: episodes(h)[0], lambda x: x
    )


def episodes(hospital: Hospital) -> tuple[Episode, ...]:
    """The hospital's records as disjoint tasks, in order."""
    found = []
    for rows in np.array_split(hospital.rows, TASKS):
        s, q = rows[:SUPPORT], rows[SUPPORT:]
        x, y = hospital.x, hospital.y
        found.append(Episode(x[s], y[s], x[q], y[q], np.arange(3), s, q))
    return tuple(found)


def start(setting: Setting, learner: Algorithm) -> Tensor:
    """theta in float64, off the special points where a head is zero."""
    return learner.initial(setting, 3).double() * 1.5 + 0.05


@dataclass(frozen=True)
class Source:
    """A source of tasks that only says what they look like; the audit opens no data."""

    shape: TaskSpec = FLAT

    def spec(self) -> TaskSpec:
        return self.shape

    def task_size(self) -> TaskSize:
        """3 support and 3 query records of each class."""
        each = 3 * max(1, self.shape.classes)
        return TaskSize(each, each)


def desk(
    mechanism: Mechanism, learner: Algorithm, spec: TaskSpec = FLAT, network: object = None
) -> Desk:
    return Desk(Source(spec), network or Mlp((16,)), learner, mechanism, 2, "passes", 0, 4, 1)


def norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector.double()))
