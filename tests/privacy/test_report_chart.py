"""The picture of the budget over time, and numbers as they are printed."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward.privacy.report import chart as picture
from metaward.privacy.report import show
from metaward.privacy.report.chart import chart
from metaward.privacy.report.parts import Point
from metaward.privacy.rounding import percent_up
from tests.privacy.report_examples import (
    history,
    hospital,
    time,
)

# -------------------------------------------------------------------------------- chart


def test_a_line_ends_at_what_was_spent() -> None:
    one = hospital("A", 1.0)
    found = chart([one])
    assert found
    (line,) = found.lines
    share = (picture.BOTTOM - line.end) / (picture.BOTTOM - picture.TOP)
    assert share * 1.08 * 8.0 == pytest.approx(one.spent.epsilon, abs=0.02)
    assert line.path.count("V") == len(one.history)
    heights = [float(y) for y in re.findall(r"V([\d.]+)", line.path)]
    assert heights == sorted(heights, reverse=True)


def test_runs_begin_where_their_first_round_stands() -> None:
    found = chart([hospital("A", 1.0, runs=(("first", 0, 4), ("second", 50, 4)))])
    assert found
    assert [label.text for label in found.runs] == ["first", "second"]
    assert found.runs[1].x == pytest.approx(
        (picture.LEFT + (picture.RIGHT - picture.LEFT) * 5 / 9), abs=0.1
    )
    assert [label.text for label in found.dates] == ["2 Mar 2026", "21 Apr 2026"]


def test_names_of_lines_keep_apart_and_inside() -> None:
    found = chart([hospital(f"hospital {i}", 1.0 + i / 1e3) for i in range(5)])
    assert found
    places = sorted(line.label.y for line in found.lines)
    assert all(b - a >= picture.GAP - 0.1 for a, b in pairwise(places))
    assert places[-1] <= picture.BOTTOM


def test_the_range_holds_the_others() -> None:
    found = chart([hospital(f"h{i:02}", 0.2 + 0.1 * i) for i in range(12)])
    assert found
    assert (len(found.lines), found.others) == (5, 7)
    heights = [float(y) for y in re.findall(r"V([\d.]+)", found.band)]
    assert min(heights) > max(line.end for line in found.lines)


def test_thousands_of_rounds_draw_a_bounded_range() -> None:
    runs = tuple((f"run {i}", float(i), 20) for i in range(40))
    found = chart([hospital(f"h{i}", 0.5, runs=runs) for i in range(8)])
    assert found
    assert len(found.band) < 10_000
    assert len(found.runs) == 40


def test_nothing_spent_draws_nothing() -> None:
    bare = replace(hospital("A", 1.0), history=())
    endless = replace(bare, history=(Point(time(0), "r", 1, math.inf),))
    assert chart([bare]) is None
    assert chart([endless]) is None
    assert chart([replace(bare, history=history(0.5, (("r", 0.0, 1),)))]) is not None


# ------------------------------------------------------------------------------- numbers


@given(st.floats(0, 1))
def test_percentages_never_flatter(share: float) -> None:
    printed = float(percent_up(share).removesuffix(" %")) / 100
    assert -1e-8 <= printed - share <= 0.001 + 1e-8


@given(st.floats(0, 1e4))
def test_losses_are_rounded_up_and_what_is_left_down(value: float) -> None:
    assert -1e-7 <= float(show.show_loss(value)) - value <= 0.01 + 1e-7
    assert -0.01 - 1e-7 <= float(show.show_left(value)) - value <= 1e-7


def test_numbers_as_they_are_printed() -> None:
    assert percent_up(0.55332) == "55.4 %"
    assert show.show_loss(8.0) == "8.00"
    assert show.show_loss(2.001) == "2.01"
    assert show.show_loss(0.0501) == "0.051"
    assert show.show_loss(math.inf) == "unlimited"
    assert show.show_left(2.059) == "2.05"
    assert [show.show_small(x) for x in (1e-5, 1e-3, 3e-3, 1.25, 0.0)] == [
        "0.00001", "0.001", "0.003", "1.2", "0",
    ]  # fmt: skip
    assert show.show_count(11840) == "11\u2009840"
    assert show.show_time("2026-03-02T08:05:00Z") == "2 March 2026, 08:05 UTC"
