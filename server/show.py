"""The output of the command line: progress, final tables, the hospitals' records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metaward.client.tasks.base import Hospital
from metaward.client.tasks.kinds import Score
from metaward.server.baselines import claim
from metaward.server.evaluate import LearnerRow
from metaward.server.folder import Folder
from metaward.server.keep import Chosen
from metaward.server.report import cells
from metaward.server.run import Observer
from metaward.server.terminal import BAD, FAINT, Piece, line, table
from metaward.sim import Sim, data_root

COLUMNS = ("learner", "steps", "before", "after", "95 % interval", "worst hospital", "gap")


@contextmanager
def progress(folder: Folder, quiet: bool) -> Iterator[Observer]:
    """A bar for each phase with round, loss, score and time left; ``quiet`` shows nothing."""
    console = Console(stderr=True)
    if quiet:
        yield lambda row: None
        return
    console.print(f"results in {folder.path}", highlight=False, soft_wrap=True)
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield Bars(bars)


class Bars:
    """Turns rows of metrics.jsonl into progress bars."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}
        self.notes: dict[str, dict[str, str]] = {}

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show one row."""
        phase = row["phase"]
        if phase not in self.tasks:
            self.tasks[phase] = self.bars.add_task(phase, total=row.get("of"), note="")
            self.notes[phase] = {}
        note = self.notes[phase]
        if row.get("loss") is not None:
            note["loss"] = f"loss {row['loss']:.3f}"
        if "after" in row:
            note["score"] = f"unseen {row['before']:.3f} -> {row['after']:.3f}"
        if row.get("validation"):
            chosen = f" (best: round {row['best']})" if "best" in row else ""
            note["validation"] = f"validation {row['validation']['after']:.3f}{chosen}"
        if row.get("rejected"):
            note["rejected"] = f"{len(row['rejected'])} rejected"
        if "learner" in row:
            note["learner"] = row["learner"]
        text = ", ".join(note.values())
        self.bars.update(self.tasks[phase], completed=row.get("round"), note=text)


def final(run: Sim, folder: Folder) -> Piece:
    """The final tables of a finished run."""
    saved = json.loads((folder.path / "result.json").read_text(encoding="utf-8"))
    tables, kept = saved["tables"], [Chosen(**one) for one in saved["kept"]]
    scores = {score.name: score for score in run.client.tasks.spec().kind.scores}
    main = run.client.tasks.spec().kind.scores[0]
    legend = "gap: how far the first row is ahead, with a 95 % interval over hospitals"
    return Group(
        *(_scored(run, scores[one["metric"]], one) for one in tables),
        line(legend, FAINT),
        *(line(one.text(main)) for one in kept if one.scores),
        line(claim(run), BAD),
        line(f"results in {folder.path}"),
    )


def _scored(run: Sim, score: Score, saved: Mapping[str, Any]) -> Piece:
    """One table of result.json."""
    judges = run.server.evaluation.judges.capitalize()
    title = f"{judges} hospitals, {saved['episodes']} episodes each ({score.label})"
    rows = (cells(LearnerRow(**row), score) for row in saved["rows"])
    unbroken = [name for name in COLUMNS if name != "worst hospital"]
    return table(COLUMNS, rows, title=title, right=COLUMNS[1:], unbroken=unbroken)


def holdings(run: Sim) -> list[dict[str, Any]]:
    """The records of each hospital; hospitals are opened one after the other."""
    root = data_root(run)
    source = run.client.tasks
    rows = []
    for index in range(len(source.roster())):
        hospital = source.hospital(index, root, run.seed)
        rows.append(
            {
                "hospital": hospital.seat.name,
                "role": hospital.seat.role,
                "records": len(hospital.rows),
                "patients": len(np.unique(hospital.patients[hospital.rows])),
                "classes": _classes(hospital) if source.spec().kind.classes else {},
                **hospital.note,
            }
        )
    return rows


def holdings_table(rows: list[dict[str, Any]]) -> Piece:
    """The table of ``holdings`` for people."""
    cells_of = (map(_text, row.values()) for row in rows)
    return table(list(rows[0]), map(list, cells_of), right={"records", "patients"})


def _classes(hospital: Hospital) -> dict[str, int]:
    return {str(label): len(rows) for label, rows in hospital.by_class.items()}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}:{v}" for k, v in value.items()) or "-"
    return str(value)
