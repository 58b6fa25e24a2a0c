"""report.html: whole, self-contained, true to the result folder, and fit for a phone."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from metaward.door import run as carry_out
from metaward.errors import InputError
from metaward.server.folder import Folder
from metaward.server.office.report.dossier import utc
from metaward.server.page.plot import Series, over_amounts, plot
from metaward.server.page.rounds import Phase, presences, turned_away
from metaward.server.page.write import write_page
from tests.privacy.report.report_browser import Browser
from tests.server.office.privacy_desk import private
from tests.server.small import small

VOID = {"meta", "img", "br", "line", "rect", "circle", "path"}
RUN = small("server.evaluation.baselines=[scratch, fedavg]")


class Read(HTMLParser):
    """The elements of a page, those that are not closed, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A finished run in which sine-01 was rejected twice, by its metrics."""
    path = carry_out(RUN, tmp_path_factory.mktemp("page") / "run").path
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for row in [row for row in rows if "accepted" in row][:2]:
        row["rejected"]["sine-01"] = "norm-above-cap"
        row["accepted"] = [name for name in row["accepted"] if name != "sine-01"]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Folder(path)


@pytest.fixture(scope="module")
def page(folder: Folder) -> Read:
    assert (folder.path / "report.html").is_file(), "the run has written it"
    return Read(write_page(folder).read_text(encoding="utf-8"))


def test_it_is_whole_and_asks_for_nothing(page: Read) -> None:
    assert page.open == []
    assert page.all("script") == page.all("link") == []
    links = [one["href"] or "" for one in page.all("a")]
    assert "privacy.html" in links
    assert not [link for link in links if "//" in link]
    assert all((one["src"] or "").startswith("data:") and one["alt"] for one in page.all("img"))
    drawings = [one for one in page.all("svg") if one.get("role") == "img"]
    assert len(drawings) > 10
    assert all(one.get("aria-label") or one.get("aria-labelledby") for one in drawings)
    assert all("aria-hidden" in one for one in page.all("svg") if one not in drawings)


def test_the_time_of_the_end_stays(folder: Folder) -> None:
    """Made again later, the page and the privacy report say the same as at the end."""
    before = (folder.path / "report.html").read_text(encoding="utf-8")
    assert folder.since() is not None
    written = [line for line in before.splitlines() if "from start to end" in line]
    again = write_page(folder).read_text(encoding="utf-8").splitlines()
    assert written == [line for line in again if "from start to end" in line]
    report = json.loads((folder.path / "privacy.json").read_text())
    assert report["run"]["finished"] == utc(str(folder.since()))


def test_it_shows_the_final_table_and_who_was_rejected(page: Read, folder: Folder) -> None:
    saved = json.loads((folder.path / "result.json").read_text())
    for row in saved["tables"][0]["rows"]:
        assert f"{row['after']:.3f}" in page.text
    assert "Answers of 1 hospital were rejected:" in " ".join(page.text.split())
    assert "norm-above-cap (2)" in page.text
    assert "client.tasks.hospitals" in page.text, "what differs from the default"


def test_rejections_are_counted_by_round_and_hospital(folder: Folder) -> None:
    phase = Phase("reptile", list(folder.rows()))
    first = presences(RUN, phase)[0]
    assert (first.hospital, first.asked - first.accepted) == ("sine-01", 2)
    assert first.stretches[0].accepted is False
    assert {one.hospital for one in turned_away([phase])} == {"sine-01"}


def test_a_run_without_a_result_has_no_page(folder: Folder, tmp_path: Path) -> None:
    begun = Folder(tmp_path / "begun")
    begun.create(RUN)
    with pytest.raises(InputError, match="no result to report"):
        write_page(begun)


def test_where_hospitals_for_validation_judge_the_page_says_so(tmp_path: Path) -> None:
    settings = ("client.tasks.validation=2", "server.evaluation.judges=validation")
    folder = Folder(carry_out(small(*settings), tmp_path / "run").path)
    text = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "at the validation hospitals" in text
    assert "Score at the validation hospitals over the rounds" in text
    assert "unseen hospitals" not in Read(text).text.split("Configuration")[0]


def test_a_single_point_is_no_curve() -> None:
    assert plot("title", "label", [Series("a", [1], [0.5])], 3) is None
    drawn = plot("title", "label", [Series("a", [1, 2], [0.5, 0.75], [0.4, 0.7], [0.6, 0.8])], 3)
    assert drawn is not None
    assert drawn.words == "a: 0.500 in round 1, 0.750 in round 2."
    assert drawn.lines[0].path.count("L") == 1
    assert drawn.lines[0].band.count("L") == 3


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a private run, on which the score stands over epsilon."""
    run = private("server.rounds=4")
    return carry_out(run, tmp_path_factory.mktemp("spent") / "run").path / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_what_was_spent_can_be_read_on_every_screen(tab: Browser, spent: Path, width: int) -> None:
    """Its letters are as tall as on a wide screen, and all of it is there without swiping."""
    tab.shape(width, "light")
    tab.open(spent)
    tall = "Math.min(...[...document.querySelectorAll('svg[aria-labelledby^=p-spent] text')]"
    assert tab.value(f"{tall}.map(t => t.getBoundingClientRect().height))") > 9
    place = "document.querySelector('svg[aria-labelledby^=p-spent]').parentElement"
    assert tab.value(f"{place}.getBoundingClientRect().right") <= width
    assert tab.value(f"{place}.scrollWidth - {place}.clientWidth") <= 1
    field = "document.querySelector('svg[aria-labelledby^=p-spent] .field')"
    assert tab.value(f"{field}.getBoundingClientRect().width") > 0.7 * (
        width if width < 999 else 999
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_before_and_after_are_on_the_screen(tab: Browser, folder: Folder, width: int) -> None:
    tab.shape(width, "light")
    tab.open(folder.path / "report.html")
    assert_ways_are_seen(tab, width)


def assert_ways_are_seen(tab: Browser, width: int) -> None:
    """Every number of the table of ways lies between the edges of its frame, beside its row."""
    cells = "[...document.querySelectorAll('.ways td.n')]"
    assert tab.value(f"{cells}.length") >= 4
    assert tab.value(f"Math.max(...{cells}.map(c => c.getBoundingClientRect().right))") <= width
    frame = "document.querySelector('.ways .scroll')"
    assert tab.value(f"{frame}.scrollWidth - {frame}.clientWidth") <= 1, "nothing to swipe to"
    apart = "c.getBoundingClientRect().top - c.parentElement.getBoundingClientRect().top"
    assert tab.value(f"Math.max(...{cells}.map(c => {apart}))") < 40


def test_a_line_over_an_amount_starts_at_nothing() -> None:
    line = Series("own", [2.0, 7.5], [0.5, 0.75], [0.4, 0.7], [0.6, 0.8])
    drawn = over_amounts("title", "label", line, {"other": 0.6}, 3, "epsilon")
    assert drawn.rounds[0].text == "0"
    assert drawn.rounds[0].at == 0
    assert drawn.axis == "epsilon"
    assert drawn.words == "own: 0.500 at epsilon 2, 0.750 at epsilon 7.5. other: 0.600."
    assert drawn.lines[1].path.startswith("M0 ")
    single = over_amounts("title", "label", Series("own", [8.0], [0.5]), {}, 3, "epsilon")
    assert [dot[0] for dot in single.lines[0].dots] == [100]


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_its_window(tab: Browser, page: Read, folder: Folder, width: int) -> None:
    tab.shape(width, "light")
    tab.open(folder.path / "report.html")
    assert tab.value("document.styleSheets[0].cssRules.length") > 50
    assert tab.value("document.documentElement.scrollWidth") <= width
    asked = [event["request"]["url"] for event in tab.named("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == asked[:1], "the page itself"
    assert tab.named("Log.entryAdded") == []


def test_on_paper_no_key_of_the_configuration_is_broken(tab: Browser, folder: Folder) -> None:
    tab.shape(700, "light")
    tab.call("Emulation.setEmulatedMedia", media="print", features=[])
    tab.open(folder.path / "report.html")
    lines = "[...document.querySelectorAll('.keys code')].map(one => one.getClientRects().length)"
    counts = tab.value(lines)
    tab.call("Emulation.setEmulatedMedia", media="", features=[])
    assert len(counts) > 5
    assert set(counts) == {1}
