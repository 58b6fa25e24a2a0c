"""What a run leaves for its reader: result.json, report.md and the pictures."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from metaward.files import replace_file
from metaward.privacy.wire import compact
from metaward.server.checkpoint import digest
from metaward.server.evaluate import Row, Table
from metaward.server.folder import Folder
from metaward.sim import Sim

LIBRARIES = ("metaward", "flwr", "torch", "opacus", "numpy")


def write_reports(run: Sim, folder: Folder, table: Table) -> None:
    """Write the final table for programs and for people, and draw the run."""
    from metaward.server.picture import (
        draw_curve,  # here, because matplotlib takes a second to import
    )
    from metaward.server.sine_picture import draw_sine

    folder.write_json("result.json", result(run, table))
    text = report(run, table)
    replace_file(folder.path / "report.md", text.encode())
    draw_curve(folder, table)
    draw_sine(run, folder)


def result(run: Sim, table: Table) -> dict[str, Any]:
    """Everything a program needs of a finished run."""
    return {
        "name": run.name,
        "seed": run.seed,
        "config_sha256": digest(compact(run.mapping()).encode()),
        "privacy": run.privacy.claim,
        "table": table.plain(),
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {platform.system()}",
    }


def report(run: Sim, table: Table) -> str:
    """The table in Markdown, with what its columns mean."""
    spec = run.client.tasks.spec()
    unit = "accuracy, %" if table.metric == "accuracy" else "mean squared error"
    head = [
        "learner",
        "steps",
        "before",
        f"after ({unit})",
        "95 % interval",
        "worst hospital",
        "gap",
    ]
    lines = [
        f"# {run.name}",
        "",
        f"**{run.privacy.claim}**",
        "",
        f"Unseen hospitals, {table.episodes} episodes each, {spec.outputs} outputs, "
        f"seed {run.seed}, {run.server.rounds} rounds.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(cells(row, table.metric)) + " |" for row in table.rows),
        "",
        *LEGEND,
    ]
    return "\n".join(lines) + "\n"


LEGEND = (
    "- before / after: query score of theta as it arrives, and after `steps` adaptation steps on "
    "the support set; the mean over hospitals.",
    "- 95 % interval: of `after`, over episodes, the hospitals taken as fixed.",
    "- gap: how much better the first row is than this one, with a 95 % t-interval over hospitals "
    "(paired, the hospitals taken as a sample).",
    "- All learners see the same episodes. The data of these evaluation-only hospitals is not "
    "covered by any epsilon.",
)


def cells(row: Row, metric: str) -> list[str]:
    """One row of the table as text, accuracies in percent."""
    scale, digits = (100, 1) if metric == "accuracy" else (1, 3)

    def show(value: float) -> str:
        return f"{scale * value:.{digits}f}"

    gap = "" if row.gap is None else f"{scale * row.gap:+.{digits}f}"
    if row.gap_low is not None and row.gap_high is not None:
        gap += f" [{scale * row.gap_low:+.{digits}f}, {scale * row.gap_high:+.{digits}f}]"
    return [
        row.learner,
        str(row.steps),
        show(row.before),
        show(row.after),
        f"[{show(row.low)}, {show(row.high)}]",
        f"{show(row.worst)} ({row.worst_hospital})",
        gap,
    ]
