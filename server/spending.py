"""What had been spent after each round of a run, from its privacy report."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

from metaward.json_text import UNLIMITED
from metaward.server.folder import Folder
from metaward.server.stored import stored


def spending(folder: Folder) -> Mapping[int, float]:
    """The most that any unit had spent after each round, as epsilon at the agreed delta, from the
    run's privacy report; empty where no ledger is here."""
    path = folder.path / "privacy.json"
    spent: dict[int, float] = {}
    for hospital in stored(path)["hospitals"]:
        for point in hospital["history"]:
            epsilon = inf if point["epsilon"] == UNLIMITED else point["epsilon"]
            spent[point["round"]] = max(epsilon, spent.get(point["round"], 0.0))
    return spent


def scores_over_epsilon(folder: Folder) -> list[tuple[float, Mapping[str, Any]]]:
    """The evaluated rounds of the run's own learner, each with the epsilon spent by then, in their
    order; those at which nothing finite is known to be spent are left out."""
    spent = spending(folder)
    rows = [(spent.get(row["round"], inf), row) for row in folder.rows() if "after" in row]
    return [(epsilon, row) for epsilon, row in rows if isfinite(epsilon)]
