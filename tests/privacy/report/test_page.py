"""The page as text: nothing loaded, nothing executed, everything escaped, everything said."""

import base64
import hashlib
import html
import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from metaward.privacy.report.page import STYLE, page
from metaward.privacy.report.sections import AtDelta
from metaward.privacy.report.templates import FOLDER, environment
from tests.privacy.report.report_examples import (
    DEPLOYED,
    EVIDENCE,
    EXAMPLES,
    HOSTILE,
    REAL,
    RUN,
    RefusalCount,
    hospital,
    report,
)

VOID = {"meta", "rect", "path", "br", "img", "link"}


class Reader(HTMLParser):
    """Tags and attributes; every tag that is opened must be closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@cache
def drawn(name: str) -> str:
    return page(EXAMPLES[name]())


every = pytest.mark.parametrize("name", EXAMPLES)


@every
def test_nothing_is_loaded_and_nothing_runs(name: str) -> None:
    tags = Reader(drawn(name)).tags
    assert not {tag for tag, _ in tags} & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "form",
        "base",
    }
    attributes = [(key, value) for _, found in tags for key, value in found.items()]
    assert len(attributes) > 100
    keys = {key for key, _ in attributes}
    assert not keys & {"src", "srcset", "action", "xlink:href", "style", "ping"}
    assert not [key for key in keys if key.startswith("on")]
    ids = [value for key, value in attributes if key == "id"]
    assert len(ids) == len(set(ids))
    links = {value for key, value in attributes if key == "href"}
    assert len(links) >= 10
    assert links <= {f"#{found}" for found in ids}
    style = re.findall(r"<style>(.*?)</style>", drawn(name), re.S)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|expression|<", style[0])


@every
def test_the_policy_allows_the_page_its_own_style_only(name: str) -> None:
    text = drawn(name)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    metas = [found for tag, found in Reader(text).tags if tag == "meta"]
    (policy,) = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@every
def test_the_page_can_be_heard_as_well_as_seen(name: str) -> None:
    text = drawn(name)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    tags = Reader(text).tags
    count = [tag for tag, _ in tags].count
    assert count("h1") == 1
    assert count("table") == count("caption") >= 4
    assert all("scope" in found for tag, found in tags if tag == "th")
    for found in (found for tag, found in tags if tag == "svg"):
        assert found.get("aria-hidden") == "true" or found["role"] == "img"
    named = {name for _, found in tags for name in (found.get("aria-labelledby") or "").split()}
    assert named <= {found.get("id") for _, found in tags}


@every
def test_every_page_says_what_is_not_covered(name: str) -> None:
    words = Reader(drawn(name)).words
    made = EXAMPLES[name]()
    for gap in made.not_covered:
        assert gap.words in words
    assert "no epsilon covers them" in words
    for touch in made.touches:
        assert touch.words in words
    for one in made.hospitals:
        assert one.name in words
    assert made.evidence.config_sha256 in words


def test_the_page_names_the_code_of_both_sides() -> None:
    shipped, other = "a1" * 32, "b2" * 32
    north, south = hospital("north", 1.0), hospital("south", 1.0)
    hospitals = replace(north, code=(shipped,)), replace(south, code=(shipped, other))
    real = {"run": DEPLOYED, "mechanism": REAL}
    evidence = replace(EVIDENCE, bundles=(shipped,))
    text = " ".join(page(report(**real, hospitals=hospitals, evidence=evidence)).split())
    assert f"shipped by the server: SHA-256 <code>{shipped}</code>" in text
    assert f"Let in by the gates of north, south: SHA-256 <code>{shipped}</code>" in text
    assert f"Let in by the gate of south: SHA-256 <code>{other}</code>" in text
    silent = " ".join(page(report(**real, hospitals=(north,))).split())
    assert "the server's record names none" in silent
    assert "No ledger here says what code a hospital's gate let in." in silent


def test_hostile_names_are_text() -> None:
    text = drawn("troubled")
    assert HOSTILE not in text
    assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert HOSTILE in Reader(text).words


def test_every_text_of_the_report_is_escaped() -> None:
    """The same hostile text in every place that a run or a hospital can fill."""
    one = replace(
        hospital(HOSTILE, 1.0, runs=((HOSTILE, 0, 3),)), refusals=(RefusalCount(HOSTILE, 1),)
    )
    assert one.ledger
    ledger = replace(one.ledger, id=HOSTILE, chain="broken", faults=(HOSTILE,))
    made = report(
        run=replace(RUN, name=HOSTILE, id=HOSTILE), hospitals=(replace(one, ledger=ledger),)
    )
    text = page(made)
    assert "<script" not in text
    assert "<img" not in text
    assert Reader(text).words.count("<script>alert(1)</script>") >= 8


def test_names_cannot_turn_the_text_around() -> None:
    turned = "\u202eytinummoc"
    text = page(report(hospitals=(hospital(turned, 1.0),)))
    assert f'<bdi class="unbroken">{turned}</bdi>' in text


def test_no_privacy_stands_in_large_letters() -> None:
    text = drawn("unprotected")
    assert re.search(r'<h2 class="headline" id="verdict">NO PRIVACY</h2>', text)
    words = Reader(text).words
    assert "Most spent unlimited" in words
    assert "best guess whether" not in words
    assert "inf" not in set(re.findall(r"\w+", words))


def test_an_audit_that_was_not_done_names_the_command() -> None:
    assert "metaward privacy audit" in Reader(drawn("deployment")).words
    assert "metaward privacy audit" not in Reader(drawn("simulation")).words
    assert "the attack proved a loss of mu 1.210" in Reader(drawn("simulation")).words


def test_many_hospitals_are_cut_in_the_text_and_whole_in_the_annex() -> None:
    words = Reader(drawn("many")).words
    before, after = words.split("Annex: every hospital")
    names = {f"clinic-{i:03}" for i in range(1, 201)}
    assert {name for name in names if name in after} == names
    assert len({name for name in names if name in before}) <= 16
    assert "Annex" not in Reader(drawn("simulation")).words


def test_hospitals_with_faults_stand_first() -> None:
    body = drawn("troubled").split('id="t-spent"')[1]
    found = [html.unescape(name) for name in re.findall(r"<bdi>(.*?)</bdi>", body)[:3]]
    assert found[:2] == ["Universitätsklinikum am Nordufer", "Hôpital de la Rivière"]


def test_an_unlimited_hospital_among_others() -> None:
    one = hospital("A", 1.0)
    endless = tuple(AtDelta(at.delta, math.inf) for at in one.epsilons)
    broken = replace(
        one, name="B", mu=math.inf, spent=AtDelta(1e-5, math.inf), epsilons=endless,
        history=(*one.history[:4], replace(one.history[4], epsilon=math.inf)),
    )  # fmt: skip
    words = Reader(page(report(hospitals=(one, broken)))).words
    assert "epsilon is unlimited" in words
    assert "no budget" not in words


def test_an_unknown_name_in_a_template_stops_the_page() -> None:
    with pytest.raises(UndefinedError):
        environment(escape=True).from_string("{{ r.nobody }}").render(r=RUN)


def test_the_style_sheet_is_no_longer_than_it_needs() -> None:
    """Every class of the style sheet is used by some page, or the template sets it."""
    style = drawn("many").split("<style>")[1].split("</style>")[0]
    names = set(re.findall(r"\.([a-z][a-z0-9-]*)", re.sub(r"\d*\.\d+", "", style)))
    template = "".join(drawn(name).split("</style>")[1] for name in EXAMPLES)
    used = {one for found in re.findall(r'class="([^"]*)"', template) for one in found.split()}
    assert len(names) > 30
    assert names - used <= {"weak", "unchecked"}


def test_page_and_style_are_files_that_an_app_bundle_carries() -> None:
    """Flower refuses any other ending; tests/server/engines/test_bundle.py has the bundle."""
    assert {path.suffix for path in FOLDER.iterdir() if path.is_file()} == {".py", ".md"}
    assert (FOLDER / STYLE).read_text(encoding="utf-8") in drawn("many")
