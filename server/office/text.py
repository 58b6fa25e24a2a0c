"""Plans, accounts and checks as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from metaward.privacy.report.numbers import show_left, show_loss
from metaward.server.office.accounts.account import Account, Spent
from metaward.server.office.accounts.check import Checked
from metaward.server.office.plan.plan import Planned

COLOURS = {"cannot work": "bold red", "doubtful": "bold yellow", "can work": "bold green"}


Parts = list[RenderableType]


def say(parts: Parts) -> None:
    """Print them, tables not narrower than they need, ``Text`` unbroken so that paths stay whole.

    Square brackets are text, never markup.
    """
    console = Console(width=max(116, Console().width), highlight=False, markup=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))


def safe(words: str) -> str:
    """Names and reasons without anything that could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def warning(words: str) -> Panel:
    """In large letters."""
    return Panel(Text(safe(words)), title="N O   P R I V A C Y", style="bold red", box=box.DOUBLE)


def made(facts: Mapping[str, str]) -> str:
    """A new ledger, and what to do with it."""
    node = f'ledger="{facts["path"]}" policy="/path/to/policy.yaml"'
    return "\n".join(
        [
            f"ledger {facts['ledger']} of hospital {facts['hospital']}: {facts['path']}",
            f"its key, without which it is of no use: {facts['key']}",
            "",
            "Back both up, apart from each other. Put this into the SuperNode's node config:",
            "",
            f"  --node-config {shlex.quote(node)}",
        ]
    )


def ledger(found: Account) -> Parts:
    """One ledger's account."""
    parts: Parts = [
        safe(
            f"ledger {found.ledger} of hospital {found.hospital}, made {found.made} by {found.who}"
        ),
        f"{found.entries} entries; units: {_units(found)}; "
        f"a unit took part {found.participations} times at most",
        _spent_line(found),
    ]
    if not found.protected:
        parts.insert(0, warning("NO PRIVACY: units were used without noise; epsilon is unlimited."))
    budgets = grid("budget epsilon", "at delta", "left")
    for b in found.budgets:
        budgets.add_row(f"{b.epsilon:g}", f"{b.delta:g}", show_left(b.left))
    runs = grid("run", "first", "last", "charges", "replies")
    for run in found.runs:
        runs.add_row(safe(run.run), run.first, run.last, str(run.charges), str(run.replies))
    parts += [budgets] if found.budgets else ["no budget was ever set"]
    parts += [runs] if found.runs else ["nothing was ever charged"]
    return [*parts, _refusals([found])]


def verified(path: Path, entries: int | None, faults: Sequence[str]) -> Parts:
    """The end of `ledger verify`."""
    if not faults:
        good = f"{path}: {entries} entries, every hash and every table right"
        return [Text(good, style="bold green")]
    return [Text(f"FAULT: {path}: {safe(fault)}", style="bold red") for fault in faults]


def spending(accounts: Sequence[Account], warnings: Sequence[str]) -> Parts:
    """All hospitals of a run, or several ledgers."""
    parts: Parts = [warning(words) for words in warnings]
    open_ones = [safe(a.hospital) for a in accounts if not a.protected]
    if open_ones:
        parts.append(warning(f"NO PRIVACY: used without noise at {', '.join(open_ones)}."))
    if accounts:
        parts += [_spending(accounts), _refusals(accounts)]
    if any(a.who == "simulation" for a in accounts):
        parts.append(
            "Simulation: its noise was seeded. These numbers show what a deployment would spend; "
            "they protect nobody."
        )
    return parts


def checked(done: Checked) -> Parts:
    """The end of `privacy verify`."""
    table = grid("hospital", "at delta", "epsilon", "second accountant", "ledger")
    for a in done.accounts:
        row = (f"{a.delta:g}", show_loss(a.epsilon), show_loss(a.second), a.path)
        table.add_row(safe(a.hospital), *row)
    parts: Parts = [table] if done.accounts else []
    parts += [Text(f"note: {safe(note)}", style="dim") for note in done.notes]
    parts += [Text(f"FAULT: {safe(fault)}", style="bold red") for fault in done.faults]
    counts = f"{done.ledgers} ledgers, {done.entries} entries, {done.marks} of the server's marks"
    good = Text(f"No fault: {counts}; epsilon is equal by two accountants.", style="bold green")
    bad = Text(f"{len(done.faults)} faults in {counts}.", style="bold red")
    return [*parts, bad if done.faults else good]


