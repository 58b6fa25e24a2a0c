"""Inner loops and the baselines beside them: one file a method, one line here."""

from __future__ import annotations

from client.inner.base import Algorithm, Setting, Update
from client.inner.centroid import Centroid
from client.inner.embedding import Embedding
from client.inner.fedavg import FedAvg
from client.inner.maml import Fomaml, Maml
from client.inner.metric import Metric
from client.inner.proto_maml import ProtoMaml
from client.inner.reptile import Reptile

ALGORITHMS: dict[str, type[Algorithm]] = {
    "reptile": Reptile,
    "fomaml": Fomaml,
    "maml": Maml,
    "proto_maml": ProtoMaml,
    "embedding": Embedding,
    "metric": Metric,
    "fedavg": FedAvg,
    "centroid": Centroid,
}

__all__ = ["ALGORITHMS", "Algorithm", "Setting", "Update"]
