"""YAML that means what it says, errors with a line, and single keys set from outside."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward.options import ConfigError
from metaward.yaml_text import merged, override, read_yaml

# -------------------------------------------------------------------------------- yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("-1e5", -1e5),
        ("+2.e2", 200.0),
        ("1.5e3", 1500.0),
        ("1.5e-3", 0.0015),
        ("1_0e2", 1000.0),
        (".5e-3", 0.0005),
    ],
)
def test_scientific_notation_is_a_number(text: str, value: float) -> None:
    found = read_yaml(text, "f")
    assert isinstance(found, float)
    assert math.isclose(found, value, rel_tol=1e-15)


@pytest.mark.parametrize("text", ["e3", "1e", "e-3", "1e3x", "x1e3", "run1e3", "1e3.5"])
def test_words_that_look_like_it_stay_text(text: str) -> None:
    assert read_yaml(text, "f") == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_json_writes_is_read_back(value: float) -> None:
    assert read_yaml(json.dumps(value), "f") == value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1,\nc: 2", 3, ""),
        ("a: 1\nb: 2\n\tc: 3", 3, "tab|token"),
        ("a: b: c", 1, "mapping values are not allowed"),
        ("a: 1\nb: 2\na: 3", 3, "key 'a' is repeated"),
        ("a:\n  b: 1\n  c: 2\n  b: 3", 4, "key 'b' is repeated"),
        ("a: {b: 1, b: 2}", 1, "key 'b' is repeated"),
        ("a: 1\n1: 2\n1: 3", 3, "key 1 is repeated"),
        ("a: 1\nb: *nowhere", 2, "undefined alias"),
        ("a: 1\n---\nb: 1", 2, "another document"),
        ("a: 1\nb: 2020-13-45", 2, "month must be in"),
        ("a: 1\nb: 0b_", 2, "invalid literal"),
        ("a: 1\nb: " + "9" * 5000, 2, "limit"),
        ("a: !!python/object/apply:os.system [ls]", 1, "could not determine a constructor"),
        ("? [1]\n: 2", 1, "unhashable"),
    ],
)
def test_syntax_error_names_file_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^my\.yaml: line {line}: .*({words})") as caught:
        read_yaml(text, "my.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: \x01", b"a: \xff\xfe\xff", b"name: caf\xe9"])
def test_bytes_that_are_no_text_are_refused(text: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"^my\.yaml: .*position"):
        read_yaml(text, "my.yaml")


def test_merge_keys_and_aliases_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a"
    assert read_yaml(text, "f") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2},
    }


# --------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("doors=3", {"a": {"b": 1}, "doors": 3}),
        ("a.b=1e-3", {"a": {"b": 0.001}}),
        ("a.b=", {"a": {"b": None}}),
        ("a.c=[1, two]", {"a": {"b": 1, "c": [1, "two"]}}),
        ("a.b={x: 1}", {"a": {"b": {"x": 1}}}),
        ("a.b='5'", {"a": {"b": "5"}}),
        ("a.b=x=y", {"a": {"b": "x=y"}}),
        ("n.e.w=true", {"a": {"b": 1}, "n": {"e": {"w": True}}}),
    ],
)
def test_override_sets_one_key(text: str, expected: Any) -> None:
    mapping = {"a": {"b": 1}}
    override(mapping, text)
    assert mapping == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("doors", "'doors' is not section.key=value"),
        ("=3", "'=3' is not section.key=value"),
        ("a.=3", "'a.=3' is not section.key=value"),
        (".b=3", "'.b=3' is not section.key=value"),
        ("a..b=3", "'a..b=3' is not section.key=value"),
        ("", "'' is not section.key=value"),
        ("a.b.c=3", "a.b.c: b is not a section"),
        ("l.x=3", "l.x: l is not a section"),
        ("n.x=3", "n.x: n is not a section"),
        ("a.b=[1", "a.b: line 1: "),
        ("a.b=x: y: z", "a.b: line 1: "),
    ],
)
def test_override_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override({"a": {"b": 1}, "l": [1], "n": None}, text)
    assert str(caught.value).startswith("--set")
    assert words in str(caught.value)


@pytest.mark.parametrize("mapping", [None, [], "text", 3])
@pytest.mark.parametrize("text", ["a=1", "a.b=1"])
def test_override_of_a_file_without_sections_is_refused(mapping: Any, text: str) -> None:
    with pytest.raises(ConfigError, match="holds no sections"):
        override(mapping, text)


def test_override_through_an_alias_leaves_its_anchor() -> None:
    mapping = read_yaml("a: &a {x: 1}\nb: *a", "f")
    override(mapping, "b.x=2")
    assert mapping == {"a": {"x": 1}, "b": {"x": 2}}


@pytest.mark.parametrize("text", ["010", "0_7", "-017", "1:30", "1:30.5", "190:20:30"])
def test_numbers_in_another_base_are_refused(text: str) -> None:
    """In yaml 010 is 8 and 1:30 is 90."""
    with pytest.raises(ConfigError, match=f"line 1: {text} would be read in another base"):
        read_yaml(f"seed: {text}", "file")
    assert read_yaml(f"seed: '{text}'", "file") == {"seed": text}


@pytest.mark.parametrize("text", ["0", "0.5", "-0.1", "10", "1e-3"])
def test_plain_numbers_are_numbers(text: str) -> None:
    assert read_yaml(f"x: {text}", "file") == {"x": float(text)}


def test_what_holds_itself_or_is_too_deep_is_refused() -> None:
    with pytest.raises(ConfigError, match="nested too deeply, or an alias holds itself"):
        read_yaml("[" * 5000, "file")
    with pytest.raises(ConfigError, match="file: line 2: an alias holds itself; write out"):
        read_yaml("a: 1\ndoors: &a [*a]", "file")


def test_a_few_lines_do_not_stand_for_any_number_of_values() -> None:
    lines = [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    with pytest.raises(ConfigError, match="line 7: this stands for more than 1000000 characters"):
        read_yaml("\n".join(["a0: &a0 [x, x]", *lines]), "file")


def test_merging_changes_key_by_key_and_takes_a_new_part_whole() -> None:
    base = {"a": {"network": "conv", "width": 3}, "b": {"x": 1, "y": 2}, "c": [1, 2]}
    own = {"a": {"network": "mlp"}, "b": {"y": 3}, "c": [4], "d": None}
    assert merged(base, own) == {
        "a": {"network": "mlp"},
        "b": {"x": 1, "y": 3},
        "c": [4],
        "d": None,
    }
    assert merged(base, {"a": {"width": 5}})["a"] == {"network": "conv", "width": 5}
    assert merged(base, {"a": {"network": "conv", "width": 5}})["a"]["width"] == 5
    assert base["b"] == {"x": 1, "y": 2}