def plan(found: Planned) -> Parts:
    """The plan: what is known, what it costs, whether it can work, what to change."""
    parts: Parts = [_known(found)]
    if found.ratio is None:
        return [warning(found.claim), *parts, *found.notes]
    parts += [found.claim, _sums(found), _cost(found), *_verdict(found)]
    parts += [f"note: {note}" for note in found.notes]
    return [*parts, *([_suggestions(found)] if found.suggestions else [])]


# ------------------------------------------------------------------------------------ parts


def _known(p: Planned) -> str:
    return (
        f"{p.hospitals} training hospitals, {p.hospitals_per_round} in a round; "
        f"{p.records} records each, in {p.tasks_per_pass} tasks of {p.records_per_task}, "
        f"{p.tasks_per_round} of them a round\n"
        f"{_times(p.rounds, 'round')}: a unit takes part {_times(p.participations, 'time')} "
        "at most; "
        f"{p.coordinates} of {p.parameters} coordinates are trained"
    )


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _sums(p: Planned) -> Table:
    table = grid(
        "sums of", "a round, each hospital", "vectors in all", "a unit stands in", "C", "sigma"
    )
    for s in p.sums:
        row = (str(s.sums), str(s.vectors), f"{s.each} a participation", f"{s.clip:g}")
        table.add_row(s.kind, *row, f"{s.sigma:.4g}")
    return table


def _cost(p: Planned) -> str:
    mu = f"mu {show_loss(p.mu)}, " if p.mu is not None else ""
    return f"a unit spends at most: {mu}epsilon {show_loss(p.epsilon)} at delta {p.delta:g}"


def _doubt(ratio: float, limit: float) -> str:
    """Why it is doubtful: noise, or what there is to learn."""
    if ratio < limit:
        return "The signal is hardly longer than the noise, even at best."
    return "The noise leaves room to learn, but a body that is not trained learns little."


def _verdict(p: Planned) -> Parts:
    assert p.ratio is not None
    means = {
        "cannot work": "All rounds together move theta by noise more than by anything learned.",
        "doubtful": _doubt(p.ratio, p.limits[1]),
        "can work": (
            "The noise leaves room to learn. No promise: a clip norm C far below what records have "
            "loses signal that no epsilon brings back, and no plan sees it."
        ),
    }
    limits = f"below {p.limits[0]:g} it cannot work, below {p.limits[1]:g} it is doubtful"
    return [
        f"signal-to-noise ratio: of a round at most {p.ratio_of_a_round:.2g}, "
        f"of the run at most {p.ratio:.2g} ({limits})",
        Text(f"{p.verdict.upper()}. {means[p.verdict]}", style=COLOURS[p.verdict]),
    ]


def _suggestions(p: Planned) -> Table:
    table = grid("what to change", "type this", "ratio", "then")
    for s in p.suggestions:
        verdict = Text(s.verdict, style=COLOURS[s.verdict])
        table.add_row(s.words, s.type_this, f"{s.ratio:.2g}", verdict)
    return table


def _spending(accounts: Sequence[Account]) -> Table:
    deltas = list(dict.fromkeys(s.delta for a in accounts for s in a.spent))
    epsilons = [f"epsilon at {delta:g}" for delta in deltas]
    table = grid("hospital", "learner", "mu", *epsilons, "left of", "took part", "units", "refused")
    for a in accounts:
        spent = {s.delta: s for s in a.spent}
        left = ", ".join(f"{show_left(b.left)} of {b.epsilon:g} at {b.delta:g}" for b in a.budgets)
        table.add_row(
            safe(a.hospital),
            a.learner or "-",
            show_loss(a.mu),
            *(show_loss(spent[d].epsilon) if d in spent else "-" for d in deltas),
            left or "no budget",
            str(a.participations),
            _units(a),
            str(sum(r.at_least for r in a.refusals)),
        )
    return table


def _refusals(accounts: Sequence[Account]) -> RenderableType:
    table = grid("refused by", "times", "code", "last", "reason")
    for a in accounts:
        for r in a.refusals:
            table.add_row(safe(a.hospital), str(r.at_least), r.code, r.last, safe(r.reason))
    return table if table.row_count else "no request was refused"


def _spent_line(found: Account) -> str:
    parts = [_spent(s) for s in found.spent]
    if found.mu is not None:
        parts.insert(0, f"mu {show_loss(found.mu)}")
    return "worst unit: " + "; ".join(parts)


def _spent(spent: Spent) -> str:
    how = f"{spent.method}; {spent.error}"
    return f"epsilon {show_loss(spent.epsilon)} at delta {spent.delta:g} ({how})"


def _units(found: Account) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(found.units.items())) or "none"


def grid(*names: str) -> Table:
    """An empty table with these columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in names:
        table.add_column(Text(name), overflow="fold")
    return table
