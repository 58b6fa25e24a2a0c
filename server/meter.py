"""Metrics of a run while it goes on, in the text form that Prometheus reads (``metrics_port``).

They are served on loopback alone. Whoever is to read them from elsewhere needs a proxy that asks
who it is. The package prometheus_client keeps the numbers and serves them; it is imported where the
port is not 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf
from typing import TYPE_CHECKING, Any

from metaward.errors import RunError
from metaward.options import ConfigError
from metaward.server.baselines import own
from metaward.server.office.plan.question import question
from metaward.server.office.plan.rehearsal import spending
from metaward.server.run import Observer
from metaward.sim import Sim

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

HERE = "127.0.0.1"
KEY = "server.metrics_port"


class MeterError(RunError):
    """The port cannot be opened."""


def check(run: Sim) -> None:
    """``ConfigError`` where the package is needed and not installed."""
    if run.server.metrics_port and find_spec("prometheus_client") is None:
        way = "pip install 'metaward[prometheus]', or set it to 0"
        raise ConfigError([f"{KEY}: prometheus_client is not installed: {way}"])


@contextmanager
def metered(run: Sim, observe: Observer) -> Iterator[Observer]:
    """``observe``, and where the run names a port, metrics on it until the end.

    ``MeterError`` where the port is taken.
    """
    port = run.server.metrics_port
    if not port:
        yield observe
        return
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    meter = Meter(run, registry)
    try:
        server, thread = start_http_server(port, addr=HERE, registry=registry)
    except OSError as error:
        raise MeterError(f"{KEY}: {port} cannot be opened ({error.strerror})") from error

    def both(row: Mapping[str, Any]) -> None:
        meter(row)
        observe(row)

    try:
        yield both
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Meter:
    """The numbers of a run in a registry, from rows of metrics.jsonl; ``phase`` is the learner.

    Norms are those of combined updates: that of a hospital's own may have come without noise.
    """

    def __init__(self, run: Sim, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter as Count
        from prometheus_client import Gauge

        phase = ["phase"]
        of: dict[str, Any] = {"registry": registry, "namespace": "metaward"}
        self.own, self.spent = own(run).key, planned_spending(run)
        self.round = Gauge("round", "Training rounds done", phase, **of)
        self.seconds = Gauge("round_seconds", "Seconds of the last training round", phase, **of)
        self.norm = Gauge("update_norm", "Norm of the last combined update", phase, **of)
        self.present = Gauge("hospitals_present", "Hospitals connected in the last round", **of)
        self.epsilon = Gauge(
            "epsilon_planned", "Epsilon that a unit has spent so far, by the plan", **of
        )
        self.accepted = Count("replies_accepted", "Updates that counted", phase, **of)
        self.rejected = Count("replies_rejected", "Replies that did not", [*phase, "reason"], **of)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take one row in."""
        phase = row["phase"]
        for reason, count in Counter(row.get("rejected", {}).values()).items():
            self.rejected.labels(phase, reason).inc(count)
        if "accepted" not in row:
            return
        self.round.labels(phase).set(row["round"])
        self.seconds.labels(phase).set(row["seconds"])
        self.norm.labels(phase).set(row["update_norm"])
        self.present.set(row["present"])
        self.accepted.labels(phase).inc(len(row["accepted"]))
        if phase == self.own:
            self.epsilon.set(self.spent(row["round"]))


def planned_spending(run: Sim) -> Callable[[int], float]:
    """Round -> the epsilon at the agreed delta that the most charged unit has spent by then, as
    ``metaward privacy plan`` has it; infinite where nothing is protected.

    Where the configuration does not say how many records a hospital has, units are taken to be in
    every round. What was spent in truth, the hospitals' ledgers know.
    """
    budget = run.privacy.budget
    if budget is None:
        return lambda done: inf
    try:
        tasks, times = question(run).first_round()
    except ConfigError:
        tasks, times = run.client.tasks_per_round, run.server.rounds
    return lambda done: spending(run, tasks, times, min(done, times)).enforced(budget.delta)
