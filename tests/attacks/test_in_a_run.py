"""Attacks of a hospital in a whole run: where its name and the reason can be read afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from safetensors.numpy import load_file

from metaward.client import answering
from metaward.privacy.wire import SCHEMA
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.strategies.quorum import QuorumError
from tests.attacks.consortium import ROUNDS
from tests.attacks.on_server import HOSTILE
from tests.server.small import small

RUN = small(
    f"server.rounds={ROUNDS}", "server.evaluation.baselines=[]", "strategies.hospitals_per_round=4"
)
ATTACKER = "sine-02"
Spoil = Callable[[RecordDict], object]


def updated(change: Callable[[Any], Any]) -> Spoil:
    def spoil(records: RecordDict) -> None:
        found = records["arrays"]["update"].numpy()
        records["arrays"] = ArrayRecord({"update": Array(change(found))})

    return spoil


def refusing(records: RecordDict) -> None:
    records.clear()
    records["refusal"] = ConfigRecord({"schema": SCHEMA, "code": HOSTILE})


ATTACKS: dict[str, tuple[Spoil, str]] = {
    "NaN": (updated(lambda u: u * np.nan), "not-finite"),
    "1e30": (updated(lambda u: u * 0 + 1e30), "norm-above-cap"),
    "a scalar array": (updated(lambda u: np.array(1, u.dtype)), "wrong-shape"),
    "a weight of 1e12": (lambda r: r["release"].update(weight=1e12), "malformed-keys"),
    "a refusal that steers a terminal or a page": (refusing, "malformed-code"),
}


def carried_out(path: Path, spoil: Spoil | None, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A run in which one hospital's updates are spoilt on their way out; without: it is silent."""

    honest = answering.answer

    def answer(duty: answering.Duty, records: RecordDict, config: Any, **more: Any) -> RecordDict:
        found = honest(duty, records, config, **more)
        if duty == "train" and config["partition-id"] == 1:
            (spoil or RecordDict.clear)(found)
        return found

    monkeypatch.setattr(answering, "answer", answer)
    folder = Folder(path)
    folder.create(RUN)
    ENGINES["inprocess"](RUN, folder, lambda row: None)
    return folder


def theta(folder: Folder) -> bytes:
    return load_file(folder.path / "theta.safetensors")["theta"].tobytes()


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        return theta(carried_out(tmp_path_factory.mktemp("without") / "run", None, patch))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attacker_is_named_wherever_a_result_is_read(
    name: str, without: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theta is that of the others; audit.jsonl, result.json, report.md and report.html have the
    attacker and the reason, and nothing that it wrote."""
    spoil, reason = ATTACKS[name]
    folder = carried_out(tmp_path / "run", spoil, monkeypatch)
    assert theta(folder) == without
    lines = [line for line in folder.trail().lines() if line["what"] == "reply rejected"]
    named = [(line["round"], line["hospital"], line["reason"]) for line in lines]
    assert named == [(number, ATTACKER, reason) for number in range(1, ROUNDS + 1)]
    (missed,) = json.loads((folder.path / "result.json").read_text())["missed"]
    assert (missed["hospital"], missed["reasons"]) == (ATTACKER, {reason: ROUNDS})
    for page in ("report.md", "report.html"):
        text = (folder.path / page).read_text(encoding="utf-8")
        assert ATTACKER in text
        assert reason in text
    for path in folder.path.rglob("*.*"):
        if path.is_file() and path.suffix in (".jsonl", ".json", ".md", ".html", ".log"):
            content = path.read_text(encoding="utf-8")
            assert "\x1b" not in content, path
            assert "<script" not in content, path


SCORES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "NaN": (lambda s: replace(s, after=s.after * np.nan), "not-finite"),
    "below the range": (lambda s: replace(s, after=s.after * 0 - 1), "out-of-range"),
    "of another name": (lambda s: replace(s, names=("auroc",)), "wrong-scores"),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_that_must_not_count(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No score of the attacker's is in a table. The final table needs every hospital that judges,
    so the run fails there with the hospital's name; the trained theta is kept, and the run ends as
    it would have when the hospital answers."""
    from metaward.client import work

    change, reason = SCORES[name]
    evaluate, folder = work.evaluate, Folder(tmp_path / "run")

    def hostile(desk: Any, request: Any, node: Any) -> Any:
        scores = evaluate(desk, request, node)
        return change(scores) if scores.hospital == "unseen-01" else scores

    folder.create(RUN)
    monkeypatch.setattr(work, "evaluate", hostile)
    with pytest.raises(QuorumError, match=rf"no scores from unseen-01 \({reason}\)"):
        ENGINES["inprocess"](RUN, folder, lambda row: None)
    rows = [row for row in folder.rows() if "accepted" not in row]
    assert rows
    assert all(row["rejected"] == {"unseen-01": reason} for row in rows)
    monkeypatch.setattr(work, "evaluate", evaluate)
    ENGINES["inprocess"](RUN, folder, lambda row: None)
    assert folder.status() == ("finished", "")
