"""The sources of a hospital's tasks; each is one file of this folder and one entry of ``TASKS``."""

from __future__ import annotations

from metaward.client.tasks.base import TaskSource
from metaward.client.tasks.beats import Beats
from metaward.client.tasks.ecg import Ecg
from metaward.client.tasks.folder import OwnFiles
from metaward.client.tasks.heart import Heart
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.omniglot import Omniglot
from metaward.client.tasks.phantom import Phantom
from metaward.client.tasks.sine import Sine

TASKS: dict[str, type[TaskSource]] = {
    "beats": Beats,
    "ecg": Ecg,
    "folder": OwnFiles,
    "heart": Heart,
    "medmnist": MedMnist,
    "omniglot": Omniglot,
    "phantom": Phantom,
    "sine": Sine,
}
