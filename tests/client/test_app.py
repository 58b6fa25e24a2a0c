"""The hospital's edge: what it answers, what it refuses, and what never leaves."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from metaward.client import node as node_module
from metaward.client import work
from metaward.client.app import app
from metaward.client.desk import Desk
from metaward.client.errors import DataError, NodeError
from metaward.client.inner import ALGORITHMS
from metaward.client.inner.at_once import TasksAtOnce
from metaward.client.node import Node
from metaward.options import ConfigError
from metaward.privacy import Attendance, Refusal, Release, Scores
from metaward.privacy.asked import PolicyError
from metaward.privacy.ledger import BudgetSpent, LedgerError
from metaward.privacy.wire import Request, decode_answer, encode_request
from tests.server.small import small

RUN = small()
NODES = len(RUN.client.tasks.roster())
UNSEEN = 4
SECRET = "patient Miller, born 1960"


@pytest.fixture(autouse=True)
def identity() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def theta() -> np.ndarray:
    setting = work.open_setting(RUN.desk())
    return np.asarray(RUN.client.inner.initial(setting, RUN.seed).numpy())


def request(**changes: Any) -> Request:
    fields = {"round": 1, "desk": RUN.desk().json()}
    return Request(**{**fields, "theta": theta(), **changes})


def ask(kind: str, content: RecordDict, index: object = 0, **config: Any) -> Any:
    return decode_answer(message_from(kind, content, index, **config).content)


def message_from(kind: str, content: RecordDict, index: object = 0, **config: Any) -> Message:
    message = Message(content, 7, kind)
    simulated = {} if "policy" in config else {"simulation": "no-ledger-is-made-under-none"}
    node = {"partition-id": index, "num-partitions": NODES, **simulated, **config}
    reply = app(message, Context(1, 7, node, RecordDict(), {}, 0))
    assert reply.has_content(), "errors carry text; only fixed codes may leave"
    return reply


def test_roster_train_and_evaluate() -> None:
    name = RUN.client.tasks.roster()[2].name
    assert ask("query.roster", encode_request(request(theta=None)), 2) == Attendance(name, 2)
    release = ask("train", encode_request(request()), 2)
    assert isinstance(release, Release)
    assert (release.hospital, release.round, release.update.shape) == (name, 1, theta().shape)
    assert np.linalg.norm(release.update) > 0
    scores = ask("evaluate", encode_request(request(episodes=3)), UNSEEN)
    assert isinstance(scores, Scores)
    assert scores.before.shape == scores.after.shape == (1, 3)


def test_an_answer_is_a_function_of_the_request_and_the_hospital() -> None:
    one, again = (ask("train", encode_request(request()), 1).update for _ in range(2))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != ask("train", encode_request(request()), 2).update.tobytes()
    assert one.tobytes() != ask("train", encode_request(request(round=2)), 1).update.tobytes()


def test_every_learner_is_judged_on_the_same_episodes() -> None:
    """The round does not move them: only theta and the learner make a difference."""
    first = ask("evaluate", encode_request(request(episodes=4, round=1)), 4)
    later = ask("evaluate", encode_request(request(episodes=4, round=9)), 4)
    assert first.after.tobytes() == later.after.tobytes()


ERRORS = [
    (RuntimeError(SECRET), "failed"),
    (NodeError("device-missing", SECRET), "device-missing"),
    (NodeError(SECRET, SECRET), "failed"),
    (DataError(SECRET), "data-refused"),
    (MemoryError(SECRET), "failed"),
    (KeyError(SECRET), "failed"),
    (ConfigError([SECRET]), "bad-request"),
    (PolicyError("policy-steps", SECRET), "policy-steps"),
    (LedgerError("ledger-busy", SECRET), "ledger-busy"),
    (BudgetSpent(SECRET, 3, 9), "budget-spent"),
    (LedgerError(SECRET, SECRET), "failed"),
]


@pytest.mark.parametrize("where", ["attend", "train", "evaluate", "open_hospital", "guard"])
@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_no_words_of_an_exception_leave(
    where: str,
    error: Exception,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks(*_: object) -> None:
        raise error

    if where == "guard":
        monkeypatch.setattr(node_module, "open_guard", breaks)
    else:
        monkeypatch.setattr(work, where, breaks)
    kind = {"attend": "query.roster", "evaluate": "evaluate"}.get(where, "train")
    content = request(episodes=2 if kind == "evaluate" else 0)
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        reply = message_from(kind, encode_request(content), UNSEEN if kind == "evaluate" else 0)
    assert decode_answer(reply.content) == Refusal(code)
    assert SECRET.encode() not in pickle.dumps(reply), "not in the metadata either"
    assert SECRET in caplog.text, "the hospital's own log must tell its engineer what happened"


@pytest.mark.parametrize(
    ("content", "named"),
    [(encode_request(request()), "hospital sine-03: "), (RecordDict(), "hospital number 2 of")],
)
def test_the_log_names_the_hospital_where_its_name_is_known(
    content: RecordDict, named: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def breaks(*_: object) -> None:
        raise DataError("no such file")

    monkeypatch.setattr(work, "open_hospital", breaks)
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        message_from("train", content, 2)
    (record,) = caplog.records
    assert record.getMessage().startswith(named)


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"request": ConfigRecord({"schema": 1})}),
        encode_request(request(desk='{"seed": 3}')),
        encode_request(request(desk="not json")),
        encode_request(request(theta=None)),
    ],
)
def test_a_malformed_request_is_refused(content: RecordDict) -> None:
    assert ask("train", content) == Refusal("bad-request")


@pytest.mark.parametrize(
    "learner",
    [
        replace(RUN.client.inner, local_lr=0.1),  # type: ignore[type-var]
        ALGORITHMS["fedavg"](),
        ALGORITHMS["proto_maml"](),
        replace(ALGORITHMS["embedding"](), local_lr=0.1),
    ],
)
def test_a_learner_that_the_mechanism_cannot_protect_is_refused(
    learner: Any, tmp_path: Path
) -> None:
    """The hospital checks it again: for unit task one that goes round the clipping would send what
    no noise was added to."""
    run = small("privacy={mechanism: whole, unit: task}", "client.schedule=passes")
    config = {"simulation": str(tmp_path)}
    unsound = replace(run.desk(), learner=learner).json()
    asked = request(desk=unsound)
    assert ask("train", encode_request(asked), 0, **config) == Refusal("bad-request")
    asked = request(desk=unsound, episodes=1)
    assert ask("evaluate", encode_request(asked), UNSEEN, **config) == Refusal("bad-request")
    sound = request(desk=run.desk().json())
    assert isinstance(ask("train", encode_request(sound), 0, **config), Release)


def test_evaluation_of_no_episodes_is_refused() -> None:
    assert ask("evaluate", encode_request(request(episodes=0))) == Refusal("bad-request")


@pytest.mark.parametrize(
    ("index", "code"), [("one", "failed"), (-5, "data-refused"), (99, "data-refused")]
)
def test_a_wrong_partition_id_does_not_answer_for_another_hospital(
    index: object, code: str
) -> None:
    assert ask("train", encode_request(request()), index) == Refusal(code)


def test_a_data_path_is_never_taken_from_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Path | None] = []

    def look(_: Desk, __: Request, node: Node) -> Attendance:
        seen.append(node.root)
        return Attendance("sine-01", node.index)

    monkeypatch.setattr(work, "attend", look)
    monkeypatch.delenv("METAWARD_DATA", raising=False)
    content = encode_request(request(theta=None))
    ask("query.roster", content)
    ask("query.roster", content, **{"data-root": str(tmp_path / "own")})
    monkeypatch.setenv("METAWARD_DATA", str(tmp_path / "environment"))
    ask("query.roster", content)
    assert seen == [None, tmp_path / "own", tmp_path / "environment"]


@pytest.mark.parametrize("section", ["data", "server", "device", "root", "out", "strategies"])
def test_a_desk_that_says_more_than_a_desk_is_refused(
    section: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = json.loads(RUN.desk().json()) | {section: "/etc"}
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        assert ask("train", encode_request(request(desk=json.dumps(told)))) == Refusal(
            "bad-request"
        )
    assert f"{section}: unknown key" in caplog.text


@pytest.mark.parametrize(
    ("node", "environment", "expected"),
    [
        ({}, None, "cpu"),
        ({}, "cuda:1", "cuda:1"),
        ({"device": "cuda"}, None, "cuda"),
        ({"device": "cpu"}, "cuda", "cpu"),
    ],
)
def test_the_device_is_the_hospitals_own(
    node: dict[str, str],
    environment: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever device the server's own configuration has: it is not in the desk."""
    seen: list[str] = []

    def look(_: Desk, __: Request, node: Node) -> Attendance:
        seen.append(node.device)
        return Attendance("sine-01", node.index)

    monkeypatch.setattr(work, "attend", look)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("METAWARD_DEVICE", raising=False)
    if environment:
        monkeypatch.setenv("METAWARD_DEVICE", environment)
    content = request(theta=None, desk=small("server.device=cuda:0").desk().json())
    ask("query.roster", encode_request(content), **node)
    assert seen == [expected]


