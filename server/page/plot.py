"""Lines over rounds, or over another number, for SVG; the template draws them inside the page.

So they take the page's colours on a dark screen and on paper, and their texts can be read aloud.
Places are percent of the drawing, from its left and from its upper edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

LINES = 8
"""The most lines of one plot; the style sheet has as many colours."""


@dataclass(frozen=True)
class Series:
    """A line: ``y`` at the rounds ``x`` (or at other numbers), and the band from ``low`` to
    ``high``, if it has one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Tick:
    """A number beside an axis and its place along it."""

    at: float
    text: str


@dataclass(frozen=True)
class DrawnLine:
    """A line and its band as SVG paths; ``dots`` are the points of a short line."""

    name: str
    path: str
    band: str
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """What one picture shows; ``words`` say the same to somebody who cannot see it."""

    title: str
    label: str
    lines: Sequence[DrawnLine]
    rounds: Sequence[Tick]
    values: Sequence[Tick]
    words: str
    axis: str = "round"


@dataclass(frozen=True)
class PlotFrame:
    """The range of both axes."""

    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        """The place of a round."""
        return round(100 * (value - self.left) / (self.right - self.left), 2)

    def y(self, value: float) -> float:
        """The place of a value."""
        return round(100 * (self.top - value) / (self.top - self.bottom), 2)


def plot(title: str, label: str, series: Sequence[Series], digits: int) -> Plot | None:
    """The picture of these lines, ``LINES`` of them at most; None where no line has two points."""
    shown = [one for one in series if one.x][:LINES]
    if not any(len(one.x) > 1 for one in shown):
        return None
    frame = _frame(shown)
    whole = _ticks(frame.left, frame.right, whole=True)
    places = [Tick(frame.x(n), f"{n:g}") for n in whole]
    words = " ".join(_words(one, digits) for one in shown)
    return _plot(title, label, shown, frame, places, words)


def over_sizes(
    title: str, label: str, series: Sequence[Series], digits: int, axis: str
) -> Plot | None:
    """The same over numbers of any distance, which are set side by side; ``axis`` names them."""
    sizes = sorted({n for one in series for n in one.x})
    if len(sizes) < 2:
        return None
    shown = [replace(one, x=[sizes.index(n) for n in one.x]) for one in series[:LINES]]
    frame = _frame(shown)
    places = [Tick(frame.x(at), f"{n:g}") for at, n in enumerate(sizes)]
    words = " ".join(_words(one, digits, "with") for one in series[:LINES])
    words = words + f" The numbers count {axis}."
    return replace(_plot(title, label, shown, frame, places, words), axis=axis)


def over_amounts(
    title: str,
    label: str,
    line: Series,
    levels: Mapping[str, float],
    digits: int,
    axis: str,
) -> Plot:
    """A line over an amount from 0 on, which ``axis`` names, and level lines to compare with."""
    ends = [0.0, max(line.x) or 1.0]
    shown = [line, *(Series(name, ends, [y, y]) for name, y in levels.items())][:LINES]
    frame = replace(_frame(shown), left=0.0)
    places = [Tick(frame.x(n), f"{n:g}") for n in _ticks(frame.left, frame.right)]
    words = [_words(line, digits, f"at {axis}")]
    words += [f"{one.name}: {one.y[0]:.{digits}f}." for one in shown[1:]]
    return replace(_plot(title, label, shown, frame, places, " ".join(words)), axis=axis)


def _plot(
    title: str,
    label: str,
    shown: Sequence[Series],
    frame: PlotFrame,
    places: Sequence[Tick],
    words: str,
) -> Plot:
    values = [Tick(frame.y(v), f"{v:g}") for v in _ticks(frame.bottom, frame.top)]
    return Plot(title, label, [_drawn(one, frame) for one in shown], places, values, words)


def _frame(series: Sequence[Series]) -> PlotFrame:
    rounds = [n for one in series for n in one.x]
    values = [v for one in series for v in (*one.y, *one.low, *one.high)]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return PlotFrame(min(rounds), max(rounds), low - room, high + room)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    from matplotlib.ticker import MaxNLocator  # here: matplotlib takes a second to import

    found = MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
    return [float(np.round(v, 12)) for v in found if low <= v <= high]


def _drawn(one: Series, frame: PlotFrame) -> DrawnLine:
    points = [(frame.x(n), frame.y(v)) for n, v in zip(one.x, one.y, strict=True)]
    there, back = zip(one.x, one.high, strict=False), zip(one.x, one.low, strict=False)
    band = [(frame.x(n), frame.y(v)) for n, v in (*there, *reversed([*back]))]
    return DrawnLine(one.name, _path(points), _path(band), points if len(points) <= 12 else ())


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _words(one: Series, digits: int, where: str = "in round") -> str:
    """A line in words: its first and its last value."""
    first, last = f"{one.y[0]:.{digits}f}", f"{one.y[-1]:.{digits}f}"
    at, end = f"{one.x[0]:.5g}", f"{one.x[-1]:.5g}"
    return f"{one.name}: {first} {where} {at}, {last} {where} {end}."
