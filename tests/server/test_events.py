"""Metrics that other programs draw: TensorBoard's files, and a tracker by the documented lines."""

from __future__ import annotations

import re
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metaward import door
from metaward.options import ConfigError
from metaward.server import events
from metaward.server.events import NUMBERING, numbers
from tests.server.small import small

GUIDE = Path(__file__).parents[2] / "docs" / "python.md"
DRAWN = small("server.events=[tensorboard]", "server.evaluation.baselines=[untrained]")


def test_tensorboard_reads_every_number_of_every_row(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: list[Any] = []
    result = door.run(DRAWN, tmp_path / "run", rows.append)
    read = EventAccumulator(str(result.path / "events" / "tensorboard"))
    read.Reload()
    expected = {
        (f"{row['phase']}/{name}", row["round"]): value
        for row in rows
        for name, value in numbers(row).items()
    }
    found = {
        (tag, event.step): event.value
        for tag in read.Tags()["scalars"]
        for event in read.Scalars(tag)
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert any(name.endswith("/after") for name, _ in found)


def test_what_is_drawn_changes_no_result(tmp_path: Path) -> None:
    drawn = door.run(DRAWN, tmp_path / "drawn")
    plain = door.run(door.load(DRAWN, {"server.events": []}), tmp_path / "plain")
    assert drawn.theta.tobytes() == plain.theta.tobytes()
    assert not (plain.path / "events").exists()


def test_a_missing_package_is_named_before_a_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'metaward\[tensorboard\]'"):
        door.run(DRAWN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_numbers_of_a_row() -> None:
    row = {"phase": "maml", "round": 2, "of": 9, "loss": 0.5, "note": "x", "norms": {"a": 1.0}}
    assert numbers({**row, "ok": True, "none": None}) == {"loss": 0.5, "norms/a": 1.0}


def test_the_documented_tracker_gets_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of docs/python.md, with a stand-in for the package that they import."""
    logged: list[tuple[dict[str, float], int]] = []
    stand_in = SimpleNamespace(
        start_run=nullcontext,
        log_dict=lambda mapping, name: None,
        log_metrics=lambda values, step: logged.append((values, step)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.chdir(tmp_path)
    found = re.search(
        r"((?:    .*\n|\n)*?    import mlflow\n(?:    .*\n|\n)*)", GUIDE.read_text("utf-8")
    )
    assert found
    exec(textwrap.dedent(found[1]), {"run": small()})
    assert {name for values, _ in logged for name in values if name.endswith(".loss")}
    assert all(type(step) is int for _, step in logged)
    assert not {name for values, _ in logged for name in values} & set(NUMBERING)
