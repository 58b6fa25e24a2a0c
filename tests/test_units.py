"""A unit is one object: a new one needs no other line, and no code takes one by its name."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metaward.client.charging import charges
from metaward.client.schedule import deal
from metaward.client.scores import known_scores
from metaward.client.work import open_hospital
from metaward.options import ConfigError
from metaward.privacy import MECHANISMS, UNITS, Batch, Opening, Protection, Sums, Unit, Use, Whole
from metaward.privacy.event import merged
from metaward.privacy.ledger import Ledger
from metaward.privacy.noise import SeededNoise
from metaward.privacy.policy import Asked, Policy, PolicyError
from metaward.privacy.report.document import schema
from metaward.privacy.report.page import page
from metaward.privacy.units import PUBLIC, Holder
from metaward.server.office.plan import text
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.question import question
from metaward.server.office.report.gather import from_folder
from metaward.server.office.report.write import report as made
from tests.client.wards import rows_of
from tests.contracts.requests import SHARE, learner, price_of
from tests.server.office.report.report_desk import NO_BASELINES, executed, phantom
from tests.test_layering import ROOT, TREES

# ----------------------------------------------------------------------------- a new unit


def each_visit(hospital: Holder) -> NDArray[Any]:
    """Three records in a row were taken at one visit."""
    return np.array([f"visit-{number // 3}" for number in range(len(hospital.ids))])


VISIT = Unit(
    "visit",
    guarded="a visit, with all its records,",
    emptied="the places of all records of one visit",
    exposed=(*PUBLIC, "What several visits of a person have in common."),
    person="A person with a visit",
    plural="Visits",
    owners=each_visit,
    key="visit",
    cap=1,
)


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Unit:
    """One entry, as a package that adds a unit would make it."""
    monkeypatch.setitem(UNITS, "visit", VISIT)
    return VISIT


def visits(*settings: str) -> Any:
    return phantom("privacy={mechanism: sums, unit: visit, clip_query: 0.5}", *settings)


def test_a_run_names_it_and_the_desk_carries_it(visit: Unit) -> None:
    run = visits()
    assert run.privacy == Sums(unit=visit, clip_query=0.5)
    assert run.mapping()["privacy"]["unit"] == "visit"
    assert '"unit":"visit"' in run.desk().json()
    assert run.privacy.claim.startswith("Visit-level differential privacy, epsilon at most 8 ")
    assert "guesses whether a visit, with all its records, was used" in run.privacy.claim


def allowing(unit: str) -> Policy:
    """The research policy for one unit by mechanism sums alone."""
    policy = Policy.read(ROOT / "policies" / "research.yaml", known_scores())
    return replace(policy, mechanisms=("sums",), units=(unit,))


def test_unknown_it_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"privacy\.unit: 'visit' is refused: must be one of none"
    ):
        visits()


def test_its_records_are_dealt_into_one_task(visit: Unit) -> None:
    hospital = open_hospital(visits().client.tasks, 0, None, 3)
    owners = visit.owners(hospital)
    tasks = deal(hospital, visit, np.random.default_rng(2))
    assert len(tasks) > 1
    seen = Counter(owner for task in tasks for owner in set(owners[rows_of(task)].tolist()))
    assert max(seen.values()) == 1
    other = deal(hospital, UNITS["record"], np.random.default_rng(2))
    seen = Counter(owner for task in other for owner in set(owners[rows_of(task)].tolist()))
    assert max(seen.values()) > 1, "or the deal above shows nothing"


def test_it_is_priced_for_all_sums_over_its_task_and_charged_under_its_key(visit: Unit) -> None:
    """T = 2 support sums and the query sum: a visit may have a record in each of them."""
    mechanism, hospital = Sums(unit=visit), open_hospital(visits().client.tasks, 0, None, 3)
    assert price_of(mechanism, learner("fomaml")).noise == (
        price_of(Sums(unit=UNITS["patient"]), learner("fomaml")).noise
    )
    price = price_of(mechanism, learner("fomaml"))
    bill = merged(charges(mechanism, price, hospital))
    used = {row for task in SHARE.episodes for row in rows_of(task)}
    paying = {key for key in bill if not key.startswith("content:")}
    assert paying == {f"visit:{visit.owners(hospital)[row]}" for row in used}


def test_its_vectors_are_clipped_as_one(visit: Unit) -> None:
    """Three records of one visit, each of length 1, add up to one vector of the clip norm."""
    rows = np.arange(3)
    batch = Batch(torch.ones(3, 1), torch.zeros(3), rows)
    use = Use("query", (0, 1, 2))
    opening = Opening([use], {"query": 0.0}, np.array(["visit-0"] * 3), SeededNoise(1))
    mean = Sums(unit=visit).session(opening).mean([(lambda x, y: x, batch)], "query", 1)
    assert float(mean * 3) == pytest.approx(1.0)


def test_the_plan_counts_it(visit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    plan = advised(question(visits("client.tasks_per_round=1"), units=4))
    assert (plan.mechanism, plan.unit, plan.tasks_per_pass) == ("sums", "visit", 4)
    assert any(note.startswith("Unit visit: each is in one task of a round") for note in plan.notes)
    assert any("twice as many records and visits" in one.words for one in plan.suggestions)
    assert "mechanism sums, unit visit" in str(text.planned(plan)[0])


def test_a_policy_allows_or_refuses_it_by_name(visit: Unit) -> None:
    policy = allowing("visit")
    asked = Asked("attend", "north", "sums", "visit", 1)
    policy.admit(asked)
    with pytest.raises(PolicyError, match=r"policy-unit.*allows visit"):
        policy.admit(replace(asked, unit="record"))


def test_a_whole_run_is_charged_and_reported_for_it(visit: Unit, tmp_path: Path) -> None:
    folder = executed(visits(NO_BASELINES), tmp_path / "run")
    report = made(from_folder(folder))
    assert (report.guarantee.unit, report.mechanism.name) == ("visit", "sums")
    for hospital, path in zip(report.hospitals, sorted(folder.hospitals.glob("*/*")), strict=False):
        assert hospital.units, "visits are counted"
        assert hospital.spent.epsilon <= 8.0
        if path.suffix == ".sqlite":
            assert Ledger.open(path).history().protections() == (Protection("sums", "visit"),)
    said = report.verdict.sentence
    assert said.startswith("Every visit of the 3 training hospitals would be protected")
    assert "whether a given visit took part" in said
    html = page(report)
    for words in (
        "one <strong>visit</strong>",
        "Visits</th>",
        "A person with a visit at every one",
    ):
        assert words in html
    assert "visit" in schema()["$defs"]["Guarantee"]["properties"]["unit"]["enum"]


def test_a_mechanism_says_which_units_it_serves(visit: Unit) -> None:
    """By what a unit is, not by its name; a wrong pair is refused with what is possible."""
    assert [name for name, unit in UNITS.items() if Sums.serves(unit)] == [
        "record",
        "patient",
        "visit",
    ]
    assert not Sums.serves(replace(visit, cap=2)), "its vectors would be in two parts of a sum"
    with pytest.raises(ValueError, match="unit: visit cannot be protected by mechanism whole, whi"):
        Whole(unit=visit)
    with pytest.raises(ConfigError, match=r"privacy\.unit: task cannot be protected by .* record"):
        phantom("privacy={mechanism: sums, unit: task}")


@dataclass(frozen=True)
class Second(Sums):
    """A second mechanism for units that `sums` protects as well."""

    name: ClassVar[str] = "second"


def test_a_second_mechanism_for_a_unit_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One class and one entry: it is configured, charged, reported, allowed and refused by name."""
    monkeypatch.setitem(MECHANISMS, "second", Second)
    run = phantom("privacy={mechanism: second, unit: patient}", NO_BASELINES)
    folder = executed(run, tmp_path / "run")
    report = made(from_folder(folder))
    assert (report.mechanism.name, report.guarantee.unit) == ("second", "patient")
    for path in folder.hospitals.glob("*/*.sqlite"):
        assert Ledger.open(path).history().protections() == (Protection("second", "patient"),)
    policy = allowing("patient")
    asked = Asked("attend", "north", "second", "patient", 1)
    with pytest.raises(PolicyError, match=r"policy-mechanism.*allows sums"):
        policy.admit(asked)
    replace(policy, mechanisms=("sums", "second")).admit(asked)


