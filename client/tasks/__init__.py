"""Where a hospital's tasks come from: one file a source, one line here."""

from __future__ import annotations

from client.tasks.base import TaskSource
from client.tasks.ecg import Ecg
from client.tasks.heart import Heart
from client.tasks.medmnist import MedMnist
from client.tasks.omniglot import Omniglot
from client.tasks.phantom import Phantom
from client.tasks.sine import Sine

TASKS: dict[str, type[TaskSource]] = {
    "ecg": Ecg,
    "heart": Heart,
    "medmnist": MedMnist,
    "omniglot": Omniglot,
    "phantom": Phantom,
    "sine": Sine,
}
