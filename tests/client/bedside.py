"""One hospital at its edge: its own node config, and requests as a server sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from metaward import sim
from metaward.client import work
from metaward.client.app import app
from metaward.options import plain
from metaward.privacy import Answer, Refusal
from metaward.privacy.ledger import Ledger
from metaward.privacy.policy import Policy
from metaward.privacy.wire import Request, decode_answer, encode_request
from tests.server.small import small

RECORD = small("privacy={mechanism: sums, unit: record, epsilon: 6.0}", "client.schedule=passes")
"""Six rounds; a pass of hospital 0 takes more, so that a record is used once."""

POLICY = Policy(
    hospital=None,
    mechanisms=("sums",),
    units=("record", "patient"),
    epsilon=6.0,
    delta=1e-5,
    noise_multiplier=0.2,
    clip=1.0,
    sampling_rate=1.0,
    train=True,
    steps=2,
    tasks=2,
    rounds=6,
    evaluate=True,
    episodes=3,
    metrics=("mse",),
    loss=False,
    plugins=(),
)
"""Everything exactly at the limit of what ``RECORD`` asks."""

OPEN = {
    "mechanisms": ["none"],
    "units": ["none"],
    "epsilon": None,
    "delta": None,
    "noise_multiplier": None,
    "clip": None,
    "sampling_rate": None,
    "loss": True,
}


def theta(run: sim.Sim = RECORD) -> np.ndarray:
    setting = work.open_setting(run.desk())
    return np.asarray(run.client.inner.initial(setting, run.seed).numpy())


def request(of: sim.Sim = RECORD, **changes: Any) -> Request:
    fields = {"round": 1, "desk": of.desk().json()}
    return Request(**{**fields, "theta": theta(of), "run": "run-1", **changes})


def ask(kind: str, content: Request | RecordDict, index: object = 0, **config: Any) -> Answer:
    """The answer of node ``index`` with this node config; nothing but an answer may come back."""
    return decode_answer(reply_to(kind, content, index, **config))


def reply_to(kind: str, content: Request | RecordDict, index: object, **config: Any) -> RecordDict:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    records = encode_request(content) if isinstance(content, Request) else content
    reply = app(
        Message(records, 7, kind),
        Context(1, 7, {"partition-id": index, **config}, RecordDict(), {}, 0),
    )
    assert reply.has_content(), "errors carry text; only fixed codes may leave"
    return reply.content


def code(answer: Answer) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


class Site:
    """A real hospital: a policy file and a ledger of its own, in a temporary folder."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder = folder
        self.policy, self.path = folder / "policy.yaml", folder / "hospital.ledger"
        self.write(**policy)
        Ledger.create(self.path, "sine-01", "the tests")

    def write(self, **policy: Any) -> None:
        self.policy.write_text(yaml.safe_dump(plain(POLICY) | policy), encoding="utf-8")

    @property
    def config(self) -> dict[str, str]:
        return {"policy": str(self.policy), "ledger": str(self.path)}

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.path)

    def ask(self, kind: str, content: Request | RecordDict, index: object = 0) -> Answer:
        return ask(kind, content, index, **self.config)

    def charges(self) -> int:
        return len(self.ledger.history().charges)

    def refusals(self) -> list[str]:
        return [refusal.code for refusal in self.ledger.history().refusals]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
