"""Options without which a part of a registry cannot be made, for tests over all of them."""

from __future__ import annotations

from typing import Any

from metaward.client.tasks import TASKS

NEEDED: dict[str, dict[str, Any]] = {
    "folder": {
        "train": ("north", "south"),
        "unseen": ("west",),
        "classes": ("benign", "malignant", "normal"),
        "shape": (1, 8, 8),
    }
}


def needed(cls: type[Any]) -> dict[str, Any]:
    """The options that this source of tasks cannot do without."""
    return next((NEEDED.get(name, {}) for name, known in TASKS.items() if known is cls), {})


def usual(cls: type[Any]) -> Any:
    """A part with its defaults, and with what has none."""
    return cls(**needed(cls))
