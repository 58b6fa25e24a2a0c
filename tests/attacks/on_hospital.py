"""What a server, or whoever controls its requests, sends to a hospital: one entry for each attack.

The hospital is ``tests.client.bedside``: its policy allows exactly what ``RECORD`` asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from metaward.privacy import Mark
from metaward.privacy.wire import Request, encode_request
from metaward.sim import Sim
from tests.attacks.on_server import HOSTILE, TEN_GIGABYTES
from tests.client.bedside import RECORD, request, theta
from tests.server.small import small

TRAINING, JUDGING = 0, 4
"""The hospital's number in the roster, where its role is to train, and where it is to judge."""
SIZE = len(theta())
PASSES = "client.schedule=passes"


@dataclass(frozen=True)
class Asked:
    """A request that must be refused. ``does`` completes "The server asks for ...", ``code`` is all
    that leaves the hospital and what its ledger says."""

    does: str
    make: Callable[[], Request | RecordDict]
    code: str
    kind: str = "train"
    index: int = TRAINING


def of(*settings: str) -> Callable[[], Request]:
    """A request of another configuration."""
    return lambda: request(small(*settings))


def private(options: str) -> Callable[[], Request]:
    """A private run with other options of its mechanism."""
    return of(f"privacy={{mechanism: sums, {options}}}", PASSES)


def altered(*path: str, to: Any, run: Sim = RECORD, **changes: Any) -> Callable[[], Request]:
    """A request whose desk has another value at a place."""

    def make() -> Request:
        whole = json.loads(run.desk().json())
        place = whole
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to
        return request(run, desk=json.dumps(whole), **changes)

    return make


def told(text: str) -> Callable[[], Request]:
    """A request whose desk is this text."""
    return lambda: request(desk=text)


def with_theta(vector: np.ndarray) -> Callable[[], Request]:
    """A request at another theta."""
    return lambda: request(theta=vector.astype(np.float32))


def saying(**changes: Any) -> Callable[[], Request]:
    """A request that says something else about itself."""
    return lambda: request(**changes)


def spoilt(change: Callable[[RecordDict], object]) -> Callable[[], RecordDict]:
    """The records of a request, changed."""

    def make() -> RecordDict:
        records = encode_request(request())
        change(records)
        return records

    return make


def put(**fields: Any) -> Callable[[], RecordDict]:
    """A request with other or further scalars."""
    return spoilt(lambda records: records["request"].update(fields))


def judge(**changes: Any) -> Callable[[], Request]:
    """A request for scores."""
    return lambda: request(**{"episodes": 2, **changes})


