"""The picture of what privacy buys: the score at unseen hospitals over the epsilon spent so far."""

from __future__ import annotations

from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder
from metaward.server.pictures.figure import COLOURS, picture
from metaward.server.spending import scores_over_epsilon
from metaward.sim import Sim


def draw_spent(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Write spent.png from the privacy report and the evaluated rounds, where hospitals' ledgers
    are here; epsilon is that of the hospital that has spent most."""
    budget = run.privacy.budget
    points = scores_over_epsilon(folder) if budget else []
    if not points or budget is None:
        return
    scale, x = table.score.scale, [epsilon for epsilon, _ in points]
    after, low, high = ([scale * row[k] for _, row in points] for k in ("after", "low", "high"))
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
