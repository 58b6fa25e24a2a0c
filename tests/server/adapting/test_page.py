"""report.html of an adaptation: whole, self-contained, true to its numbers, and fit for a phone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metaward.privacy.ledger import Ledger
from metaward.server.adapting.adapt import AdaptedRun, Wish, adapt_run
from metaward.server.adapting.page import bins, class_rows, curve_plot, matrix, page
from metaward.server.adapting.terms import terms_of
from metaward.server.adapting.write import write_adapted
from metaward.server.evaluations.finished import open_learned
from metaward.server.page.plot import Series, over_sizes
from tests.privacy.report.report_browser import Browser
from tests.server.page.test_page import Read, assert_ways_are_seen


@pytest.fixture(scope="module")
def private(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model that may be published."""
    folder = tmp_path_factory.mktemp("private")
    Ledger.create(folder / "ledger.sqlite", "west")
    finished = open_learned(place / "run")
    terms = terms_of(finished, {"epsilon": 2.0}, folder / "ledger.sqlite", None)
    found = adapt_run(finished, place / "consortium" / "west", Wish(None, 2, 2), terms)
    write_adapted(found, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def pages(written: Path, private: Path) -> list[Path]:
    return [written / "report.html", private / "local" / "report.html"]


def test_they_are_whole_and_ask_for_nothing(pages: list[Path]) -> None:
    for path in pages:
        read = Read(path.read_text(encoding="utf-8"))
        assert read.open == []
        assert read.all("script") == read.all("link") == []
        links = [one["href"] or "" for one in read.all("a")]
        assert "model.safetensors" in {Path(link).name for link in links}
        assert all((path.parent / link).is_file() for link in links if not link.startswith("#"))
        drawings = [one for one in read.all("svg") if one.get("role") == "img"]
        assert len(drawings) > 5
        assert all(one.get("aria-label") or one.get("aria-labelledby") for one in drawings)


def test_the_page_says_whether_the_model_may_leave(pages: list[Path]) -> None:
    secret, private = (" ".join(Read(p.read_text(encoding="utf-8")).text.split()) for p in pages)
    assert "without any protection" in secret
    assert "may be published" not in secret.replace("A model that may be published:", "")
    for words in ("epsilon at most 2.00", "Not covered", "noise multiplier", "This page stays"):
        assert words in private


def test_its_numbers_are_those_of_the_other_files(written: Path, made: AdaptedRun) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    saved = json.loads((written / "adapt.json").read_text(encoding="utf-8"))
    shown = made.scores[0]
    for row in saved["rows"]:
        assert shown.text(row["scores"][shown.name]["mean"]) in text
    confusion = np.array(saved["confusion"])
    rows = class_rows(made)
    assert [one.records for one in rows] == list(saved["classes"].values())
    recognised = 100 * confusion.diagonal() / confusion.sum(axis=1)
    assert [one.recognised for one in rows] == pytest.approx(recognised.tolist())
    assert all(sum(c.percent for c in line) == pytest.approx(100) for _, line in matrix(made))
    assert sum(one.count for one in bins(made)) == confusion.sum()
    sizes = [tuple(one["shots"]) for one in saved["curves"]]
    assert len(sizes) == 3
    assert {one[:4] for one in sizes} == {(1, 2, 5, 10)}


def test_a_class_that_is_never_predicted_and_many_classes_have_words(made: AdaptedRun) -> None:
    confusion = made.verdict.confusion.copy()
    confusion[:, 0] = 0
    never = replace(made, verdict=replace(made.verdict, confusion=confusion))
    assert class_rows(never)[0].right is None
    assert "never predicted" in page(never, {})
    alone = replace(made, curves=())
    assert curve_plot(alone) is None
    assert "No curve" in page(alone, {})


def test_sizes_stand_side_by_side() -> None:
    assert over_sizes("title", "label", [Series("a", [5], [0.5])], 3, "records") is None
    drawn = over_sizes("title", "label", [Series("a", [1, 5, 100], [0.5, 0.6, 0.9])], 3, "records")
    assert drawn is not None
    assert [(tick.at, tick.text) for tick in drawn.rounds] == [(0, "1"), (50, "5"), (100, "100")]
    assert drawn.axis == "records"
    assert "a: 0.500 with 1, 0.900 with 100." in drawn.words


@pytest.mark.parametrize("width", [390, 1280])
def test_they_fit_their_window(tab: Browser, pages: list[Path], width: int) -> None:
    tab.shape(width, "light")
    for path in pages:
        tab.open(path)
        assert tab.value("document.styleSheets[0].cssRules.length") > 50
        assert tab.value("document.documentElement.scrollWidth") <= width
        asked = [event["request"]["url"] for event in tab.named("Network.requestWillBeSent")]
        assert len(asked) == 1, "the page itself"
        assert tab.named("Log.entryAdded") == []
        assert_ways_are_seen(tab, width)
