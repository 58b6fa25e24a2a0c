"""The results of a run for its readers: result.json and report.md."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from metaward.client.tasks.kinds import Score
from metaward.files import replace_file
from metaward.options import compact
from metaward.server.baselines import claim
from metaward.server.checkpoint import digest
from metaward.server.evaluate import LearnerRow, ScoreTable
from metaward.server.folder import Folder
from metaward.server.keep import Chosen
from metaward.server.missed import Missed, missed
from metaward.sim import Sim

LIBRARIES = ("metaward", "flwr", "torch", "opacus", "numpy")


def write_reports(
    run: Sim, folder: Folder, tables: Sequence[ScoreTable], kept: Sequence[Chosen]
) -> None:
    """Write the final tables for programs and for people."""
    absent = missed(run, folder)
    folder.write_json("result.json", result(run, tables, kept, absent))
    text = report(run, tables, kept, absent)
    replace_file(folder.path / "report.md", text.encode())


def result(
    run: Sim,
    tables: Sequence[ScoreTable],
    kept: Sequence[Chosen],
    absent: Sequence[Missed] = (),
) -> dict[str, Any]:
    """Everything that a program needs from a finished run."""
    return {
        "name": run.name,
        "seed": run.seed,
        "config_sha256": digest(compact(run.mapping()).encode()),
        "privacy": claim(run),
        "kept": [one.plain() for one in kept],
        "tables": [table.plain() for table in tables],
        "missed": [one.plain() for one in absent],
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {platform.system()}",
    }


def report(
    run: Sim,
    tables: Sequence[ScoreTable],
    kept: Sequence[Chosen],
    absent: Sequence[Missed] = (),
) -> str:
    """The tables in Markdown, with the meaning of their columns."""
    spec = run.client.tasks.spec()
    lines = [
        f"# {run.name}",
        "",
        f"**{claim(run)}**",
        "",
        f"{run.server.evaluation.judges.capitalize()} hospitals, {tables[0].episodes} episodes "
        f"each, {spec.outputs} outputs, "
        f"seed {run.seed}, {run.server.rounds} rounds.",
        "",
        *choices(run, tables[0].score, kept),
        *(line for table in tables for line in markdown(table)),
        *LEGEND,
        *notes(absent),
    ]
    return "\n".join(lines) + "\n"


def choices(run: Sim, score: Score, kept: Sequence[Chosen]) -> list[str]:
    """Which rounds the validation hospitals have chosen, and an empty line; nothing if none."""
    evaluation, seats = run.server.evaluation, run.client.tasks.roster()
    if evaluation.keep == "last":
        return []
    count = sum(seat.role == "validation" for seat in seats)
    rounds = [f"- {one.text(score)}" for one in kept]
    return [
        f"The result of each training is the theta of its best round, chosen by {count} hospitals "
        f"set aside for it, every {evaluation.every} rounds, in {evaluation.episodes} episodes "
        "each, by the mean score after adaptation (95 % interval over episodes; the best of many "
        "rounds looks better than it is):",
        "",
        *rounds,
        "",
    ]


def notes(absent: Sequence[Missed]) -> list[str]:
    """Who did not take part in all that it was asked for; nothing if all did."""
    if not absent:
        return []
    lines = [f"- {one.text()}" for one in absent]
    return ["", "**Answers of hospitals that did not count:**", "", *lines]


def markdown(table: ScoreTable) -> list[str]:
    """One table, and an empty line."""
    after = f"after ({table.score.label})"
    rows = (cells(row, table.score) for row in table.rows)
    head = ["learner", "steps", "before", after, "95 % interval", "worst hospital", "gap"]
    lines = ["| " + " | ".join(line) + " |" for line in [head, *rows]]
    return [lines[0], "|" + "---|" * len(head), *lines[1:], ""]


LEGEND = (
    "- before / after: query score of theta as it arrives, and after `steps` adaptation steps on "
    "the support set; the mean over hospitals.",
    "- 95 % interval: of `after`, over episodes, the hospitals taken as fixed; clipped to "
    "the values that the score can have.",
    "- gap: how much better the first row is than this one, with a 95 % t-interval over hospitals "
    "(paired, the hospitals taken as a sample).",
    "- All learners see the same episodes. The data of these evaluation-only hospitals is not "
    "covered by any epsilon.",
)


def cells(row: LearnerRow, score: Score) -> list[str]:
    """One row of a table as text."""
    gap = "" if row.gap is None else score.signed(row.gap)
    if row.gap_low is not None and row.gap_high is not None:
        gap += f" [{score.signed(row.gap_low)}, {score.signed(row.gap_high)}]"
    return [
        row.learner,
        str(row.steps),
        score.text(row.before),
        score.text(row.after),
        f"[{score.text(row.low)}, {score.text(row.high)}]",
        f"{score.text(row.worst)} ({row.worst_hospital})",
        gap,
    ]