@pytest.mark.parametrize("named", ["cuda:2", "cuda:17", "gpu", "cuda:x", "CPU", "cpu:0"])
def test_a_device_that_is_not_there_is_refused_and_logged(
    named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        answer = ask("train", encode_request(request()), device=named)
    assert answer == Refusal("device-missing")
    assert f"device: '{named}'" in caplog.text
    assert "cpu" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inner": "fast"}, "inner: 'fast' is not one of auto, loop, batched"),
        ({"chunk": "0"}, "chunk: '0' is no number of tasks from 1 on"),
        ({"chunk": "many"}, "chunk: 'many' is no number of tasks from 1 on"),
    ],
)
def test_a_way_of_computing_that_does_not_exist_is_refused_and_logged(
    given: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        answer = ask("train", encode_request(request()), **given)
    assert answer == Refusal("device-missing")
    assert told in caplog.text


def test_how_tasks_are_computed_is_the_hospitals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node config wins over its environment; the server's own keys are not asked."""
    seen: list[TasksAtOnce] = []

    def look(desk: Desk, asked: Request, node: Node) -> Attendance:
        seen.append(node.at_once)
        return Attendance("sine-01", node.index)

    monkeypatch.setattr(work, "attend", look)
    content = request(theta=None, desk=small("server.inner=loop", "server.chunk=3").desk().json())
    ask("query.roster", encode_request(content))
    monkeypatch.setenv("METAWARD_INNER", "loop")
    monkeypatch.setenv("METAWARD_CHUNK", "8")
    ask("query.roster", encode_request(content))
    ask("query.roster", encode_request(content), inner="batched", chunk=5)
    assert seen == [TasksAtOnce(), TasksAtOnce("loop", 8), TasksAtOnce("batched", 5)]


@pytest.mark.parametrize("index", range(NODES))
def test_a_training_hospital_is_never_evaluated(
    index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No epsilon covers scores, so that a hospital whose records train must not give any."""
    judge, judged = work.judge, []
    monkeypatch.setattr(work, "judge", lambda *a: judged.extend(a[-1]) or judge(*a))
    found = ask("evaluate", encode_request(request(episodes=2)), index)
    role = RUN.client.tasks.roster()[index].role
    assert (type(found), len(judged)) == ((Scores, 2) if role == "unseen" else (Refusal, 0))


def test_who_trains_is_not_evaluated_and_the_other_way() -> None:
    assert ask("evaluate", encode_request(request(episodes=3)), 0) == Refusal("policy-purpose")
    assert ask("train", encode_request(request()), UNSEEN) == Refusal("policy-purpose")


def test_no_policy_no_participation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAWARD_SIMULATION", raising=False)
    for kind in ("query.roster", "train", "evaluate"):
        content = encode_request(request(episodes=3 if kind == "evaluate" else 0))
        assert ask(kind, content, 0, simulation="") == Refusal("policy-missing")
