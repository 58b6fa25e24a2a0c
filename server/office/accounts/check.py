"""Check ledgers: the chain, the budget, epsilon by a second accountant, and the server's marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isclose
from pathlib import Path

from metaward.privacy.accounting import allows, second_epsilon
from metaward.privacy.accounting.by_opacus import ByOpacus, by_opacus
from metaward.privacy.event import Events, Protection
from metaward.privacy.ledger import History
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import (
    OpenedLedger,
    Places,
    all_marks,
    unprotected,
)
from metaward.server.office.accounts.spending import Spending, deltas_of
from metaward.server.signed import signed_faults
from metaward.strategies.marks import SeenMark

TOLERANCE = 0.01
"""The relative difference that two accountants may have: the second rounds up to a grid."""

UNCOMPARED = (
    "the ledgers were not compared with any server's marks: name the result folder, too; without "
    "marks nothing shows that an older copy was put back"
)
NO_CHARGE = "holds no charge, as at a hospital that only judges; there is no epsilon to recompute"
WENT_BACK = (
    "went back: the server saw entry {seen.mark.sequence} of it in round {seen.round}, which it "
    "does not hold; put back the newest copy"
)
NO_MARKS = (
    "holds no marks (marks.jsonl), so nothing shows whether a ledger was set back; either the "
    "server has accepted no update, or the file was removed"
)
NONE_HERE = (
    "none of the ledgers that the server saw is here, so none was compared; in a deployment they "
    "are at the hospitals: name the ledger files beside the folder"
)


OTHER_CODE = (
    "row {charge.sequence} says that run {charge.request.run} was charged for the bundle of code "
    "{charge.code}; {folder} says that its server shipped {shipped}"
)


@dataclass(frozen=True)
class Second:
    """What ``hospital``'s worst unit has spent at ``delta``, by each of two accountants.

    ``opacus`` has what Opacus's accountants say; None: they were not asked.
    """

    path: str
    hospital: str
    protections: tuple[Protection, ...]
    delta: float
    epsilon: float
    second: float
    opacus: ByOpacus | None = None

    @property
    def equal(self) -> bool:
        """Within the tolerance; two unlimited ones are equal."""
        most = TOLERANCE * self.epsilon + 1e-6
        return isclose(self.epsilon, self.second, rel_tol=0, abs_tol=most)


@dataclass
class Checked:
    """What was compared, what is wrong (a sentence for each fault) and what was not checked."""

    ledgers: int = 0
    entries: int = 0
    marks: int = 0
    signed: int = 0
    accounts: list[Second] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(places: Places, deltas: Sequence[float] = (), opacus: bool = False) -> Checked:
    """Check all ledgers and folders. Nothing to check is a fault, or it would look like success.

    Every delta under which units were charged is checked, or ``deltas`` where they are given;
    ``opacus``: by Opacus's accountants, too.
    """
    checked = Checked()
    opened = [OpenedLedger.open(path) for path in places.ledgers]
    for ledger in opened:
        _check_ledger(checked, ledger, deltas, opacus)
    for folder in places.folders:
        _check_folder(checked, folder, opened)
        _check_signed(checked, folder)
    if not places.folders:
        checked.notes.append(UNCOMPARED)
    if not checked.accounts and not checked.faults:
        checked.faults.append("there is nothing to check: no ledger that holds a charge was named")
    return checked


def _check_signed(checked: Checked, folder: Folder) -> None:
    """What hospitals signed, against the keys in the run's configuration."""
    count, faults = signed_faults(folder.config(), folder)
    checked.signed += count
    checked.faults += [f"{folder.path}: {fault}" for fault in faults]


# ----------------------------------------------------------------------------- one ledger


def _check_ledger(
    checked: Checked, ledger: OpenedLedger, deltas: Sequence[float], opacus: bool
) -> None:
    checked.ledgers += 1
    faults, history = list(ledger.faults), ledger.history
    if history and not faults:  # numbers from a damaged chain say nothing
        checked.entries += history.mark.sequence
        accounts = list(_accounts(ledger.path, history, deltas, opacus))
        checked.accounts += accounts
        if not accounts:
            checked.notes.append(f"{ledger.path}: {NO_CHARGE}")
        faults += [*_account_faults(accounts), *overspent(history)]
    checked.faults += [f"{ledger.path}: {fault}" for fault in faults]


