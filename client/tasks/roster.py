"""What is public about hospitals: their names and roles, in the order of their partition ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Role = Literal["train", "unseen", "validation"]
"""What a hospital does in a run: it helps to meta-train, it judges the final result, or it is set
aside to choose among the rounds (``server.evaluation.keep``)."""
ROLES: tuple[Role, ...] = ("train", "unseen", "validation")


@dataclass(frozen=True)
class Seat:
    """What is public about a hospital: its name, and what it does in the run."""

    name: str
    role: Role

    @property
    def judges(self) -> bool:
        """Whether it gives scores; a hospital that trains gives none."""
        return self.role != "train"


@lru_cache(maxsize=64)
def seats(train: str, hospitals: int, unseen: int, validation: int) -> tuple[Seat, ...]:
    """``hospitals`` seats that train, named after ``train``, then the other roles'.

    Those for validation come last, so that they change the partition id of no other hospital. They
    are kept, because every request asks for them: a round of ten thousand hospitals would make
    hundreds of millions.
    """
    counts: tuple[tuple[str, int, Role], ...] = (
        (train, hospitals, "train"),
        ("unseen", unseen, "unseen"),
        ("validation", validation, "validation"),
    )
    return tuple(Seat(f"{name}-{k + 1:02d}", role) for name, n, role in counts for k in range(n))


def place_of(index: int, hospitals: int, unseen: int, validation: int) -> tuple[Role, int]:
    """The role of hospital ``index`` in such a roster, and its number among those of its role."""
    for role, count in zip(ROLES, (hospitals, unseen, validation), strict=True):
        if index < count:
            return role, index
        index -= count
    raise IndexError(f"the roster ends {index + 1} hospitals earlier")


def set_aside(trained: Sequence[Seat], count: int) -> tuple[Seat, ...]:
    """The same seats, of which the last ``count`` are for validation.

    For data sets that are dealt to the training hospitals as a whole: every hospital keeps its
    records and its partition id.
    """
    last = len(trained) - count
    return tuple(Seat(s.name, "validation") if i >= last else s for i, s in enumerate(trained))


def check_set_aside(count: int, hospitals: int) -> None:
    """``ValueError`` where none of the ``hospitals`` would be left to train."""
    if count >= hospitals:
        raise ValueError(
            f"validation = {count}: of {hospitals} training hospitals at least one must be left to "
            "train; lower validation, or raise hospitals"
        )
