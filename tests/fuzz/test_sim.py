"""Configurations: damaged sim.yaml files, any yaml, plain data with a part changed, overrides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from metaward import sim
from metaward.yaml_text import override, read_yaml
from tests.fuzz.damage import TEXTS, TREES, altered, damaged
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.server.small import SMALL

YAML = sim.DEFAULT.read_text(encoding="utf-8")
TAGS = ["int", "float", "bool", "null", "timestamp", "binary", "set", "omap", "pairs", "merge"]
WORDS = st.sampled_from(
    [
        "a: ",
        "- ",
        "? ",
        "&a ",
        "*a",
        "<<: ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "\n  ",
        "'",
        '"',
        "|",
        "#",
    ]
    + [f"!!{tag} " for tag in TAGS]
    + ["1", "0x", "0b", "1:30", ".inf", ".nan", "_", "2001-01-99", "~", "=", "\t", "%YAML", "---"]
) | st.text(max_size=3)
ALIASES = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)
KNOWN = [
    b"!!int ''",
    b"!!bool x",
    b"!!timestamp x",
    b"!!int _",
    b"!!set 1",
    b"a: !!float ''",
    ALIASES.encode(),
    b"client: &a [*a]",
    b"&a {*a : 1}",
    ("client:\n" + ALIASES.replace("\n", "\n  ")).encode().rstrip(),
]
"""What once ended in an error of Python, or in a text of gigabytes."""


def load(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    run = sim.load(path)
    assert sim.load_json(run.canonical()).canonical() == run.canonical()


def parse(mapping: Any) -> None:
    run = sim.parse(mapping)
    assert sim.parse(run.mapping()) == run


@inputs(30, 600)
def test_damaged_files(number: int, counted: Counted, tmp_path: Path) -> None:
    files = st.sampled_from([YAML, yaml.safe_dump(SMALL)]).map(str.encode).flatmap(damaged)
    fuzz(number, files, lambda text: load(text, tmp_path / "sim.yaml"), counted, KNOWN)


@inputs(60, 1200)
def test_any_yaml(number: int, counted: Counted, tmp_path: Path) -> None:
    texts = st.lists(WORDS, max_size=20).map("".join).map(lambda t: t.encode(errors="replace"))
    fuzz(number, texts, lambda text: load(text, tmp_path / "sim.yaml"), counted, KNOWN)


@inputs(40, 1000)
def test_trees(number: int, counted: Counted) -> None:
    fuzz(number, altered(SMALL) | altered(sim.load(sim.DEFAULT).mapping()) | TREES, parse, counted)


@inputs(40, 400)
def test_overrides(number: int, counted: Counted) -> None:
    keys = st.sampled_from(["seed", "client.tasks", "client.tasks.ways", "privacy", "a.b.c", "."])
    texts = st.tuples(
        keys | TEXTS, st.sampled_from(["=", ""]), TEXTS | st.lists(WORDS).map("".join)
    )

    def overridden(text: str) -> None:
        mapping = json.loads(json.dumps(SMALL))
        override(mapping, text)
        parse(mapping)

    fuzz(number, texts.map("".join), overridden, counted)


@pytest.mark.parametrize("text", KNOWN)
def test_what_can_be_read_is_plain_data_of_a_bounded_size(text: bytes) -> None:
    try:
        found = read_yaml(text, "yaml")
    except sim.ConfigError:
        return
    assert len(repr(found)) < 1_000_000
