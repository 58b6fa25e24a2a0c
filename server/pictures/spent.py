"""The picture of what privacy buys: the score at unseen hospitals over the epsilon spent so far."""

from __future__ import annotations

import json
from collections.abc import Mapping

from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder
from metaward.server.pictures.figure import COLOURS, picture
from metaward.sim import Sim


def draw_spent(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Write spent.png from the privacy report and the evaluated rounds, where hospitals' ledgers
    are here; epsilon is that of the hospital that has spent most."""
    budget, spent = run.privacy.budget, spending(folder)
    points = [row for row in folder.rows() if "after" in row and row["round"] in spent]
    if not points or budget is None:
        return
    scale, x = table.score.scale, [spent[row["round"]] for row in points]
    after, low, high = ([scale * row[k] for row in points] for k in ("after", "low", "high"))
    with picture(folder.path / "spent.png", height=4.2) as figure:
        axes = figure.subplots()
        own = table.rows[0].learner
        axes.plot(x, after, marker="o", color=COLOURS[0], label=f"{own}, adapted")
        axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
        for row, colour in zip(table.rows, COLOURS * 9, strict=False):
            mine = row is table.rows[0]
            style, label = ("--", f"{own}, final") if mine else ("-", row.learner)
            axes.axhline(scale * row.after, color=colour, linestyle=style, linewidth=1, label=label)
        axes.set_xlim(left=0)
        few, many = run.server.evaluation.episodes, table.episodes
        tasks = f"curve: {few} tasks of each hospital; level lines: {many}, final"
        axes.set_xlabel(f"epsilon spent, at delta {budget.delta:g} ({tasks})")
        axes.set_ylabel(f"query {table.score.label}")
        axes.set_title(f"What is learned for what is spent (unit: {run.privacy.unit.name})")
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def spending(folder: Folder) -> Mapping[int, float]:
    """The most that any unit had spent after each round, as epsilon at the agreed delta, from the
    run's privacy report; empty where no ledger is here."""
    report = json.loads((folder.path / "privacy.json").read_text(encoding="utf-8"))
    spent: dict[int, float] = {}
    for hospital in report["hospitals"]:
        for point in hospital["history"]:
            spent[point["round"]] = max(point["epsilon"], spent.get(point["round"], 0.0))
    return spent
