"""The report as data: types and schema agree, nonsense is refused, verdicts follow facts."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from metaward.privacy.report import inputs, sections, verdict
from metaward.privacy.report.document import PrivacyReport, concluded, plain, schema, to_json
from metaward.privacy.report.sections import AtDelta, CrossCheck, LedgerState
from metaward.privacy.report.values import Strict
from tests.privacy.report.report_examples import (
    ACCOUNTING,
    EXAMPLES,
    MECHANISM,
    RUN,
    hospital,
    report,
    sha,
    simulation,
    touches,
)

VALID = Draft202012Validator(schema())
READER = TypeAdapter(PrivacyReport)


# ------------------------------------------------------------------------------- schema


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_to_the_schema_and_come_back_equal(name: str) -> None:
    made = EXAMPLES[name]()
    VALID.validate(json.loads(to_json(made)))
    read = READER.validate_json(to_json(made))
    assert read == made
    assert concluded(read) == made


def dataclasses_in_use() -> dict[str, type[Any]]:
    found = {
        cls.__name__: cls
        for module in (sections, verdict, inputs)
        for cls in vars(module).values()
        if isinstance(cls, type) and is_dataclass(cls) and issubclass(cls, Strict)
    }
    del found["ReportInputs"]
    return found


def test_dataclasses_and_schema_name_the_same_fields() -> None:
    described = {name: d for name, d in schema()["$defs"].items() if d.get("type") == "object"}
    assert described.keys() == dataclasses_in_use().keys()
    pairs = [(described[name], cls) for name, cls in dataclasses_in_use().items()]
    assert len(pairs) > 15
    for one, cls in [*pairs, (schema(), PrivacyReport)]:
        wanted = {field.name for field in fields(cls)}
        assert set(one["properties"]) == wanted == set(one["required"]), cls


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def test_every_object_is_closed_and_every_property_described() -> None:
    published = schema()
    objects = [node for node in nodes(published) if node.get("type") == "object"]
    assert len(objects) > 20
    for node in objects:
        assert node["additionalProperties"] is False
        for name, one in node["properties"].items():
            target = published["$defs"].get(one.get("$ref", "").split("/")[-1], {})
            assert len(one.get("description", target.get("description", ""))) > 3, name


def choices(hint: Any) -> set[str]:
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {choice for arg in get_args(hint) for choice in choices(arg)}


def test_dataclasses_and_schema_name_the_same_choices() -> None:
    seen, published = 0, schema()
    for name, cls in dataclasses_in_use().items():
        for field, hint in get_type_hints(cls).items():
            wanted = choices(hint)
            if wanted:
                one = published["$defs"][name]["properties"][field]
                listed = [set(node["enum"]) for node in nodes(one) if "enum" in node]
                assert listed == [wanted], (name, field)
                seen += 1
    assert seen >= 9


# ---------------------------------------------------------------------- nonsense refused

Change = Callable[[dict[str, Any]], object]
MUTATIONS: dict[str, Change] = {
    "unknown key": lambda p: p["run"].update(doctor="x"),
    "unknown key inside": lambda p: p["hospitals"][0]["spent"].update(x=1),
    "missing key": lambda p: p["guarantee"].pop("trust"),
    "negative epsilon": lambda p: p["hospitals"][0]["spent"].update(epsilon=-0.1),
    "a word for infinity": lambda p: p["hospitals"][0].update(mu="infinite"),
    "a number as text": lambda p: p["hospitals"][0].update(units="300"),
    "true for one": lambda p: p["hospitals"][0].update(units=True),
    "a loss as text": lambda p: p["hospitals"][0].update(this_run="3.5"),
    "true for a loss": lambda p: p["hospitals"][0].update(this_run=True),
    "a time as a number": lambda p: p["run"].update(started=20260302),
    "true for a delta": lambda p: p["guarantee"].update(delta=True),
    "half a record": lambda p: p["hospitals"][0].update(units=1.5),
    "unknown unit": lambda p: p["guarantee"].update(unit="person"),
    "delta one": lambda p: p["guarantee"].update(delta=1),
    "delta zero": lambda p: p["guarantee"].update(delta=0),
    "a hash in capitals": lambda p: p["evidence"].update(config_sha256="A" * 64),
    "a short hash": lambda p: p["hospitals"][0]["ledger"].update(head="ab"),
    "a local time": lambda p: p["run"].update(started="2026-03-02 08:15"),
    "a line break in a name": lambda p: p["hospitals"][0].update(name="A\nB"),
    "no name": lambda p: p["hospitals"][0].update(name=""),
    "no hospitals": lambda p: p.update(hospitals=[]),
    "another version": lambda p: p.update(schema_version=2),
    "no touches": lambda p: p.update(touches=[]),
    "nothing uncovered": lambda p: p.update(not_covered=[]),
    "sampling rate zero": lambda p: p["mechanism"].update(sampling_rate=0),
    "no refusals counted": lambda p: p["hospitals"][0].update(refusals=[{"code": "x", "count": 0}]),
}


@pytest.mark.parametrize("what", MUTATIONS)
def test_mutated_reports_are_refused_twice(what: str) -> None:
    found = plain(simulation())
    VALID.validate(found)
    MUTATIONS[what](found)
    assert not VALID.is_valid(found)
    with pytest.raises(ValidationError):
        READER.validate_json(json.dumps(found))


def test_the_schema_has_the_ranges_and_patterns_of_the_types() -> None:
    """Written out by hand, so that a type that lost its range or pattern is seen."""
    defs = schema()["$defs"]
    assert defs["Text"].items() >= {"pattern": r"^[^\x00-\x1f\x7f]+$", "maxLength": 2000}.items()
    assert defs["Name"].items() >= {"pattern": r"^[^\x00-\x1f\x7f]+$", "maxLength": 200}.items()
    assert defs["Sha256"]["pattern"] == "^[0-9a-f]{64}$"
    assert defs["Time"]["pattern"] == r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"
    assert defs["Loss"]["anyOf"] == [
        {"minimum": 0, "type": "number"},
        {"const": "unlimited", "type": "string"},
    ]
    assert (defs["Delta"]["exclusiveMinimum"], defs["Delta"]["exclusiveMaximum"]) == (0, 1)
    assert (defs["Count"]["minimum"], defs["Positive"]["minimum"]) == (0, 1)
    hospital = defs["TrainingHospital"]["properties"]
    assert hospital["epsilons"]["minItems"] == 3
    assert {"exclusiveMinimum": 0, "type": "number"} in hospital["budget"]["anyOf"]
    risk = defs["Risk"]["properties"]["attack_accuracy"]
    assert (risk["minimum"], risk["maximum"]) == (0, 1)
    top = schema()["properties"]
    assert [top[name]["minItems"] for name in ("hospitals", "touches", "not_covered")] == [1, 7, 4]
    assert top["schema_version"]["const"] == 1


def test_a_fault_names_its_place_and_value() -> None:
    made = [hospital("A", 1.0), hospital("B", 1.0)]
    with pytest.raises(ValueError, match=r"privacy report: hospitals\[1\]\.units.*-7"):
        report(hospitals=(made[0], replace(made[1], units=-7)))
    with pytest.raises(ValueError, match=r"run\.started: .*'2026-13-02T08:15:00Z'"):
        report(hospitals=(made[0],), run=replace(RUN, started="2026-13-02T08:15:00Z"))


def test_what_is_built_in_python_is_checked_as_strictly() -> None:
    with pytest.raises(ValueError, match=r"hospitals\[0\]\.this_run"):
        report(hospitals=(replace(hospital("A", 1.0), this_run=-1.0),))
    with pytest.raises(ValueError, match="JSON compliant"):
        report(hospitals=(replace(hospital("A", 1.0), this_run=math.nan),))


A = hospital("A", 1.0)
BARE: dict[str, dict[str, Any]] = {
    "hospitals: none": {"hospitals": ()},
    "hospitals: 'A' is there twice": {"hospitals": (A, A)},
    "touches: 'query' is missing": {"touches": touches()[:1] + touches()[2:]},
    "not_covered: 'local use' is missing": {"not_covered": report(hospitals=(A,)).not_covered[1:]},
    "spent at delta 0.001": {"hospitals": (replace(A, mu=None, spent=AtDelta(1e-3, 3.0)),)},
    "mu = 0.5 does not give": {"hospitals": (replace(A, mu=0.5),)},
    "mu = 2.0 does not give": {"hospitals": (replace(A, mu=2.0),)},
    "mu = inf does not give": {"hospitals": (replace(A, mu=math.inf),)},
    "mu = 0.0 does not give": {"hospitals": (replace(A, mu=0.0),)},
    "with 0 noisy sums": {"mechanism": replace(MECHANISM, sums=())},
    "only unit none has no noise": {"mechanism": replace(MECHANISM, noise_source=None)},
    "neither what hospital A": {
        "accounting": replace(ACCOUNTING, cross_check=CrossCheck.of("PLD", "A", 9.0, 9.0))
    },
}


@pytest.mark.parametrize("words", BARE)
def test_contradictions_and_silence_are_refused(words: str) -> None:
    assert report(hospitals=(A,)).verdict.level == "protected"
    with pytest.raises(ValueError, match=words):
        report(**{"hospitals": (A,), **BARE[words]})


def test_parts_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="amplification is claimed"):
        replace(MECHANISM, amplification="Poisson sampling")
    with pytest.raises(ValueError, match="chain is broken"):
        LedgerState("a", 1, sha("a"), "broken", (), "held")
    with pytest.raises(ValueError, match="chain is verified"):
        LedgerState("a", 1, sha("a"), "verified", ("entry 1",), "held")
    with pytest.raises(ValueError, match=r"no epsilon at delta \[1e-06\]"):
        replace(A, epsilons=A.epsilons[:2])
    with pytest.raises(ValueError, match="cross-check of A"):
        CrossCheck.of("PLD", "A", 0.0, 1.0)


def test_reports_are_frozen_all_the_way_down() -> None:
    made = simulation()
    before = copy.deepcopy(plain(made))
    plain(made)["hospitals"].clear()
    assert plain(made) == before
