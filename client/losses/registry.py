"""The losses that come with metaward, by the names that they have in yaml."""

from __future__ import annotations

from metaward.client.losses.base import Loss
from metaward.client.losses.classes import BinaryCrossEntropy, CrossEntropy, Focal
from metaward.client.losses.targets import Huber, Squared

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared": Squared,
    "huber": Huber,
}
