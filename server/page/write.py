"""report.html: what a finished run was, what it learned, and how its rounds went.

One page without a script that loads nothing. Everything on it comes from the result folder, so that
``metaward report`` can make it again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from metaward.client.tasks.kinds import Score
from metaward.errors import InputError
from metaward.files import replace_file
from metaward.privacy.report.templates import FOLDER as SHARED
from metaward.privacy.report.templates import environment
from metaward.server.evaluate import LearnerRow, ScoreTable
from metaward.server.folder import Folder, now
from metaward.server.missed import missed
from metaward.server.page.plot import Plot, Series, over_amounts, plot
from metaward.server.page.rounds import (
    Phase,
    durations,
    norms,
    phases,
    presences,
    scores,
    turned_away,
)
from metaward.server.page.setting import differing, facts
from metaward.server.page.ways import at_each, together
from metaward.server.report import cells
from metaward.server.spending import scores_over_epsilon
from metaward.sim import Sim

HERE = Path(__file__).parent
NAME, TEMPLATE = "report.html", "run.html.md"
STYLES = (SHARED / "page.css.md", HERE / "run.css.md")
PICTURES = {
    "sine.png": "Three sinusoids of the hospitals that judge with ten known points each, and the "
    "learner's fit before and after adaptation",
}
"""The pictures of a run that the page shows, and what is to be seen on them."""
LISTED = 200
"""The most rejected answers that are listed one by one."""


def write_page(folder: Folder, out: Path | None = None, finished: str | None = None) -> Path:
    """Write the page of a finished run, into ``out`` or the folder; the path where it is.

    ``finished`` is the time of the end, where the folder does not tell it yet. ``InputError`` where
    there is no result.
    """
    path = out or folder.path / NAME
    text = page(folder, path.parent, finished or folder.since() or now())
    replace_file(path, text.encode())
    return path


def page(folder: Folder, place: Path, finished: str) -> str:
    """The page as HTML; links lead from ``place`` to the folder's files."""
    run, saved, about = folder.config(), _saved(folder), folder.about()
    tables = _tables(run, saved)
    trained, score = phases(run, folder), tables[0].score
    style = "\n".join(one.read_text(encoding="utf-8") for one in STYLES)
    return (
        environment(HERE, escape=True)
        .get_template(TEMPLATE)
        .render(
            run=run,
            about=about,
            claim=saved["privacy"],
            protected=run.privacy.unit.protected,
            finished=finished,
            taken=_seconds(about["started"], finished),
            facts=facts(run, about, saved),
            tables=tables,
            cells=cells,
            curves=_curves(trained, score, run.server.evaluation.judges),
            few=run.server.evaluation.episodes,
            together=together(tables[0].rows, score),
            hospitals=at_each(tables[0].rows, score),
            presences=presences(run, trained[0]),
            turned=turned_away(trained),
            missed=missed(run, folder),
            listed=LISTED,
            norms=plot("Norm of the update", "Euclidean norm", norms(trained[0]), 3),
            rounds=_round_times(trained[0]),
            durations=durations(trained),
            differing=differing(run),
            config=json.dumps(run.mapping(), indent=1, ensure_ascii=False),
            spent=over_epsilon(run, folder, tables[0]),
            pictures=_pictures(folder),
            files=_files(folder, place),
            style=Markup(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def _saved(folder: Folder) -> dict[str, Any]:
    path = folder.path / "result.json"
    if not path.is_file():
        status, _ = folder.status()
        raise InputError(
            f"{folder.path}: the run is {status}, not finished, and has no result to report; go on "
            f"with it: metaward resume {folder.path}"
        )
    return folder.result()


def _tables(run: Sim, saved: Mapping[str, Any]) -> list[ScoreTable]:
    known = {score.name: score for score in run.spec().kind.scores}
    return [
        ScoreTable(known[t["metric"]], t["episodes"], tuple(LearnerRow(**r) for r in t["rows"]))
        for t in saved["tables"]
    ]


def _curves(trained: list[Phase], score: Score, judges: str) -> Plot | None:
    """The learning curves, the run's own first, before and after adaptation."""
    first = trained[0]
    before = [score.scale * row["before"] for row in first.watched]
    start = Series(f"{first.learner}, not adapted", [r["round"] for r in first.watched], before)
    lines = [scores(phase, score.scale) for phase in trained]
    title, label = f"Score at the {judges} hospitals over the rounds", score.label
    return plot(title, label, [lines[0], start, *lines[1:]], score.digits)


def over_epsilon(run: Sim, folder: Folder, table: ScoreTable) -> Plot | None:
    """The score over what was spent, beside the final scores of all learners; None where nothing
    was spent, or no ledger is here."""
    there = run.privacy.budget is not None and (folder.path / "privacy.json").is_file()
    points = scores_over_epsilon(folder) if there else []
    if not points:
        return None
    scale, own = table.score.scale, table.rows[0].learner
    columns = ([scale * row[key] for _, row in points] for key in ("after", "low", "high"))
    line = Series(f"{own}, adapted", [epsilon for epsilon, _ in points], *columns)
    levels = {row.learner: scale * row.after for row in table.rows[1:]}
    levels = {f"{own}, final": scale * table.rows[0].after} | levels
    title = "Score over the epsilon that was spent"
    return over_amounts(title, table.score.label, line, levels, table.score.digits, "epsilon")


def _round_times(phase: Phase) -> Plot | None:
    rows = [row for row in phase.trained if "seconds" in row]
    line = Series("a round", [r["round"] for r in rows], [r["seconds"] for r in rows])
    return plot("Time of each round", "seconds", [line], 1)


def _seconds(started: str, finished: str) -> float:
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()


def _pictures(folder: Folder) -> list[tuple[str, str]]:
    """Each picture that is there, as a data: address, and its words."""
    there = {name: folder.path / name for name in PICTURES if (folder.path / name).is_file()}
    return [
        (f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", PICTURES[name])
        for name, path in there.items()
    ]


FILES = {
    "privacy.html": "the privacy report: what was promised, spent, checked and not covered",
    "report.md": "the final table as text",
    "result.json": "the same for programs",
    "metrics.jsonl": "every round and evaluation",
    "config.json": "the configuration, every default filled in",
    "theta.safetensors": "the shared initialisation",
    "body.safetensors": "its body, from which another run can start",
    "curve.png": "the curve and each hospital's score as a picture",
    "hospitals.log": "what simulated hospitals said locally",
    "audit.json": "an audit of the mechanism",
    "audit.jsonl": "the server's own log: requests, replies, rejections, checkpoints",
}
"""The files that the page names, if they are there."""


def _files(folder: Folder, place: Path) -> list[tuple[str, str, str]]:
    """Name, relative address and meaning of each file."""
    way = os.path.relpath(folder.path.resolve(), place.resolve())
    return [
        (name, quote(Path(way, name).as_posix()), words)
        for name, words in FILES.items()
        if (folder.path / name).is_file()
    ]
