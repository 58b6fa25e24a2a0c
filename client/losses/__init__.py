"""The losses that a run can choose in place of that of its kind of task (``client.loss``).

Each is one class and one entry of ``LOSSES``. It says which kinds of task it suits; how records are
protected knows none of them.
"""

from __future__ import annotations

from metaward.client.losses.base import Loss, Weighted
from metaward.client.losses.classes import BinaryCrossEntropy, CrossEntropy, Focal
from metaward.client.losses.registry import LOSSES
from metaward.client.losses.run import with_loss
from metaward.client.losses.targets import Huber, Squared

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Focal",
    "Huber",
    "Loss",
    "Squared",
    "Weighted",
    "with_loss",
]
