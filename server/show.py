"""The output of the command line: final tables, the hospitals' records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Group

from metaward.client.tasks.base import Hospital
from metaward.client.tasks.kinds import Score
from metaward.server.baselines import claim
from metaward.server.evaluate import LearnerRow
from metaward.server.folder import Folder
from metaward.server.keep import Chosen
from metaward.server.missed import Missed
from metaward.server.report import cells
from metaward.server.terminal import BAD, FAINT, WARN, Piece, line, table
from metaward.sim import Sim, data_root

COLUMNS = ("learner", "steps", "before", "after", "95 % interval", "worst hospital", "gap")


def final(run: Sim, folder: Folder) -> Piece:
    """The final tables of a finished run."""
    saved = folder.result()
    tables, kept = saved["tables"], [Chosen(**one) for one in saved["kept"]]
    scores = {score.name: score for score in run.spec().kind.scores}
    main = run.spec().kind.scores[0]
    legend = "gap: how far the first row is ahead; its 95 % interval is over hospitals, two or more"
    return Group(
        *(_scored(run, scores[one["metric"]], one) for one in tables),
        line(legend, FAINT),
        *(line(one.text(main)) for one in kept if one.scores),
        *(line(Missed(**one).text(), WARN) for one in saved.get("missed", ())),
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
    right, unbroken = {"records", "patients"}, {"hospital"}
    return table(list(rows[0]), map(list, cells_of), right=right, unbroken=unbroken)


def _classes(hospital: Hospital) -> dict[str, int]:
    return {str(label): len(rows) for label, rows in hospital.by_class.items()}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}:{v}" for k, v in value.items()) or "-"
    return str(value)
