"""Where a hospital's tasks come from: one file a source, one line here."""

from __future__ import annotations

from client.tasks.base import TaskSource
from client.tasks.ecg import Ecg
from client.tasks.heart import Heart
from client.tasks.medmnist import MedMnist
from client.tasks.omniglot import Omniglot

TASKS: dict[str, type[TaskSource]] = {
    "ecg": Ecg,
    "heart": Heart,
    "medmnist": MedMnist,
    "omniglot": Omniglot,
}
