"""The page in a real browser: asks for nothing, runs nothing, fits, can be read, prints.

Needs ``chromium`` on the PATH (Debian's package); the tests of paper also ``pdftotext`` (poppler).
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaward.privacy.report.page import page
from metaward.privacy.rounding import percent_up
from tests.privacy.report.report_browser import Browser, browser
from tests.privacy.report.report_examples import EXAMPLES, HOSTILE, many, troubled

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not on the PATH: apt install chromium"
)
paper = pytest.mark.skipif(
    shutil.which("pdftotext") is None,
    reason="pdftotext is not on the PATH: apt install poppler-utils",
)
every = pytest.mark.parametrize("name", EXAMPLES)
WIDE, NARROW = 1280, 360


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in EXAMPLES.items():
        (folder / f"{name}.html").write_text(page(make()), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in EXAMPLES}


def requests(tab: Browser) -> list[str]:
    """Addresses that were asked for beside the page itself."""
    asked = [event["request"]["url"] for event in tab.named("Network.requestWillBeSent")]
    assert asked, "the page itself counts as one"
    return asked[1:]


def complaints(tab: Browser) -> list[str]:
    """Everything in the console, everything thrown, every dialogue."""
    kinds = (
        "Log.entryAdded",
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
        "Page.javascriptDialogOpening",
    )
    return [str(event) for kind in kinds for event in tab.named(kind)]


@every
def test_no_request_and_no_complaint(tab: Browser, pages: dict[str, Path], name: str) -> None:
    tab.shape(WIDE, "light")
    tab.open(pages[name])
    assert tab.value("document.styleSheets[0].cssRules.length") > 50  # the policy lets it in
    assert tab.value("document.title").startswith("Privacy report")
    assert requests(tab) == []
    assert complaints(tab) == []


LURE = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x.png'>"


def test_the_probes_see_what_a_bad_page_does(tab: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(f"<title>bad</title>{LURE}<script>console.log(1); throw 1</script>")
    tab.open(bad)
    assert tab.value("document.title") == "owned"
    assert requests(tab) == ["http://127.0.0.1:9/x.png"]
    assert len(complaints(tab)) >= 2


def test_the_policy_stops_what_slipped_in(
    tab: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Should the template ever fail to escape, the page's own policy still holds."""
    text = pages["simulation"].read_text(encoding="utf-8")
    slipped = tmp_path / "slipped.html"
    lures = f"{LURE}<p id='styled' style='color:#123456'>x</p></main>"
    slipped.write_text(text.replace("</main>", lures), encoding="utf-8")
    tab.open(slipped)
    assert tab.value("document.title").startswith("Privacy report")
    assert (
        tab.value("getComputedStyle(document.getElementById('styled')).color") != "rgb(18, 52, 86)"
    )
    sent = {event["requestId"] for event in tab.named("Network.responseReceived")}
    assert len(sent) <= 1  # the file itself
    assert all("Content Security Policy" in text for text in complaints(tab))
    assert len(complaints(tab)) >= 3


def test_hostile_names_are_shown_as_they_are(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["troubled"])
    cells = tab.value("[...document.querySelectorAll('tbody th')].map(cell => cell.textContent)")
    assert cells.count(HOSTILE) == 3  # spending, ledgers, deltas
    assert tab.value("document.querySelectorAll('script, img').length") == 0


