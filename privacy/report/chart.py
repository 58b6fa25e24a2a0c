"""The budget over time as the geometry of an SVG: stepped lines, a range, budget lines.

Rounds stand side by side in the order of time, because runs last minutes and lie weeks apart.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metaward.privacy.report.parts import Hospital
from metaward.privacy.report.show import show_budget, show_loss

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 580, 30, 300
LINES = 5
"""Hospitals drawn by name; the range of all others is shaded."""

GAP = 15.0
LETTER = 6.8
GRID = 200
"""Pixels between two names, pixels of a letter, places at which a range is drawn."""


@dataclass(frozen=True)
class Label:
    """A text at a place."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """A stepped line and the name at its end; ``end`` is where the line itself ends."""

    path: str
    label: Label
    end: float


@dataclass(frozen=True)
class Chart:
    """All that the picture holds; ``words`` says the same to those who do not see it."""

    lines: tuple[Line, ...]
    band: str
    others: int
    budgets: tuple[Label, ...]
    y_ticks: tuple[Label, ...]
    runs: tuple[Label, ...]
    dates: tuple[Label, ...]
    words: str


Slot = tuple[str, int]
"""A run and a round of it."""


@dataclass(frozen=True)
class Scale:
    """From the number of a slot and epsilon to the picture; what is too high stands at the top."""

    slots: int
    top: float

    def x(self, slot: float) -> float:
        """Pixels from the left."""
        return round(LEFT + (RIGHT - LEFT) * (slot + 1) / (self.slots + 1), 1)

    def y(self, epsilon: float) -> float:
        """Pixels from above."""
        return round(BOTTOM - (BOTTOM - TOP) * min(epsilon / self.top, 1.0), 1)


@dataclass(frozen=True)
class Series:
    """A hospital's spend: what was reached in which slot."""

    name: str
    slots: tuple[int, ...]
    epsilons: tuple[float, ...]

    def at(self, slot: int) -> float:
        """Spent up to and including a slot."""
        index = bisect_right(self.slots, slot)
        return self.epsilons[index - 1] if index else 0.0


def chart(hospitals: Sequence[Hospital]) -> Chart | None:
    """The picture; None where nothing finite was spent."""
    slots = _slots(hospitals)
    numbers = {slot: i for i, slot in enumerate(slots)}
    found = [_series(hospital, numbers) for hospital in hospitals if hospital.history]
    found.sort(key=lambda series: -series.epsilons[-1])
    finite = [e for series in found for e in series.epsilons if math.isfinite(e)]
    if not finite:
        return None
    budgets = sorted({h.budget for h in hospitals if h.budget is not None})
    budgets = budgets if len(budgets) <= 3 else [budgets[0], budgets[-1]]
    scale = Scale(len(slots), 1.08 * max([*finite, *budgets, 1e-3]))
    runs = _runs(slots)
    return Chart(
        lines=_lines(found[:LINES], scale),
        band=_band(found[LINES:], scale),
        others=len(found[LINES:]),
        budgets=tuple(Label(LEFT, scale.y(b), f"budget {show_budget(b)}") for b in budgets),
        y_ticks=_y_ticks(scale),
        runs=_run_names(runs, scale),
        dates=_dates(runs, slots, scale),
        words=_words(found, budgets, list(slots.values())),
    )


def _slots(hospitals: Sequence[Hospital]) -> Mapping[Slot, str]:
    """Every round of every run and when it was first charged, in the order of time."""
    first: dict[Slot, str] = {}
    for point in (point for hospital in hospitals for point in hospital.history):
        slot = (point.run, point.round)
        first[slot] = min(point.time, first.get(slot, point.time))
    return dict(sorted(first.items(), key=lambda item: (item[1], item[0])))


def _series(hospital: Hospital, numbers: Mapping[Slot, int]) -> Series:
    reached: dict[int, float] = {}
    for point in hospital.history:
        number = numbers[point.run, point.round]
        reached[number] = max(point.epsilon, reached.get(number, 0.0))
    order = sorted(reached)
    return Series(hospital.name, tuple(order), tuple(reached[number] for number in order))


def _lines(drawn: Sequence[Series], scale: Scale) -> tuple[Line, ...]:
    ends = [scale.y(series.epsilons[-1]) for series in drawn]
    places = _apart(ends)
    return tuple(
        Line(_path(series, scale), Label(RIGHT + 16, place, short(series.name, 22)), end)
        for series, end, place in zip(drawn, ends, places, strict=True)
    )


