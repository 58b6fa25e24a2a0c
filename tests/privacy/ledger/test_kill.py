"""Processes killed at random moments; ``benchmarks/ledger_kills.py`` kills a thousand of them."""

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.privacy.ledger import Ledger
from tests.scripts import script

kills = script("ledger_kills")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")


def test_thirty_kills_break_no_promise(tmp_path: Path) -> None:
    stages = kills.kill_many(tmp_path, 30, np.random.default_rng(7))
    assert stages.total() - stages["journals"] == 30
    assert kills.inspect(tmp_path) == []
    calm(tmp_path)
    assert kills.inspect(tmp_path) == []
    figures = kills.summary(tmp_path)
    assert figures["requests_answered"] >= 5
    assert figures["requests_refused"] >= 1
    assert figures["replies_sent"] > figures["requests_answered"], "nothing was ever sent again"


def calm(folder: Path) -> None:
    """Nobody is killed: the rest of 15 requests, and those sent before once more."""
    scene = kills.Scene(folder / "kills.ledger", folder / "sent.jsonl", mmap.mmap(-1, 1))
    ledger = Ledger.open(scene.ledger)
    for number in range(15):
        kills.serve(scene, ledger, number)


def test_the_budget_is_within_reach() -> None:
    """Nine requests for one record cost more than the cap, or this is no test."""
    for record in (20, 40):
        asked = [n for n in range(99) if f"record:{record}" in kills.charges(n)[0].keys]
        assert len(asked) == 9
        assert sum(kills.mu_squared(kills.charges(n)[0].events) for n in asked) > kills.CAP


def forgetful(scene: Any, ledger: Ledger, number: int) -> None:
    """A hospital that sends what it has not stored."""
    entry = kills.charge(scene, ledger, number % 3)
    reply = kills.compute(scene, number)
    scene.send({"request": number % 3, "charge": entry.sequence, "reply": reply.hex()})


def test_a_hospital_that_does_not_store_is_found_out(tmp_path: Path) -> None:
    kills.kill_many(tmp_path, 10, np.random.default_rng(8), forgetful)
    text = "\n".join(kills.inspect(tmp_path))
    assert "a reply left that was not paid and stored" in text
    assert "different answers" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reply": "00"}, "not paid and stored"),
        ({"charge": 1}, "not paid and stored"),
        ({"charge": 9999}, "not paid and stored"),
        ({"request": 9999}, "not paid and stored"),
    ],
)
def test_a_forged_line_is_found(tmp_path: Path, change: dict[str, object], words: str) -> None:
    Ledger.create(tmp_path / "kills.ledger", "kills")
    calm(tmp_path)
    assert kills.inspect(tmp_path) == []
    forged = next(line for line in kills.lines(tmp_path / "sent.jsonl") if "reply" in line) | change
    with (tmp_path / "sent.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(forged) + "\n")
    assert any(words in fault for fault in kills.inspect(tmp_path))


def test_overspending_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same processes, with an accountant that allows everything."""
    monkeypatch.setattr(kills, "allows", lambda spent, new, budget: True)
    Ledger.create(tmp_path / "kills.ledger", "kills")
    calm(tmp_path)
    assert any("has spent" in fault for fault in kills.inspect(tmp_path))
