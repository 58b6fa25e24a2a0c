"""Names that no file can have: one line that says so, wherever they are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import metaward as mw
from metaward.files import usable, writable
from metaward.server.cli import main
from tests.server.small import SMALL, small

LONG, ZERO = "n" * 300, "a\0b"
COMMANDS = {
    "run": ("run", "NAME"),
    "run, out": ("run", "CONFIG", "--out", "NAME"),
    "run, below a file": ("run", "CONFIG", "--out", "FILE/x"),
    "resume": ("resume", "NAME"),
    "report": ("report", "NAME"),
    "evaluate": ("evaluate", "NAME"),
    "evaluate, below a file": ("evaluate", "FILE/x"),
    "compare": ("compare", "NAME", "CONFIG"),
    "adapt": ("adapt", "NAME", "--data", "FILE"),
    "plan": ("privacy", "plan", "NAME"),
    "tasks": ("tasks", "show", "NAME"),
    "start": ("run", "CONFIG", "--set", "server.start=NAME"),
    "data": ("run", "CONFIG", "--set", "data.root=NAME"),
}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((command, LONG) for command in COMMANDS),
        *((command, r'"a\0b"') for command, words in COMMANDS.items() if "--set" in words),
    ],
    ids=repr,
)
def test_no_command_ends_in_a_traceback(
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, file = tmp_path / "small.yaml", tmp_path / "file"
    config.write_text(json.dumps(small("server.rounds=2").mapping()))
    file.write_text("x")
    words = {"NAME": name, "CONFIG": str(config), "FILE": str(file)}
    given = COMMANDS[command]
    for word, value in words.items():
        given = tuple(one.replace(word, value) for one in given)
    monkeypatch.setattr(sys, "argv", ["metaward", *given])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert len(printed.err.strip().splitlines()) == 1
    assert "results in" not in printed.out + printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "small.yaml"]


@pytest.mark.parametrize("name", [LONG, ZERO], ids=["long", "zero byte"])
def test_from_python(name: str, tmp_path: Path) -> None:
    run = mw.load(SMALL)
    calls: list[Any] = [
        lambda: mw.load(name),
        lambda: mw.run(run, tmp_path / name),
        lambda: mw.open(tmp_path / name),
        lambda: mw.resume(tmp_path / name),
    ]
    for call in calls:
        with pytest.raises(mw.MetawardError, match=r"too long|null byte"):
            call()


def test_where_a_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "new", tmp_path / "new" / "newer", tmp_path / "file"):
        assert writable(place) == place == usable(place)
    with pytest.raises(mw.MetawardError, match=r"cannot be written: .*file is a file"):
        writable(tmp_path / "file" / "x" / "y")