def _path(series: Series, scale: Scale) -> str:
    """Level until a charge, then straight up."""
    steps = zip(series.slots, series.epsilons, strict=True)
    moves = [f"H{scale.x(slot)}V{scale.y(e)}" for slot, e in steps]
    return f"M{LEFT} {scale.y(0)}{''.join(moves)}H{RIGHT}"


def _apart(ends: Sequence[float]) -> list[float]:
    """Heights for the names: near their line, never closer than ``GAP``, inside the picture."""
    order = sorted(range(len(ends)), key=lambda i: ends[i])
    placed = [0.0] * len(ends)
    above = -math.inf
    for i in order:
        placed[i] = above = max(ends[i], above + GAP)
    below = BOTTOM + GAP
    for i in reversed(order):
        placed[i] = below = min(placed[i], below - GAP)
    return placed


def _band(others: Sequence[Series], scale: Scale) -> str:
    """From the least to the most spent; every slot, or where there are many, ``GRID`` of them."""
    if not others:
        return ""
    every = -(-scale.slots // GRID)
    grid = [*range(0, scale.slots - 1, every), scale.slots - 1]
    spent = [[series.at(slot) for series in others] for slot in grid]
    upper = "".join(f"H{scale.x(t)}V{scale.y(max(e))}" for t, e in zip(grid, spent, strict=True))
    backwards = zip(reversed(grid), reversed(spent), strict=True)
    lower = "".join(f"V{scale.y(min(e))}H{scale.x(t)}" for t, e in backwards)
    return f"M{LEFT} {scale.y(0)}{upper}H{RIGHT}{lower}V{scale.y(0)}Z"


def _y_ticks(scale: Scale) -> tuple[Label, ...]:
    rough = scale.top / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
    values = [step * i for i in range(int(scale.top / step) + 1)]
    return tuple(Label(LEFT - 8, scale.y(value), f"{value:g}") for value in values)


def _runs(slots: Mapping[Slot, str]) -> list[tuple[str, int]]:
    """Each run and the number of its first slot."""
    starts: dict[str, int] = {}
    for number, (run, _) in enumerate(slots):
        starts.setdefault(run, number)
    return list(starts.items())


def _run_names(runs: Sequence[tuple[str, int]], scale: Scale) -> tuple[Label, ...]:
    """Where each run begins, named as far as there is room."""
    places = [scale.x(number) for _, number in runs]
    rooms = [
        int((after - x) / LETTER) for x, after in zip(places, [*places[1:], WIDTH], strict=True)
    ]
    found = zip(runs, places, rooms, strict=True)
    return tuple(
        Label(x, TOP - 12, short(run, min(room, 24)) if room > 3 else "")
        for (run, _), x, room in found
    )


def _dates(
    runs: Sequence[tuple[str, int]], slots: Mapping[Slot, str], scale: Scale
) -> tuple[Label, ...]:
    """When each run began; left out where it would run into the one before."""
    times = list(slots.values())
    found: list[Label] = []
    free = -math.inf
    for _, number in runs:
        x, text = scale.x(number), _date(times[number], times)
        if x >= free:
            found.append(Label(x, BOTTOM + 20, text))
            free = x + LETTER * (len(text) + 2)
    return tuple(found)


def _date(time: str, times: Sequence[str]) -> str:
    """The day; with the hour where all is within two days."""
    at, first, last = (datetime.fromisoformat(t) for t in (time, times[0], times[-1]))
    if last - first > timedelta(days=2):
        return f"{at.day} {at:%b %Y}"
    return f"{at.day} {at:%b %H:%M}"


def _words(found: Sequence[Series], budgets: Sequence[float], times: Sequence[str]) -> str:
    worst, least = found[0], found[-1]
    limit = f" Budget: {' and '.join(map(show_budget, budgets))}." if budgets else " No budget."
    return (
        f"Epsilon spent by {len(found)} hospitals in {len(times)} round{'s' * (len(times) != 1)}, "
        f"{_date(times[0], times)} to {_date(times[-1], times)}. "
        f"Most: {show_loss(worst.epsilons[-1])} at {worst.name}. "
        f"Least: {show_loss(least.epsilons[-1])} at {least.name}.{limit}"
    )


def short(text: str, most: int) -> str:
    """A text cut to ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"
