"""The ledger of a hospital with a gate names the code that used its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from metaward.client.app import app
from metaward.client.errors import NodeError
from metaward.client.let_in import code_let_in
from metaward.privacy import Answer, Refusal, Release
from metaward.privacy.ledger import verify
from metaward.privacy.wire import decode_answer, encode_request
from metaward.server.deploy.gate.passage import GateLog
from tests.client.bedside import Site, request, site

__all__ = ["site"]
OLD, NEW, OTHER = "a1" * 32, "b2" * 32, "c3" * 32
RUN = 2**64 - 7
"""Flower's numbers of runs are as large as this."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "gate.jsonl"


def let_in(log: Path, bundle: str, run: int = RUN, what: str = "admitted") -> None:
    """A line as the gate writes it."""
    GateLog(log).note(what, bundle=bundle, flower_run=str(run), version="metaward 1", signer="key")


def found(log: Path, run: int | None = RUN) -> str | None:
    return code_let_in({"gate-log": str(log)}, run)


def test_the_last_bundle_that_was_let_in_for_the_run_is_found(log: Path) -> None:
    let_in(log, OTHER, run=5)
    let_in(log, OLD)
    let_in(log, NEW)
    let_in(log, OTHER, what="refused")
    let_in(log, OTHER, run=RUN - 1)
    assert found(log) == NEW
    assert found(log, 5) == OTHER


@pytest.mark.parametrize(
    "line",
    [
        '{"what": "admitted", "bund',
        "[]",
        "null",
        f'"{RUN}"',
        f'{{"what": "admitted", "bundle": "xyz", "flower_run": "{RUN}"}}',
        f'{{"what": "admitted", "bundle": "{OTHER}", "flower_run": {RUN}}}',
        f'{{"what": "admitted", "flower_run": "{RUN}"}}',
        f"{RUN}" + "[" * 100_000,
        f'{{"what": "started", "superlink": "{RUN}"}}',
    ],
    ids=lambda line: line[:40],
)
def test_a_line_that_lets_nothing_in_is_no_evidence(log: Path, line: str) -> None:
    log.write_text(line + "\n")
    with pytest.raises(NodeError, match="let in no code") as caught:
        found(log)
    assert caught.value.code == "gate-log"
    let_in(log, NEW)
    assert found(log) == NEW


@pytest.mark.parametrize("config", [{}, {"gate-log": ""}, {"policy": "p.yaml"}])
def test_without_a_gate_nothing_is_said(config: dict[str, str]) -> None:
    assert code_let_in(config, RUN) is None


def test_where_the_run_is_not_known_nothing_is_said(log: Path) -> None:
    let_in(log, NEW)
    assert found(log, None) is None


def test_a_log_that_cannot_be_read_is_named(log: Path) -> None:
    with pytest.raises(NodeError, match=r"gate\.jsonl cannot be read"):
        found(log)
    log.mkdir()
    with pytest.raises(NodeError, match=r"gate\.jsonl cannot be read"):
        found(log)


# ------------------------------------------------------------------------ through to the ledger


def ask(site: Site, **more: Any) -> Answer:
    """The answer of a hospital to a request of Flower's run ``RUN``."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    config = {"partition-id": 0, **site.config, **more}
    message = Message(encode_request(request()), 7, "train")
    reply = app(message, Context(RUN, 7, config, RecordDict(), {}, 0))
    assert reply.has_content()
    return decode_answer(reply.content)


def test_the_charge_names_the_code(site: Site, log: Path) -> None:
    let_in(log, NEW)
    assert isinstance(ask(site, **{"gate-log": str(log)}), Release)
    history = site.ledger.history()
    assert [charge.code for charge in history.charges] == [NEW]
    assert [run.code for run in history.runs()] == [(NEW,)]
    assert verify(site.path) == []


def test_a_repeated_request_is_one_charge_whatever_code_came_since(site: Site, log: Path) -> None:
    let_in(log, OLD)
    first = ask(site, **{"gate-log": str(log)})
    let_in(log, NEW)
    again = ask(site, **{"gate-log": str(log)})
    assert isinstance(first, Release)
    assert isinstance(again, Release)
    assert first.update.tobytes() == again.update.tobytes()
    assert [charge.code for charge in site.ledger.history().charges] == [OLD]


def test_without_a_gate_a_charge_has_the_content_that_it_always_had(site: Site) -> None:
    assert isinstance(ask(site), Release)
    (charge,) = site.ledger.history().charges
    assert charge.code is None
    assert "code" not in rows(site)[1]


def test_code_that_did_not_pass_the_gate_is_refused_before_it_is_charged(
    site: Site, log: Path
) -> None:
    let_in(log, NEW, run=5)
    assert ask(site, **{"gate-log": str(log)}) == Refusal("gate-log")
    assert site.charges() == 0
    (refusal,) = site.ledger.history().refusals
    assert f"Flower's run {RUN}" in refusal.reason


def rows(site: Site) -> list[dict[str, Any]]:
    import sqlite3

    with sqlite3.connect(site.path) as db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM entry ORDER BY seq")]