def test_a_unit_in_the_place_of_a_mechanism_is_led_to_its_own() -> None:
    with pytest.raises(ConfigError, match="write mechanism: whole and unit: task"):
        phantom("privacy={mechanism: task}")
    with pytest.raises(ConfigError, match=r"choose from none, sums, whole$"):
        phantom("privacy={mechanism: smus}")


# ------------------------------------------------------------------------ never by its name


def unit_by_name(tree: ast.AST) -> list[str]:
    """Where a unit is compared with a text, or a dictionary is keyed by the names of units."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            if any(map(is_unit, [node.left, *node.comparators])) and texts(node):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Match) and is_unit(node.subject):
            found.append(f"line {node.lineno}: match {ast.unparse(node.subject)}")
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if len(keys & UNITS.keys()) > 1:
                found.append(f"line {node.lineno}: a dictionary of {sorted(keys & UNITS.keys())}")
    return found


def is_unit(node: ast.AST) -> bool:
    """``unit``, ``x.unit``, ``unit.name``, ``UNITS[...]``; also within a list that is compared."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return bool(names & {"unit", "UNITS"})


def texts(node: ast.AST) -> list[str]:
    """Texts in an expression, those in lists and sets included."""
    return [
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]


@pytest.mark.parametrize("path", sorted(TREES.keys() - {"privacy/units.py"}))
def test_a_unit_is_an_object_and_never_a_name(path: str) -> None:
    """What is asked of a unit is in ``privacy/units.py``: a new one is one object there."""
    assert unit_by_name(TREES[path]) == []


@pytest.mark.parametrize(
    "code",
    [
        'if mechanism.unit == "record": pass',
        'cap = 1 if run.privacy.unit.name != "patient" else 2',
        'whole = unit in ("task", "hospital")',
        'whole = "task" == unit',
        'x = unit not in {"none"}',
        'match run.privacy.unit:\n    case "record":\n        pass',
        'WORDS = {"record": "a record", "patient": "a patient"}',
    ],
)
def test_a_unit_taken_by_its_name_is_found(code: str) -> None:
    assert unit_by_name(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "if unit.cap is not None: pass",
        "whole = mechanism.unit == UNITS[name]",
        'facts = {"hospital": hospital.name, "round": 3}',
        'level = "none" if not unit.protected else "weak"',
        'if kind == "moments": pass',
    ],
)
def test_a_unit_taken_as_an_object_is_let_pass(code: str) -> None:
    assert not unit_by_name(ast.parse(code))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("privacy/report/*.md")), ids=str)
def test_no_template_takes_a_unit_by_its_name(path: Path) -> None:
    assert not re.findall(r"unit\s*(?:==|!=|in)\s*[\"'(\[]", path.read_text(encoding="utf-8"))
