"""The budget over time, as a picture: what the hospitals had spent after each round of every run.

Rounds are side by side in the order of time, because runs last minutes and lie weeks apart. The
template draws the picture as SVG inside the page instead of loading an image. It so takes the
page's colours on a dark screen and on paper, its texts can be read aloud, and the page's policy
can forbid all loading. Places are percent of the drawing, from its left and from its upper edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from metaward.privacy.report.sections import TrainingHospital

LINES = 5
"""Hospitals drawn by name; the range of all others is shaded."""
GRID = 200
"""The most places at which the range is drawn."""
LETTER, EDGE = 1.0, 110.0
"""The width of a letter and the right edge of the page, in percent of the drawing."""

Slots = Mapping[tuple[str, int], str]
"""Every round of every run and when it was first charged, in the order of time."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Beginning:
    """Where and when a run begins; ``room`` letters fit in before the next run."""

    at: float
    room: int
    run: str
    date: str


@dataclass(frozen=True)
class Line:
    """What a hospital spent in all, and the steps that led there as an SVG path."""

    name: str
    spent: float
    path: str


@dataclass(frozen=True)
class Chart:
    """What the picture shows.

    ``lines`` are those of the hospitals that spent most. ``band`` is the range of the ``others`` as
    an SVG path. ``top`` is the epsilon at the upper edge; ``budgets`` and ``ticks`` are epsilons.
    ``dates`` are those of all rounds.
    """

    lines: Sequence[Line]
    others: int
    least: Line
    band: str
    top: float
    budgets: Sequence[float]
    ticks: Sequence[float]
    runs: Sequence[Beginning]
    dates: Sequence[str]


def chart(hospitals: Sequence[TrainingHospital]) -> Chart | None:
    """The picture; None where nothing finite was spent."""
    finite = [point.epsilon for h in hospitals for point in h.history if point.epsilon < math.inf]
    if not finite:
        return None
    budgets = sorted({h.budget for h in hospitals if h.budget is not None})
    budgets = budgets if len(budgets) <= 3 else [budgets[0], budgets[-1]]
    top = 1.08 * max([*finite, *budgets, 1e-3])
    slots = _slots(hospitals)
    spending = {h.name: _spending(h, slots) for h in hospitals if h.history}
    names = sorted(spending, key=lambda name: -spending[name][-1])
    spent = np.array([spending[name] for name in names])
    heights = np.round(100 - 100 * np.minimum(spent / top, 1), 2)  # all above top is drawn there
    lines = list(map(Line, names, spent[:, -1].tolist(), map(_path, heights)))
    dates = _dates(list(slots.values()))
    return Chart(
        lines=lines[:LINES],
        others=len(lines[LINES:]),
        least=lines[-1],
        band=_band(heights[LINES:]),
        top=top,
        budgets=budgets,
        ticks=_ticks(top),
        runs=_beginnings([run for run, _ in slots], dates),
        dates=dates,
    )


def _slots(hospitals: Sequence[TrainingHospital]) -> Slots:
    points = [(p.time, p.run, p.round) for hospital in hospitals for p in hospital.history]
    slots: dict[tuple[str, int], str] = {}
    for time, run, number in sorted(points):
        slots.setdefault((run, number), time)
    return slots


def _spending(hospital: TrainingHospital, slots: Slots) -> Numbers:
    """What was spent up to and including each slot."""
    reached = dict.fromkeys(slots, 0.0)
    for point in hospital.history:
        slot = (point.run, point.round)
        reached[slot] = max(point.epsilon, reached[slot])
    return np.maximum.accumulate(list(reached.values()))


def _places(slots: int) -> Numbers:
    return np.round(100 * np.arange(1, slots + 1) / (slots + 1), 2)


def _path(heights: Numbers) -> str:
    """Level until a charge, then straight up; heights count from the upper edge."""
    steps = zip(_places(len(heights)), heights, [100, *heights], strict=False)
    return f"M0 100{''.join(f'H{x:g}V{y:g}' for x, y, before in steps if y != before)}H100"


def _band(heights: Numbers) -> str:
    """The range from the least to the most spent, at every slot or at about ``GRID`` of them."""
    if not len(heights):
        return ""
    slots = heights.shape[1]
    grid = np.unique([*range(0, slots, -(-slots // GRID)), slots - 1])
    x, most, least = _places(slots)[grid], heights.min(0)[grid], heights.max(0)[grid]
    there = "".join(f"H{x:g}V{y:g}" for x, y in zip(x, most, strict=True))
    back = "".join(f"V{y:g}H{x:g}" for x, y in zip(x[::-1], least[::-1], strict=True))
    return f"M0 100{there}H100{back}V100Z"


def _ticks(top: float) -> list[float]:
    """Round numbers from 0, at most five steps to the top."""
    rough = top / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
    return [step * i for i in range(int(top / step) + 1)]


def _beginnings(runs: Sequence[str], dates: Sequence[str]) -> list[Beginning]:
    """``runs`` and ``dates`` are those of every slot."""
    firsts = [runs.index(run) for run in dict.fromkeys(runs)]
    places = _places(len(runs))[firsts]
    rooms = np.diff([*places, EDGE]) / LETTER
    return [
        Beginning(float(x), int(room), runs[slot], dates[slot])
        for slot, x, room in zip(firsts, places, rooms, strict=True)
    ]


def _dates(times: Sequence[str]) -> list[str]:
    """The day of each time; with the hour, instead of the year, where all is within two days."""
    at = [datetime.fromisoformat(time) for time in times]
    rest = "%b %Y" if at[-1] - at[0] > timedelta(days=2) else "%b %H:%M"
    return [f"{one.day} {one:{rest}}" for one in at]
