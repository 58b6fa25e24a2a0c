"""JSON files that metaward wrote and reads again: a damaged one is named, never a traceback."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from metaward import sim
from metaward.options import ConfigError
from metaward.server.comparing.side import side
from metaward.server.deploy.consortium.live import ServerSite
from metaward.server.deploy.consortium.members import Consortium
from metaward.server.folder import Folder
from metaward.server.spending import spending
from metaward.server.stored import FORMS, stored
from metaward.server.sweeping.place import SweepPlace
from tests.server.small import small

BAD = {
    "cut short": '{"hospitals": [',
    "a list": "[]",
    "a number": "3",
    "empty": "",
    "no text": "\x00",
    "too deep": "[" * 100_000,
    "null": "null",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("name", FORMS)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match="is damaged") as caught:
        stored(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"hospitals": []},
        {"hospitals": [{"this_run": 1.0}]},
        {"hospitals": [{"this_run": "much", "history": []}]},
        {"hospitals": [{"this_run": 1.0, "history": [{"round": "1", "epsilon": 1.0}]}]},
        {"hospitals": [{"this_run": 1.0, "history": [{"round": 1}]}]},
    ],
    ids=json.dumps,
)
def test_a_privacy_report_without_what_is_read_of_it_is_named(tmp_path: Path, content: Any) -> None:
    folder = Folder(tmp_path / "run")
    folder.create(small())
    folder.write_json("privacy.json", content)
    with pytest.raises(ConfigError, match=r"privacy\.json: is damaged"):
        spending(folder)
    with pytest.raises(ConfigError, match=r"privacy\.json: is damaged"):
        side(folder.path, "run")


def test_an_unlimited_spend_is_a_number_for_the_picture(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    points = [{"round": 1, "epsilon": 2.0}, {"round": 2, "epsilon": "unlimited"}]
    folder.write_json("privacy.json", {"hospitals": [{"this_run": 1.0, "history": points}]})
    assert spending(folder) == {1: 2.0, 2: float("inf")}


def test_a_sweep_whose_plan_is_damaged_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"keys": [')
    with (
        pytest.raises(ConfigError, match=r"plan\.json: is damaged.*another folder with --out"),
        SweepPlace(tmp_path).claimed(None),  # type: ignore[arg-type]
    ):
        pytest.fail("the folder was claimed")


@pytest.mark.parametrize("text", ["", "[]", '{"key": 7}'])
def test_damaged_numbers_of_nodes_are_named(tmp_path: Path, text: str) -> None:
    site = ServerSite(Consortium("trial", ("a.example.org",), prefix=str(tmp_path)))
    assert site.numbers() == {}
    site.known.parent.mkdir(parents=True)
    site.known.write_text(text)
    with pytest.raises(ConfigError, match=r"nodes\.json: is damaged.*metaward deploy register"):
        site.numbers()


def test_json_is_read_in_one_place() -> None:
    """``json.loads`` itself ends a deeply nested text with RecursionError, which nobody expects."""
    folders = ("metaward", "client", "privacy", "strategies", "server")
    found = {
        str(path.relative_to(sim.HERE))
        for folder in folders
        for path in (sim.HERE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("loads", "load")
        and isinstance(node.value, ast.Name)
        and node.value.id == "json"
    }
    assert found == {"metaward/json_text.py"}
