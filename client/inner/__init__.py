"""Inner loops and the baselines beside them: one file a method, one line here."""

from __future__ import annotations

from metaward.client.inner.base import Algorithm, Kept, Setting, Update
from metaward.client.inner.centroid import Centroid
from metaward.client.inner.embedding import Embedding
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.metric import Metric
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.inner.reptile import Reptile

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

__all__ = ["ALGORITHMS", "Algorithm", "Kept", "Setting", "Update"]
