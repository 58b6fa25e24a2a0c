"""Who is protected. Each unit of protection is one object, and all that is asked of it is in it.

A guarantee compares a run with another one in which the place of a single unit was left empty. What
that unit is decides who owns a record, how tasks are dealt, how often a unit takes part, what is
clipped, who pays in the ledger, and what people are told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metaward.options import Named


class Holder(Protocol):
    """A hospital's records as a unit sees them."""

    @property
    def ids(self) -> NDArray[Any]:
        """The name of each record (n,)."""
        ...

    @property
    def patients(self) -> NDArray[Any]:
        """Whose each record is (n,)."""
        ...


Owners = Callable[[Holder], NDArray[Any]]
"""The owner behind each of a hospital's rows (n,)."""


def each_record(hospital: Holder) -> NDArray[Any]:
    """Every record is an owner of its own."""
    return np.asarray(hospital.ids)


def each_patient(hospital: Holder) -> NDArray[Any]:
    """A record's patient owns it."""
    return np.asarray(hospital.patients)


@dataclass(frozen=True)
class Unit:
    """One unit of protection.

    ``owners`` says whose each of a hospital's rows is, and ``key`` begins an owner's keys in the
    ledger. ``cap`` is the number of tasks of one round that an owner's records may be in; None
    where an owner has a single record, which disjoint tasks keep in one task anyway.

    ``whole``: what is computed from a unit is clipped as one; else its part in every sum over
    records is. ``noise_at_server``: the server adds the noise and must be trusted; else the
    hospital does. ``every_round``: the unit takes part in every round of the run, whichever
    records are used, and pays for itself in the ledger; else as often as the schedule brings its
    records back. ``protected`` is False for the one unit that nothing is promised to.

    The texts complete sentences. ``guarded``: "whether ... was used". ``emptied``: "two runs: one
    as it was, one in which ... had been left empty". ``exposed``: what the guarantee does not hide,
    a sentence each. ``person``: who may have a unit at each of several hospitals, "" for nobody.
    ``plural``: the heading of a column that counts units. ``cap_per_person``: the most units of one
    person at a hospital, None where nothing caps them.
    """

    name: str
    guarded: str
    emptied: str
    exposed: tuple[str, ...]
    person: str = ""
    plural: str = "Units"
    cap_per_person: int | None = None
    owners: Owners = each_record
    key: str = "record"
    cap: int | None = None
    whole: bool = False
    noise_at_server: bool = False
    every_round: bool = False
    protected: bool = True

    @property
    def clips_tasks(self) -> bool:
        """Whether each task's update is clipped alone: then tasks may neither share records, nor
        be dealt anew, nor start from one another's results, nor find what a learner kept of one
        another."""
        return self.whole and not self.noise_at_server

    @property
    def single(self) -> bool:
        """Whether a unit is one record."""
        return self.cap is None and not self.whole

    def participations(self, scheduled: int, rounds: int) -> int:
        """In how many of ``rounds`` a unit takes part, its records being in ``scheduled``."""
        return rounds if self.every_round else scheduled

    # -------------------------------------------------------------------- in words

    @property
    def subject(self) -> str:
        """What "took part": "a given ..."."""
        return f"{self.name}'s {self.part}" if self.noise_at_server else self.name

    @property
    def part(self) -> str:
        """What is protected of each hospital: "every ... of the hospitals"."""
        return "update" if self.noise_at_server else self.name

    @property
    def counted(self) -> str:
        """What "the most charged ..." is; records, where nothing is protected."""
        return self.name if self.protected else self.key

    @property
    def observed(self) -> str:
        """What the guarantee takes an attacker to see."""
        if self.noise_at_server:
            return "the shared initialisation, but not the trusted server,"
        return "all that leaves the hospitals"

    @property
    def neighbours(self) -> str:
        """Which two runs the guarantee compares."""
        if not self.protected:
            return "Nothing is compared, because nothing is promised."
        empty = f"one in which {self.emptied} had been left empty"
        return f"Compared are two runs: one as it was, {empty}."

    @property
    def trust(self) -> str:
        """Who has to be trusted."""
        if not self.protected:
            return "Everybody who sees an update has to be trusted."
        return f"{_SERVER_TRUSTED if self.noise_at_server else _HOSPITAL_TRUSTED} {_CODE_TRUSTED}"


_HOSPITAL_TRUSTED = (
    "The noise is added at the hospital, before anything leaves, so nobody outside has to be "
    "trusted with what arrives there. The hospital's own machines and staff are trusted."
)
_SERVER_TRUSTED = (
    "The server has to be trusted: it sees each update as it is and adds the noise to their "
    "mean. The promise holds against everybody who sees what the server hands out."
)
_CODE_TRUSTED = (
    "So is whoever ships the program: a hospital runs the code that the server sends, and nothing "
    "on this page holds against code that was changed."
)
PUBLIC = (
    "How many records, tasks and rounds there are.",
    "Which labels a hospital holds and how many records of each.",
    "When and how often a hospital answers, and how long it takes.",
)
"""What is declared public for every unit at a hospital."""

UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(
            "none",
            guarded="",
            emptied="",
            exposed=("Everything that was computed from the records.",),
            plural="Records",
            protected=False,
        ),
        Unit(
            "record",
            guarded="a record",
            emptied="the place of one record",
            exposed=(
                *PUBLIC,
                "What all records of a person have in common, if the person has several.",
            ),
            person="A person with a record",
            plural="Records",
        ),
        Unit(
            "patient",
            guarded="a patient, with all records,",
            emptied="the places of all records of one patient",
            exposed=(*PUBLIC, "How many records each patient has."),
            person="A patient",
            plural="Patients",
            cap_per_person=1,
            owners=each_patient,
            key="patient",
            cap=1,
        ),
        Unit(
            "task",
            guarded="a task, with all its records,",
            emptied="the place of one whole task (a small training problem)",
            exposed=(*PUBLIC, "What many tasks have in common, if one person is in several."),
            person="A person in a task",
            plural="Tasks",
            whole=True,
        ),
        Unit(
            "hospital",
            guarded="a hospital's update",
            emptied="the whole update of one hospital",
            exposed=(
                "Who takes part in which round.",
                "The weights of the hospitals: all the same.",
            ),
            whole=True,
            noise_at_server=True,
            every_round=True,
        ),
    )
}

UnitName = Annotated[str, Named(UNITS)]
"""A unit as a file names it."""
