"""Networks, and the bridge between a module and a flat vector.

Each architecture is one file of this folder and one entry of ``MODELS``.
"""

from __future__ import annotations

from metaward.client.models.adapter import Adapter
from metaward.client.models.base import (
    Architecture,
    Layer,
    Network,
    check_architecture,
    fed_shape,
    network,
)
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.models.portable import Portable
from metaward.client.models.scatter import Scatter

MODELS: dict[str, type[Architecture]] = {
    "conv": Conv,
    "mlp": Mlp,
    "scatter": Scatter,
    "adapter": Adapter,
}

__all__ = [
    "MODELS",
    "Architecture",
    "Layer",
    "Network",
    "Portable",
    "check_architecture",
    "fed_shape",
    "network",
]
