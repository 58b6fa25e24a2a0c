"""Networks, and the bridge between a module and a flat vector: one line an architecture."""

from __future__ import annotations

from client.models.base import Architecture, Network, network
from client.models.conv import Conv
from client.models.mlp import Mlp
from client.models.scatter import Scatter

MODELS: dict[str, type[Architecture]] = {
    "conv": Conv,
    "mlp": Mlp,
    "scatter": Scatter,
}

__all__ = ["MODELS", "Architecture", "Network", "network"]
