"""Accounts and checks of ledgers as text for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from metaward.privacy.event import Protection
from metaward.privacy.report.numbers import show_left, show_loss
from metaward.server.office.accounts.account import Account
from metaward.server.office.accounts.check import Checked, Second
from metaward.server.terminal import BAD, FAINT, GOOD, Piece, line, safe, table, warning
from metaward.server.words import several

SIMULATED = (
    "Simulation: its noise was seeded. These numbers show what a deployment would spend; they "
    "protect nobody."
)


def made(ledger: str, hospital: str, path: str, key: str) -> list[Piece]:
    """A new ledger, and what to do with it."""
    node = shlex.quote(f'ledger="{path}" policy="/path/to/policy.yaml"')
    return [
        line(f"ledger {ledger} of hospital {hospital}: {path}"),
        line(f"its key, without which it cannot be used: {key}"),
        "",
        "Back up both, in different places. Put this into the SuperNode's node config:",
        "",
        line(f"  --node-config {node}"),
    ]


def ledger(account: Account) -> list[Piece]:
    """One ledger's account."""
    budgets = [(f"{b.epsilon:g}", f"{b.delta:g}", show_left(b.left)) for b in account.budgets]
    runs = [
        (r.run, by([r.protection]), r.first, r.last, r.charges, r.replies) for r in account.runs
    ]
    run_columns = ("run", "protects", "first", "last", "charges", "replies")
    unlimited = "NO PRIVACY: units were used without noise; epsilon is unlimited."
    return [
        *([] if account.protected else [warning(unlimited)]),
        safe(
            f"ledger {account.ledger} of hospital {account.hospital}, "
            f"made {account.made} by {account.who}"
        ),
        f"{account.entries} entries; units: {_units(account)}; "
        f"a unit took part {account.participations} times at most",
        f"worst unit: {_losses(account)}",
        _table(("budget epsilon", "at delta", "left"), budgets, "no budget was ever set"),
        _table(run_columns, runs, "nothing was ever charged"),
        *_code([account]),
        _refusals([account]),
    ]


def verified(path: Path, entries: int | None, faults: Sequence[str]) -> list[Piece]:
    """The end of `ledger verify`."""
    if not faults:
        return [line(f"{path}: {entries} entries, every hash and every table right", GOOD)]
    return [line(f"FAULT: {path}: {fault}", BAD) for fault in faults]


def spending(
    accounts: Sequence[Account], warnings: Sequence[str], bundles: Sequence[str] = ()
) -> list[Piece]:
    """All hospitals of a run, or several ledgers; ``bundles`` of code are those that were shipped
    to them."""
    pieces: list[Piece] = [warning(text) for text in warnings]
    unprotected = ", ".join(a.hospital for a in accounts if not a.protected)
    if unprotected:
        pieces.append(warning(f"NO PRIVACY: used without noise at {unprotected}."))
    if accounts:
        pieces += [*_protected(accounts), _spending(accounts), *_code(accounts)]
        pieces.append(_refusals(accounts))
    pieces += [line(f"code that the server shipped: {sha}") for sha in bundles]
    return [*pieces, *([SIMULATED] if any(a.who == "simulation" for a in accounts) else [])]


def checked(done: Checked) -> list[Piece]:
    """The end of `privacy verify`."""
    columns = ["hospital", "protects", "at delta", "epsilon", "second accountant"]
    opacus = any(a.opacus for a in done.accounts)
    columns += ["Opacus (prv)", "Opacus (rdp, a bound)"] * opacus
    rows = [_accounted(a) for a in done.accounts]
    entries = "1 entry" if done.entries == 1 else f"{done.entries} entries"
    counts = f"{several(done.ledgers, 'ledger')}, {entries}, {done.marks} of the server's marks"
    counts += f", {several(done.signed, 'signed answer')}" if done.signed else ""
    faults = several(len(done.faults), "fault")
    return [
        *([table((*columns, "ledger"), rows)] if rows else []),
        *(line(f"note: {note}", FAINT) for note in done.notes),
        *(line(f"FAULT: {fault}", BAD) for fault in done.faults),
        line(f"{faults} in {counts}.", BAD)
        if done.faults
        else line(f"No fault: {counts}; epsilon is equal by two accountants.", GOOD),
    ]


def _accounted(a: Second) -> tuple[str, ...]:
    """One line: a ledger's worst unit at one delta, by all accountants."""
    third = (a.opacus.prv, a.opacus.rdp) if a.opacus else ()
    epsilons = (show_loss(epsilon) for epsilon in (a.epsilon, a.second, *third))
    return a.hospital, by(a.protections), f"{a.delta:g}", *epsilons, a.path


def _spending(accounts: Sequence[Account]) -> Piece:
    deltas = list(dict.fromkeys(s.delta for a in accounts for s in a.spent))
    epsilons = [f"epsilon at {delta:g}" for delta in deltas]
    columns = ("hospital", "learner", "mu", *epsilons, "left of", "took part", "units", "refused")
    return table(columns, (_row(a, deltas) for a in accounts))


def _row(account: Account, deltas: Sequence[float]) -> tuple[object, ...]:
    spent = {s.delta: show_loss(s.epsilon) for s in account.spent}
    left = [f"{show_left(b.left)} of {b.epsilon:g} at {b.delta:g}" for b in account.budgets]
    return (
        account.hospital,
        account.learner or "-",
        show_loss(account.mu),
        *(spent.get(delta, "-") for delta in deltas),
        ", ".join(left) or "no budget",
        account.participations,
        _units(account),
        sum(refusal.at_least for refusal in account.refusals),
    )


def _protected(accounts: Sequence[Account]) -> list[Piece]:
    """One line for each protection; most hospitals have the same."""
    ways: dict[str, list[str]] = {}
    for account in accounts:
        ways.setdefault(by(account.protections), []).append(account.hospital)
    if len(ways) == 1:
        return [f"protected: {way}" for way in ways]
    return [safe(f"protected: {way}, at {', '.join(names)}") for way, names in ways.items()]


def by(protections: Sequence[Protection]) -> str:
    """Who was protected, and by which mechanism."""
    return ", ".join(f"{p.unit} by {p.mechanism}" for p in protections) or "-"


def _refusals(accounts: Sequence[Account]) -> Piece:
    rows = [
        (a.hospital, r.at_least, r.code, r.last, r.reason) for a in accounts for r in a.refusals
    ]
    columns = ("refused by", "times", "code", "last", "reason")
    return _table(columns, rows, "no request was refused")


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], otherwise: str) -> Piece:
    return table(columns, rows) if rows else otherwise


def _code(accounts: Sequence[Account]) -> list[Piece]:
    """The bundles of code that used the records, where a gate let them in; nothing without one."""
    rows = [(a.hospital, run.run, sha) for a in accounts for run in a.runs for sha in run.code]
    return [table(("hospital", "run", "code that the gate let in (SHA-256)"), rows)] if rows else []


def _losses(account: Account) -> str:
    mu = [] if account.mu is None else [f"mu {show_loss(account.mu)}"]
    epsilons = [
        f"epsilon {show_loss(s.epsilon)} at delta {s.delta:g} ({s.method}; {s.error})"
        for s in account.spent
    ]
    return "; ".join([*mu, *epsilons])


def _units(account: Account) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(account.units.items())) or "none"