TRAVERSALS = (
    *("../../x", "..", ".", "/etc/passwd", "a/../../x", "a/b", "a\\..\\x", "", " ", "-rf", "~root"),
    *("a\nb", "a\0b", "%2e%2e%2fx", "x" * 101, HOSTILE),
)
NODE = {"source": "folder", "train": ["../../x"], "unseen": ["b"], "classes": ["x", "y"]}
REFUSED = [
    Asked("updates without noise", of(), "policy-mechanism"),
    Asked("less noise than the policy allows", private("noise_multiplier: 0.01"), "policy-noise"),
    Asked(
        "no noise, by a multiplier of 0",
        altered("mechanism", "noise_multiplier", to=0.0),
        "bad-request",
    ),
    Asked("a larger clip norm", private("epsilon: 6, clip_norm: 2"), "policy-clip"),
    Asked(
        "another mechanism",
        of("privacy={mechanism: whole, unit: task}", PASSES),
        "policy-mechanism",
    ),
    Asked(
        "a draw of records that the policy does not allow",
        private("noise_multiplier: 9, sampling_rate: 0.5"),
        "policy-sampling",
    ),
    Asked("more inner steps", altered("learner", "steps", to=3), "policy-steps"),
    Asked("more tasks in a round", altered("tasks_per_round", to=3), "policy-tasks"),
    Asked("more rounds", altered("rounds", to=7), "policy-rounds"),
    Asked("a round after the last one", saying(round=7), "policy-rounds"),
    Asked("round 0", saying(round=0), "bad-request"),
    Asked("a round below zero", saying(round=-1), "bad-request"),
    Asked("training and episodes at once", saying(episodes=3), "bad-request"),
    Asked("a delta that protects nobody", private("epsilon: 6, delta: 0.005"), "policy-delta"),
    Asked("scores of a hospital that trains", judge(), "policy-purpose", "evaluate"),
    Asked("training at a hospital that judges", request, "policy-purpose", index=JUDGING),
    Asked(
        "another score",
        altered("further_scores", to=["mae"], episodes=2),
        "policy-metric",
        "evaluate",
        JUDGING,
    ),
    Asked("more episodes", judge(episodes=4), "policy-tasks", "evaluate", JUDGING),
    Asked("scores on no episodes", judge(episodes=0), "bad-request", "evaluate", JUDGING),
    Asked("a seat that the roster does not have", request, "data-refused", index=99),
    Asked("training at a theta of NaN", with_theta(np.full(SIZE, np.nan)), "bad-request"),
    Asked("training at an infinite theta", with_theta(np.full(SIZE, np.inf)), "bad-request"),
    Asked("a theta with one value too many", with_theta(np.ones(SIZE + 1)), "bad-request"),
    Asked("a theta with one value too few", with_theta(np.ones(SIZE - 1)), "bad-request"),
    Asked("a theta of no values", with_theta(np.ones(0)), "bad-request"),
    Asked("a scalar theta, of shape ()", with_theta(np.array(1.0)), "bad-request"),
    Asked("a theta that is a matrix", with_theta(np.ones((1, SIZE))), "bad-request"),
    Asked("no theta", saying(theta=None), "bad-request"),
    Asked(
        "scores at a theta of NaN",
        judge(theta=np.full(SIZE, np.nan, np.float32)),
        "bad-request",
        "evaluate",
        JUDGING,
    ),
    Asked(
        "scores at a theta of another size",
        judge(theta=np.ones(3, np.float32)),
        "bad-request",
        "evaluate",
        JUDGING,
    ),
    Asked(
        "a theta that claims 10 GB",
        spoilt(lambda r: r.update(theta=ArrayRecord({"theta": TEN_GIGABYTES}))),
        "bad-request",
    ),
    Asked(
        "a theta in float64",
        spoilt(lambda r: r.update(theta=ArrayRecord({"theta": Array(np.ones(SIZE))}))),
        "bad-request",
    ),
    Asked("a path, by a key of its own", altered("root", to="/etc"), "bad-request"),
    Asked("a device, by a key of its own", altered("device", to="cuda"), "bad-request"),
    Asked("a data folder, as a field of the message", put(root="/etc"), "bad-request"),
    Asked("hospitals whose names are paths", altered("source", to=NODE), "bad-request"),
    Asked(
        "code by the name of a plug-in",
        altered("architecture", to={"network": "evil"}),
        "policy-plugin",
    ),
    Asked("a plug-in by a path", altered("learner", to={"algorithm": "../../x"}), "policy-plugin"),
    Asked(
        "a plug-in with text for a terminal",
        altered("source", to={"source": HOSTILE}),
        "policy-plugin",
    ),
    Asked("a key with text for a terminal and a log", altered(HOSTILE, to=1), "bad-request"),
    Asked(
        "a network for which there is no memory",
        altered("architecture", "hidden", to=[4096] * 99),
        "bad-request",
    ),
    Asked("a billion hospitals", altered("source", "hospitals", to=10**9), "bad-request"),
    Asked("a rate of NaN", altered("learner", "lr", to=float("nan")), "bad-request"),
    Asked("text that is no desk", told("rm -rf /"), "bad-request"),
    Asked("a desk that is nested 100,000 deep", told("[" * 100_000), "bad-request"),
    Asked("a desk of ten megabytes", told("x" * 10**7), "bad-request"),
    Asked("an empty message", RecordDict, "bad-request"),
    Asked("a further record", spoilt(lambda r: r.update(x=ConfigRecord())), "bad-request"),
    Asked("another version of the format", put(schema=99), "bad-request"),
    Asked(
        "a mark that the ledger never reached",
        saying(mark=Mark("0" * 32, 2**62, "0" * 64)),
        "ledger-rewound",
    ),
    Asked("a mark of entry 0", saying(mark=Mark("0" * 32, 0, "0" * 64)), "ledger-rewound"),
    Asked("a mark below zero", saying(mark=Mark("0" * 32, -1, "0" * 64)), "bad-request"),
    Asked(
        "a mark with text for a terminal", saying(mark=Mark(HOSTILE, 1, "0" * 64)), "bad-request"
    ),
    Asked("half a mark", put(ledger="0" * 32), "bad-request"),
    *(Asked(f"a run named {run!r:.30}", put(run=run), "bad-request") for run in TRAVERSALS),
]