def _accounts(
    path: Path, history: History, deltas: Sequence[float], opacus: bool
) -> Iterator[Second]:
    """All accountants' epsilon of the worst unit, from the raw charges; nothing without any."""
    spending, who = Spending.of(history), (str(path), history.hospital, history.protections())
    for delta in deltas_of(history, deltas) if history.charges else ():
        worst = spending.worst(delta)
        third = by_opacus(worst, delta) if opacus else None
        first, second = spending.reported(delta).epsilon, second_epsilon(worst, delta)
        yield Second(*who, delta, first, second, third)


def _account_faults(accounts: Sequence[Second]) -> Iterator[str]:
    for a in accounts:
        if not a.equal:
            yield (
                f"epsilon at delta {a.delta:g} is {a.epsilon:.6g} by the first accountant and "
                f"{a.second:.6g} by the second; they may differ by 1 %"
            )
        if a.opacus and not a.opacus.agrees(a.epsilon):
            yield (
                f"epsilon at delta {a.delta:g} is {a.epsilon:.6g} by ours and {a.opacus.prv:.6g} "
                f"by Opacus's accountant (its upper bound: {a.opacus.rdp:.6g})"
            )
    if any(a.epsilon == inf for a in accounts):
        yield "NO PRIVACY: units were used without noise, their epsilon is unlimited"


def overspent(history: History) -> Iterator[str]:
    """A fault for each charge that took a unit above its budget, by replaying the enforcement."""
    spent: dict[int, Events] = {}
    for charge in history.charges:
        charge.add_to(spent)
        budget = charge.budget
        touched = {spent[unit] for unit in charge.units()}
        if budget and not all(allows((), events, budget) for events in touched):
            yield (
                f"row {charge.sequence} took a unit above epsilon {budget.epsilon:g} at delta "
                f"{budget.delta:g}, the budget that it was charged under"
            )


# ------------------------------------------------------------------------- server's marks


def _check_folder(checked: Checked, folder: Folder, ledgers: Sequence[OpenedLedger]) -> None:
    """Every point that the server saw must be in the ledgers."""
    run = folder.config()
    if not run.privacy.unit.protected:
        checked.faults.append(f"{folder.path}: {run.privacy.claim}")
        return
    checked.notes += [
        f"{folder.path}: {name}: not covered by any epsilon" for name in unprotected(folder)
    ]
    seen = all_marks(folder)
    if not seen:
        checked.faults.append(f"{folder.path}: {NO_MARKS}")
    known = {opened.ledger.id: opened for opened in ledgers if opened.ledger}
    compared = [(s, known[s.mark.ledger]) for s in seen if s.mark.ledger in known]
    checked.marks += len(compared)
    checked.faults += [
        f"{opened.path}: {WENT_BACK.format(seen=s)}"
        for s, opened in compared
        if not opened.holds(s.mark)
    ]
    missing = {s.mark.ledger: s for s in seen if s.mark.ledger not in known}.values()
    simulation = folder.hospitals.is_dir()
    (checked.faults if simulation else checked.notes).extend(map(_not_given, missing))
    if seen and not simulation and not compared:
        checked.faults.append(f"{folder.path}: {NONE_HERE}")
    checked.faults += other_code(folder, ledgers)


def other_code(folder: Folder, ledgers: Sequence[OpenedLedger]) -> Iterator[str]:
    """A fault for each charge of the folder's run that names code which its server did not ship.

    Nothing is compared where the server knows of no bundle, or no gate stood before the hospital.
    """
    shipped = folder.bundles
    for opened in ledgers if shipped else ():
        for charge in opened.history.charges if opened.history else ():
            ours = charge.request.run.partition(".")[0] == folder.id
            if ours and charge.code and charge.code not in shipped:
                words = OTHER_CODE.format(
                    charge=charge, folder=folder.path, shipped=" and ".join(shipped)
                )
                yield f"{opened.path}: {words}"


def _not_given(seen: SeenMark) -> str:
    return (
        f"hospital {seen.hospital}: its ledger {seen.mark.ledger}, of which the server saw entry "
        f"{seen.mark.sequence}, is not among the ledgers that were named"
    )
