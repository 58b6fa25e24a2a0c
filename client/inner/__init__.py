"""The learners: inner loops and the baselines that they are compared with.

Each method is one file of this folder and one entry of ``ALGORITHMS``.

Your own learner is built from the same pieces (``setting``, ``steps`` and ``base``).
"""

from __future__ import annotations

from metaward.client.inner.base import Algorithm
from metaward.client.inner.centroid import Centroid
from metaward.client.inner.embedding import Embedding
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.local import Local
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.metric import Metric
from metaward.client.inner.proto_anil import ProtoAnil
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.inner.reptile import Reptile, minibatches, whole
from metaward.client.inner.setting import Kept, Setting, Update
from metaward.client.inner.steps import (
    decay,
    descend,
    over_tasks,
    pooled_gradient,
    private_gradient,
    task_gradients,
)
from metaward.client.inner.warm_up import FirstRound, WarmUp

ALGORITHMS: dict[str, type[Algorithm]] = {
    "reptile": Reptile,
    "fomaml": Fomaml,
    "maml": Maml,
    "proto_maml": ProtoMaml,
    "proto_anil": ProtoAnil,
    "embedding": Embedding,
    "metric": Metric,
    "fedavg": FedAvg,
    "local": Local,
    "centroid": Centroid,
}

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Centroid",
    "Embedding",
    "FedAvg",
    "FirstRound",
    "Fomaml",
    "Kept",
    "Local",
    "Maml",
    "Metric",
    "ProtoAnil",
    "ProtoMaml",
    "Reptile",
    "Setting",
    "Update",
    "WarmUp",
    "decay",
    "descend",
    "minibatches",
    "over_tasks",
    "pooled_gradient",
    "private_gradient",
    "task_gradients",
    "whole",
]
