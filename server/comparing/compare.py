"""What differs between runs, and paired differences where they were judged on equal episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from metaward.client.scores import score_called
from metaward.client.tasks.kinds import Score
from metaward.options import ConfigError
from metaward.server.comparing.side import Side, side
from metaward.server.evaluations.statistics import (
    Interval,
    PairedTest,
    holm,
    paired_test,
    sampled_hospitals,
)

PLACES = ("data.root", "server.out")
"""Keys that say where files lie on a machine, and nothing about a run."""

ABSENT = "(no such key)"
"""Stands for the value of a key that a run's configuration does not have."""


@dataclass(frozen=True)
class TwoRuns:
    """Two finished runs: how much ``better`` the first one is at the hospitals, or ``why`` that
    cannot be said. ``hospitals`` and ``test`` are None where there is one hospital."""

    one: str
    other: str
    better: float | None = None
    hospitals: Interval | None = None
    test: PairedTest | None = None
    why: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: ``keys`` whose values differ, with each run's, and every two of them."""

    sides: tuple[Side, ...]
    keys: Mapping[str, tuple[Any, ...]]
    pairs: tuple[TwoRuns, ...]

    @property
    def finished(self) -> list[Side]:
        """The runs that have a final table."""
        return [one for one in self.sides if one.table is not None]

    def plain(self) -> dict[str, Any]:
        """Everything as plain data; a curve stays in its run's own folder."""
        runs = [
            {key: value for key, value in asdict(one).items() if key not in ("config", "curve")}
            for one in self.sides
        ]
        names = [one.name for one in self.sides]
        keys = {key: dict(zip(names, values, strict=True)) for key, values in self.keys.items()}
        return {"runs": runs, "differing": keys, "pairs": [asdict(pair) for pair in self.pairs]}


def compare(paths: Sequence[Path]) -> Comparison:
    """Set runs side by side; ``ConfigError`` for fewer than two, or a folder without a run."""
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ConfigError(["name two or more different result folders"], "compare")
    sides = tuple(side(p, name) for p, name in zip(paths, _names(paths), strict=True))
    keys = dict.fromkeys(key for one in sides for key in one.config if key not in PLACES)
    values = {key: tuple(one.config.get(key, ABSENT) for one in sides) for key in keys}
    differing = {key: found for key, found in values.items() if any(v != found[0] for v in found)}
    finished = [one for one in sides if one.table is not None]
    return Comparison(sides, differing, _pairs(finished))


def score_of(one: Side) -> Score:
    """The main score of a finished run."""
    assert one.table is not None
    name = one.table["metric"]
    score = score_called(name)
    if score is None:
        raise ConfigError([f"its score {name!r} is unknown here"], one.name)
    return score


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where two have the same."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _pairs(finished: Sequence[Side]) -> tuple[TwoRuns, ...]:
    """Every two runs; p-values are corrected for the number of those that can be compared."""
    both = list(combinations(finished, 2))
    paired = [_paired(a, b, len(both)) for a, b in both]
    tests = [pair.test for pair in paired if pair.test is not None]
    corrected = iter(holm([test.p for test in tests]))
    return tuple(
        replace(pair, test=replace(pair.test, corrected=next(corrected))) if pair.test else pair
        for pair in paired
    )


def _paired(a: Side, b: Side, comparisons: int) -> TwoRuns:
    why = other_episodes(a, b)
    if why:
        return TwoRuns(a.name, b.name, why=f"not judged on the same episodes: {why}")
    score, theirs = score_of(a), b.first["hospitals"]
    mine = a.first["hospitals"]
    gaps = {name: score.advantage(value, theirs[name]) for name, value in mine.items()}
    values = list(gaps.values())
    arrays = {name: np.array([gap]) for name, gap in gaps.items()}
    test = paired_test(arrays, comparisons) if len(values) > 1 else None
    return TwoRuns(a.name, b.name, float(np.mean(values)), sampled_hospitals(values), test)


def other_episodes(a: Side, b: Side) -> str | None:
    """Why two finished runs were not judged on the same episodes; None if they were.

    A simulated hospital's episodes follow from the seed, the task source with all its options, and
    the hospital's number; the folders say no more about records than these.
    """
    assert a.table is not None
    assert b.table is not None
    if not (a.simulated and b.simulated):
        return "a deployed run's hospitals have records that its folder does not know"
    if a.config["seed"] != b.config["seed"]:
        return "the seeds differ"
    tasks = [key for key in {**a.config, **b.config} if key.startswith("client.tasks.")]
    differing = [key for key in tasks if a.config.get(key) != b.config.get(key)]
    if differing:
        return f"{', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'}"
    if a.table["episodes"] != b.table["episodes"]:
        return "server.evaluation.final_episodes differs"
    if a.table["metric"] != b.table["metric"] or set(a.first["hospitals"]) != set(
        b.first["hospitals"]
    ):
        return "other hospitals or another score judged them"
    return None
