"""Which of a hospital's records support an adaptation and which judge it, by patient.

A patient's records are never on both sides: a network knows a patient again, and would look better
than it is for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from metaward.client.tasks.base import IntArray
from metaward.errors import InputError
from metaward.server.adapting.records import Labelled

ORDERS = 50
"""Orders of the patients that are tried before a split counts as impossible."""
HELD_OUT = 0.2
"""Of each class's records, the least share that judges where all records support the model."""


@dataclass(frozen=True, eq=False)
class PatientSplit:
    """Rows of the records that support and of those that judge, neither empty of any class."""

    support: IntArray
    judges: IntArray


def split(held: Labelled, shots: int | None, rng: np.random.Generator) -> PatientSplit:
    """One split: ``shots`` records of each class support, or with None all but a held-out fifth.

    Patients are taken in a random order for one side, each only if a class still needs records
    there; all others are on the other side. ``InputError``, with the way out, where no order
    leaves records of each class on both sides.
    """
    _check_counts(held, shots)
    need = np.full(len(held.classes), shots) if shots else _fifth(held)
    for _ in range(ORDERS):
        mine = _side(held, need, rng)
        if _all_classes(held, ~mine):
            return _k_shot(held, mine, shots, rng) if shots else _rest(mine)
    raise InputError(_no_order(held, shots))


def final_support(held: Labelled, shots: int | None, first: PatientSplit) -> IntArray:
    """The rows that the model that is written is fitted to: all of them, or those of ``first``."""
    return first.support if shots else np.arange(len(held.y))


def _check_counts(held: Labelled, shots: int | None) -> None:
    least = (shots or 1) + 1
    for name, count in zip(held.classes, held.counts(), strict=True):
        if count < least:
            fewer = f", give --shots {count - 1}" if shots and count > 1 else ""
            raise InputError(
                f"{held.folder}: class {name} has {count} record{'s' * (count != 1)}; "
                f"{shots or 1} to adapt to and one to judge by are needed: add records{fewer}, or "
                "leave the class out"
            )


def _fifth(held: Labelled) -> IntArray:
    return np.array([ceil(HELD_OUT * count) for count in held.counts()])


def _side(held: Labelled, need: IntArray, rng: np.random.Generator) -> np.ndarray:
    """Which records (n,) bool are those of patients taken until each class has what it needs."""
    mine, left = np.zeros(len(held.y), bool), need.copy()
    for patient in rng.permutation(held.patient_count()):
        rows = held.of_patient(patient)
        brought = np.bincount(held.y[rows], minlength=len(need))
        if (brought[left > 0] > 0).any():
            mine[rows] = True
            left = left - brought
    return mine


def _all_classes(held: Labelled, side: np.ndarray) -> bool:
    return len(np.unique(held.y[side])) == len(held.classes)


def _k_shot(held: Labelled, mine: np.ndarray, shots: int, rng: np.random.Generator) -> PatientSplit:
    """``shots`` of the records of each class on the support's side; the rest of that side is not
    used, because its patients support."""
    picks = [
        rng.choice(np.flatnonzero(mine & (held.y == c)), shots, replace=False)
        for c in range(len(held.classes))
    ]
    return PatientSplit(np.concatenate(picks), np.flatnonzero(~mine))


def _rest(mine: np.ndarray) -> PatientSplit:
    return PatientSplit(np.flatnonzero(~mine), np.flatnonzero(mine))


def _no_order(held: Labelled, shots: int | None) -> str:
    """Names the class of the fewest patients, which is where a split fails."""
    patients = [len(np.unique(held.patients[held.y == c])) for c in range(len(held.classes))]
    scarce = int(np.argmin(patients))
    size = f"--shots {shots}" if shots else "--shots all"
    fewer = " lower --shots," if shots and shots > 1 else ""
    return (
        f"{held.folder}: with {size} no split by patient leaves records of every class to adapt to "
        f"and to judge by; class {held.classes[scarce]} has records of {patients[scarce]} "
        f"patient{'s' * (patients[scarce] != 1)}:{fewer} add patients, or leave the class out"
    )
