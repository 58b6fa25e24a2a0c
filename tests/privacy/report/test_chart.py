"""The picture of the budget over time, and numbers as they are printed."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward.privacy.report import numbers
from metaward.privacy.report.chart import Chart, chart
from metaward.privacy.report.page import page
from metaward.privacy.report.sections import SpendingPoint, TrainingHospital
from metaward.privacy.rounding import percent_up
from tests.privacy.report.report_examples import (
    history,
    hospital,
    report,
    time,
)

# -------------------------------------------------------------------------------- chart


def drawn(*hospitals: TrainingHospital) -> Chart:
    made = chart(hospitals)
    assert made
    return made


def heights(path: str) -> list[float]:
    return [float(y) for y in re.findall(r"V([\d.]+)", path)]


def test_a_line_ends_at_what_was_spent() -> None:
    one = hospital("A", 1.0)
    (line,) = drawn(one).lines
    assert (line.name, line.spent) == ("A", pytest.approx(one.spent.epsilon))
    assert (100 - heights(line.path)[-1]) / 100 * 1.08 * 8.0 == pytest.approx(line.spent, abs=0.01)
    assert len(heights(line.path)) == len(one.history)
    assert heights(line.path) == sorted(heights(line.path), reverse=True)
    assert line.path.startswith("M0 100H")
    assert line.path.endswith("H100")


def test_what_a_line_says_is_what_an_independent_drawing_says() -> None:
    """The path, walked step by step, gives each point of the history back."""
    one = hospital("A", 1.0)
    (line,) = drawn(one).lines
    steps = re.findall(r"H([\d.]+)V([\d.]+)", line.path)
    for number, (point, (x, y)) in enumerate(zip(one.history, steps, strict=True), 1):
        assert float(x) == pytest.approx(100 * number / (len(one.history) + 1), abs=0.01)
        assert (100 - float(y)) / 100 * 1.08 * 8.0 == pytest.approx(point.epsilon, abs=0.01)


def test_runs_begin_where_their_first_round_is() -> None:
    first, second = drawn(hospital("A", 1.0, runs=(("first", 0, 4), ("second", 50, 4)))).runs
    assert (first.run, first.date) == ("first", "2 Mar 2026")
    assert (second.run, second.date) == ("second", "21 Apr 2026")
    assert second.at == pytest.approx(100 * 5 / 9, abs=0.1)
    assert first.room == int(second.at - first.at)


def test_names_and_dates_have_the_room_that_is_there() -> None:
    runs = (("a-run-with-a-long-name", 0, 1), ("next", 40, 30), ("the-last-of-all", 90, 1))
    text = page(report(hospitals=(hospital("A", 1.0, runs=runs),)))
    assert "a-run" not in text.split('class="plot"')[1].split("<figcaption")[0]  # no room at all
    assert ">next</text>" in text
    assert "2 Mar 2026</text>" not in text
    assert "11 Apr 2026</text>" in text
    long = page(report(hospitals=(hospital("A", 1.0, runs=((30 * "x", 0, 3),)),)))
    assert f">{23 * 'x'}\u2026</text>" in long


def test_the_legend_names_each_line_in_full_and_what_it_spent() -> None:
    name = "A hospital with a name that is longer than any label could be"
    text = page(report(hospitals=(hospital(name, 1.0),)))
    legend = text.split('class="legend"')[1].split("</ul>")[0]
    assert f"<bdi>{name}</bdi>: 4.38" in legend
    assert legend.count("<li>") == len(drawn(hospital(name, 1.0)).lines)


def test_the_range_holds_the_others() -> None:
    made = drawn(*(hospital(f"h{i:02}", 0.2 + 0.1 * i) for i in range(12)))
    assert (len(made.lines), made.others) == (5, 7)
    assert made.least.name == "h00"
    assert [line.name for line in made.lines] == ["h11", "h10", "h09", "h08", "h07"]
    assert min(heights(made.band)) > max(heights(line.path)[-1] for line in made.lines)


def test_budgets_are_drawn_at_their_height() -> None:
    pair = (hospital("A", 1.0), replace(hospital("B", 1.0), budget=5.0))
    assert drawn(*pair).budgets == [5.0, 8.0]
    limits = re.findall(r'class="limit" d="M0 ([\d.]+)H100"', page(report(hospitals=pair)))
    wanted = [100 - 100 * budget / (1.08 * 8) for budget in (5, 8)]
    assert list(map(float, limits)) == pytest.approx(wanted, abs=0.01)
    many = [replace(hospital(f"h{i}", 1.0), budget=5.0 + i) for i in range(6)]
    assert drawn(*many).budgets == [5.0, 10.0]


def test_thousands_of_rounds_draw_a_bounded_range() -> None:
    runs = tuple((f"run {i}", float(i), 20) for i in range(40))
    made = drawn(*(hospital(f"h{i}", 0.5, runs=runs) for i in range(8)))
    assert len(made.band) < 10_000
    assert len(made.runs) == 40


def test_nothing_spent_draws_nothing() -> None:
    bare = replace(hospital("A", 1.0), history=())
    endless = replace(bare, history=(SpendingPoint(time(0), "r", 1, math.inf),))
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
    assert -1e-7 <= float(numbers.show_loss(value)) - value <= 0.01 + 1e-7
    assert -0.01 - 1e-7 <= float(numbers.show_left(value)) - value <= 1e-7


def test_numbers_as_they_are_printed() -> None:
    assert percent_up(0.55332) == "55.4 %"
    assert percent_up(0.999665) == "99.97 %"
    assert percent_up(1.0) == "100.0 %"
    assert numbers.show_loss(8.0) == "8.00"
    assert numbers.show_loss(2.001) == "2.01"
    assert numbers.show_loss(0.0501) == "0.051"
    assert numbers.show_loss(math.inf) == "unlimited"
    assert numbers.show_left(2.059) == "2.05"
    assert [numbers.show_small(x) for x in (1e-5, 1e-3, 3e-3, 1.25, 0.0)] == [
        "0.00001", "0.001", "0.003", "1.2", "0",
    ]  # fmt: skip
    assert numbers.show_count(11840) == "11\u2009840"
    assert numbers.show_time("2026-03-02T08:05:00Z") == "2 March 2026, 08:05 UTC"