@every
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_page_fits_its_window(
    tab: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    tab.shape(width, "light")
    tab.open(pages[name])
    assert tab.value("innerWidth") == width
    assert tab.value("document.documentElement.scrollWidth") <= width
    smallest = tab.value(
        "Math.min(...[...document.querySelectorAll('main *')].filter(one => "
        "!one.closest('svg')).map(one => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert smallest >= 12


@every
def test_captions_and_sentences_are_read_on_a_phone_without_scrolling(
    tab: Browser, pages: dict[str, Path], name: str
) -> None:
    tab.shape(NARROW, "light")
    tab.open(pages[name])
    ends = tab.value(
        "[...document.querySelectorAll('caption span, td.wide')]"
        ".map(one => one.getBoundingClientRect().right)"
    )
    assert len(ends) > 7
    assert max(ends) <= NARROW


CONTRAST = """
(() => {
  const number = text => text.match(/[\\d.]+/g).map(Number);
  const over = (a, b) => [0, 1, 2].map(i => a[i] * (a[3] ?? 1) + b[i] * (1 - (a[3] ?? 1)));
  const ground = one => {
    const layers = [];
    for (; one; one = one.parentElement) layers.push(number(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = color => {
    const line = c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    const [r, g, b] = color.slice(0, 3).map(c => line(c / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const found = [];
  for (const one of document.querySelectorAll('body, body *')) {
    if (![...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (one.matches('title, desc, style')) continue;
    const style = getComputedStyle(one), below = ground(one);
    const ink = one.closest('svg') ? style.fill : style.color;
    const [high, low] = [light(over(number(ink), below)), light(below)].sort((a, b) => b - a);
    found.push([(high + .05) / (low + .05), one.tagName + ' ' + one.textContent.slice(0, 30)]);
  }
  found.sort((a, b) => a[0] - b[0]);
  return [found.length, ...found[0]];
})()
"""


@every
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(
    tab: Browser, pages: dict[str, Path], name: str, scheme: str
) -> None:
    """A contrast of at least 4.5 (Web Content Accessibility Guidelines 2.2, level AA)."""
    tab.shape(WIDE, scheme)
    tab.open(pages[name])
    count, least, where = tab.value(CONTRAST)
    assert count > 100
    assert least >= 4.5, where


def test_the_contrast_probe_sees_faint_text(tab: Browser, tmp_path: Path) -> None:
    faint = tmp_path / "faint.html"
    faint.write_text("<body style='background:#fff'><p style='color:#999'>faint</p>")
    tab.open(faint)
    count, least, where = tab.value(CONTRAST)
    assert (count, where) == (1, "P faint")
    assert least == pytest.approx(2.85, abs=0.01)


def test_dark_is_dark_and_paper_is_white(tab: Browser, pages: dict[str, Path]) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.shape(WIDE, "dark")
    tab.open(pages["simulation"])
    assert tab.value(ground) == "rgb(18, 23, 29)"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert tab.value(ground) == "rgb(255, 255, 255)"
    tab.call("Emulation.setEmulatedMedia", media="", features=[])


def printed(tab: Browser, path: Path, folder: Path) -> list[str]:
    """The pages of the PDF as text, laid out as on paper."""
    tab.shape(WIDE, "dark")
    tab.open(path)
    (folder / "page.pdf").write_bytes(tab.pdf())
    command = ["pdftotext", "-layout", str(folder / "page.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode()
    return text.split("\f")[:-1]


@paper
def test_paper_holds_every_hospital_with_whole_rows(
    tab: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    sheets = printed(tab, pages["many"], tmp_path)
    assert 6 < len(sheets) < 20
    annex = "\n".join(sheets).split("Annex: every hospital")[1]
    made = many()
    assert len(made.hospitals) == 200
    for one, risk in zip(made.hospitals, made.risks, strict=True):
        row = rf"^ *{one.name} .* {percent_up(risk.attack_accuracy)[:-2]}.% .* {one.units}$"
        assert re.search(row, annex, re.M), one.name


@paper
def test_paper_has_numbers_on_its_pages_and_heads_on_its_tables(
    tab: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    sheets = printed(tab, pages["many"], tmp_path)
    tables = 0
    for number, sheet in enumerate(sheets, 1):
        assert re.search(rf"\b{number} / {len(sheets)}\s*$", sheet)
        lines = sheet.splitlines()
        rows = [i for i, line in enumerate(lines) if re.match(r" *clinic-\d+ +[0-9a-f.]+ ", line)]
        heads = [i for i, line in enumerate(lines) if re.match(r" *Hospital +[SmL]", line)]
        assert not rows or heads[0] < rows[0], sheet
        tables += bool(rows)
    assert tables > 5


@paper
def test_paper_shows_hostile_names_and_the_verdict(
    tab: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    sheets = printed(tab, pages["troubled"], tmp_path)
    text = "".join("".join(sheets).split())
    assert "<script>alert(1)" in text
    assert "onerror=alert(2)>" in text
    assert "".join(troubled().verdict.headline.split()) in text
    assert "Universitätsklinikum" in text
    sizes = subprocess.run(
        ["pdfinfo", str(tmp_path / "page.pdf")], capture_output=True, check=True, timeout=60
    ).stdout.decode()
    assert re.search(r"Page size: +59[45]\.\d+ x 84[12]\.\d+ pts \(A4\)", sizes)


@paper
def test_no_privacy_is_the_largest_text_on_paper(
    tab: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    sheets = printed(tab, pages["unprotected"], tmp_path)
    assert "NO PRIVACY" in sheets[0]
    size = "parseFloat(getComputedStyle(document.querySelector('{}')).fontSize)"
    tab.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert tab.value(size.format(".headline")) > 2 * tab.value(size.format("h1"))
    tab.call("Emulation.setEmulatedMedia", media="", features=[])
