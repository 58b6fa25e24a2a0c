"""Plain data to frozen dataclasses: every fault has a line that names key, value and way out."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from metaward.options import ConfigError, Registry, build, plain
from metaward.yaml_text import read_yaml


class Engine(Protocol):
    pass


@dataclass(frozen=True)
class Petrol:
    litres: Annotated[float, Field(gt=0, le=8)] = 1.5
    gears: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2)


@dataclass(frozen=True)
class Electric:
    low: int = 1
    high: int = 2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high = {self.high}")


@dataclass(frozen=True)
class Seats:
    rows: Annotated[int, Field(ge=1)]
    heated: bool = False
    cloth: Literal["wool", "linen"] = "wool"


@dataclass(frozen=True)
class Car:
    engine: Annotated[Engine, Registry("kind", {"petrol": Petrol, "electric": Electric})]
    seats: Seats
    spare: Seats = field(default_factory=lambda: Seats(1))
    doors: Annotated[int, Field(ge=2, le=5)] = 4
    weight: Annotated[float, Field(gt=0)] = 1000.0
    name: Annotated[str, Field(pattern="^[a-z]+$")] = "car"
    owner: int | None = None


GOOD = "{engine: {kind: petrol}, seats: {rows: 2}}"


def faults_of(text: str) -> list[str]:
    faults: list[str] = []
    result = build(Car, read_yaml(text, "car.yaml"), "", faults)
    assert (result is None) == bool(faults)
    return faults


def car(text: str) -> Car:
    faults: list[str] = []
    result = build(Car, read_yaml(text, "car.yaml"), "", faults)
    assert faults == []
    assert isinstance(result, Car)
    return result


def with_key(line: str) -> str:
    return f"engine: {{kind: petrol}}\nseats: {{rows: 2}}\n{line}"


# ------------------------------------------------------------------------------ faults


def test_defaults_fill_what_is_not_given() -> None:
    assert car(GOOD) == Car(Petrol(), Seats(2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # a registry's name
        ("{seats: {rows: 2}}", "engine: missing; give it a mapping with kind: petrol, electric"),
        ("{engine: petrol, seats: {rows: 2}}", "engine.kind: missing; choose from petrol, electri"),
        ("{engine: {}, seats: {rows: 2}}", "engine.kind: missing; choose from petrol, electric"),
        (
            "{engine: {kind: steam}, seats: {rows: 2}}",
            "engine.kind: unknown 'steam'; choose from petrol, electric",
        ),
        ("{engine: {kind: 3}, seats: {rows: 2}}", "engine.kind: unknown 3; choose from petrol"),
        ("{engine: {kind: [petrol]}, seats: {rows: 2}}", "engine.kind: unknown ['petrol']; choose"),
        # keys
        (with_key("dors: 3"), "dors: unknown key; did you mean doors?"),
        (with_key("x: 3"), "x: unknown key; known keys are engine, seats, spare, doors, weight"),
        (with_key("7: 3"), "7: unknown key; known keys are"),
        (with_key("null: 3"), "None: unknown key; "),
        (
            "{engine: {kind: petrol, litre: 2}, seats: {rows: 2}}",
            "engine.litre: unknown key; did you mean litres?",
        ),
        (
            "{engine: {kind: electric, litres: 2}, seats: {rows: 2}}",
            "engine: kind electric has no litres; to exchange the whole part with its options",
        ),
        # sections
        ("{engine: {kind: petrol}}", "seats: missing; give it a mapping of rows, heated, cloth"),
        ("{engine: {kind: petrol}, seats: {}}", "seats.rows: missing"),
        ("{engine: {kind: petrol}, seats: null}", "seats: null is not a mapping of rows, heated"),
        ("{engine: {kind: petrol}, seats: 4}", "seats: 4 is not a mapping of rows, heated, cloth"),
        (with_key("spare: [1]"), "spare: [1] is not a mapping of rows, heated, cloth"),
        ("", "file: null is not a mapping of engine, seats"),
        ("- a\n- b", "file: ['a', 'b'] is not a mapping of engine, seats"),
        # types, strictly
        (with_key("doors: '4'"), "doors: '4' is refused: must be a whole number, without quotes"),
        (with_key("doors: 3.5"), "doors: 3.5 is refused: must be a whole number"),
        (with_key("doors: 4.0"), "doors: 4.0 is refused: must be a whole number"),
        (with_key("doors: true"), "doors: true is refused: must be a whole number"),
        (with_key("doors:"), "doors: null is refused: must be a whole number"),
        (with_key("doors: [4]"), "doors: [4] is refused: must be a whole number"),
        (with_key("owner: x"), "owner: 'x' is refused: must be a whole number"),
        (with_key("weight: '1e3'"), "weight: '1e3' is refused: must be a number, without quotes"),
        (with_key("weight: true"), "weight: true is refused: must be a number"),
        (with_key("weight: {}"), "weight: {} is refused: must be a number"),
        (with_key("name: 4"), "name: 4 is refused: must be text; put it in quotes"),
        (with_key("name: yes"), "name: true is refused: must be text; put it in quotes"),
        (with_key("name: 2020-01-31"), "name: 2020-01-31 is refused: put it in quotes if it is te"),
        (with_key("spare: {rows: 1, heated: 1}"), "spare.heated: 1 is refused: must be true or f"),
        (with_key("spare: {rows: 1, heated: 'no'}"), "spare.heated: 'no' is refused: must be true"),
        # ranges and choices
        (with_key("doors: 6"), "doors: 6 is refused: must be less than or equal to 5"),
        (with_key("doors: -1"), "doors: -1 is refused: must be greater than or equal to 2"),
        (with_key("weight: 0"), "weight: 0 is refused: must be greater than 0"),
        (with_key("weight: .nan"), "weight: nan is refused: must be finite"),
        (with_key("weight: .inf"), "weight: inf is refused: must be finite"),
        (with_key("weight: -.inf"), "weight: -inf is refused: must be finite"),
        (with_key("weight: 1e999"), "weight: inf is refused: must be finite"),
        (with_key("name: Car"), "name: 'Car' is refused: must match pattern '^[a-z]+$'"),
        (
            with_key("spare: {rows: 1, cloth: silk}"),
            "spare.cloth: 'silk' is refused: must be 'wool' or 'linen'",
        ),
        # items
        (
            "{engine: {kind: petrol, gears: [1, 0]}, seats: {rows: 2}}",
            "engine.gears[1]: 0 is refused: must be greater than or equal to 1",
        ),
        (
            "{engine: {kind: petrol, gears: [1, 2, '3']}, seats: {rows: 2}}",
            "engine.gears[2]: '3' is refused: must be a whole number",
        ),
        (
            "{engine: {kind: petrol, gears: 3}, seats: {rows: 2}}",
            "engine.gears: 3 is refused: must be a list, as in [a, b]",
        ),
        # a rule between two fields
        (
            "{engine: {kind: electric, low: 5}, seats: {rows: 2}}",
            "engine.low: 5 is above high = 2",
        ),
    ],
)
def test_one_fault_gives_one_line(text: str, expected: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(expected)


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    text = "zz: 1\nyy: 2\nengine: {kind: steam}\nseats: {rows: 0, heated: 7, sofa: 1}\ndoors: 9"
    keys = [fault.split(":")[0] for fault in faults_of(text)]
    assert keys == ["zz", "yy", "engine.kind", "seats.sofa", "seats.rows", "seats.heated", "doors"]


def test_error_names_the_source_on_every_line() -> None:
    error = ConfigError(["a: bad", "b: worse"], "my.yaml")
    assert str(error) == "my.yaml: a: bad\nmy.yaml: b: worse"
    assert error.faults == ("a: bad", "b: worse")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
data = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([f.name for f in dataclasses.fields(Car)] + ["kind", "rows", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(data)
def test_any_plain_data_gives_a_car_or_faults(given: Any) -> None:
    faults: list[str] = []
    result = build(Car, given, "", faults)
    assert (result is None) == bool(faults)
    assert all("\n" not in fault for fault in faults)
    if result is not None:
        assert build(Car, plain(result), "", faults) == result


@given(
    st.floats(0, 8, exclude_min=True, allow_subnormal=False),
    st.lists(st.integers(1, 10**6), max_size=4),
    st.integers(1, 10**9),
    st.integers(2, 5),
    st.none() | st.integers(),
)
def test_plain_is_the_inverse_of_build(
    litres: float, gears: list[int], rows: int, doors: int, owner: int | None
) -> None:
    one = Car(Petrol(litres, tuple(gears)), Seats(rows), doors=doors, owner=owner)
    given = plain(one)
    faults: list[str] = []
    assert build(Car, given, "", faults) == one, faults
    assert json.loads(json.dumps(given)) == given, "plain data must be what JSON gives back"
    assert given["engine"] == {"kind": "petrol", "litres": litres, "gears": gears}


def test_build_leaves_what_it_reads_as_it_was() -> None:
    given = read_yaml(GOOD, "car.yaml")
    before = json.dumps(given)
    build(Car, given, "", [])
    assert json.dumps(given) == before


def test_a_part_exchanged_by_name_alone_leaves_its_options_behind() -> None:
    """One line with what to type, not one for each of them; a slip of the keys is still named."""
    (fault,) = faults_of("{engine: {kind: electric, litres: 2, gears: [1]}, seats: {rows: 2}}")
    assert fault == (
        "engine: kind electric has no litres, gears; to exchange the whole part with its options: "
        "--set 'engine={kind: electric}'"
    )
    (slip,) = faults_of("{engine: {kind: electric, lowe: 2}, seats: {rows: 2}}")
    assert slip == "engine.lowe: unknown key; did you mean low?"
