"""Metrics for Prometheus: over a real socket on loopback, and what they say."""

from __future__ import annotations

import importlib.util
import math
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from metaward.options import ConfigError
from metaward.server.engines import ENGINES
from metaward.server.engines.processes import free_port
from metaward.server.folder import Folder
from metaward.server.meter import Meter, MeterError, metered, planned_spending
from metaward.server.start import check_machine
from tests.server.small import small

SUMS = ("client.schedule=passes", "privacy={mechanism: sums, unit: record}")
ROW = {
    "phase": "reptile",
    "round": 3,
    "of": 6,
    "accepted": ["a", "b"],
    "rejected": {"c": "no-reply", "d": "norm-above-cap", "e": "no-reply"},
    "update_norm": 0.5,
    "seconds": 1.25,
    "present": 4,
}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and labels -> value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def read(port: int) -> dict[tuple[str, ...], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


def test_a_row_becomes_numbers() -> None:
    port, seen = free_port(), list[object]()
    with metered(small(f"server.metrics_port={port}"), seen.append) as observe:
        observe(ROW)
        observe({"phase": "reptile", "round": 3, "of": 6, "rejected": {"z": "no-reply"}})
        assert read(port) == {
            ("metaward_round", "reptile"): 3,
            ("metaward_round_seconds", "reptile"): 1.25,
            ("metaward_update_norm", "reptile"): 0.5,
            ("metaward_hospitals_present",): 4,
            ("metaward_epsilon_planned",): math.inf,
            ("metaward_replies_accepted_total", "reptile"): 2,
            ("metaward_replies_rejected_total", "reptile", "no-reply"): 3,
            ("metaward_replies_rejected_total", "reptile", "norm-above-cap"): 1,
        }
    assert seen[0] == ROW
    with pytest.raises(OSError, match="refused"):
        read(port)


def test_a_run_can_be_watched_while_it_goes_on(tmp_path: Path) -> None:
    port, found = free_port(), dict[int, float]()
    run = small(f"server.metrics_port={port}", "server.evaluation.baselines=[]")
    folder = Folder(tmp_path / "run")
    folder.create(run)

    def observe(row: object) -> None:
        if isinstance(row, dict) and "accepted" in row:
            found[row["round"]] = read(port)["metaward_replies_accepted_total", "reptile"]

    ENGINES["inprocess"](run, folder, observe)
    assert found == {number: 3 * number for number in range(1, 7)}


def test_it_listens_on_loopback_alone() -> None:
    port = free_port()
    with metered(small(f"server.metrics_port={port}"), lambda row: None):
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))  # a server on all addresses would hold it
        assert read(port)


def test_without_a_port_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    observe = [].append
    with metered(small(), observe) as same:
        assert same == observe


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        run = small(f"server.metrics_port={other.getsockname()[1]}")
        with (
            pytest.raises(MeterError, match=r"server\.metrics_port: \d+ cannot be opened"),
            metered(run, lambda row: None),
        ):
            pass


def test_a_missing_package_is_named_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    hidden = lambda name: None if name == "prometheus_client" else find(name)  # noqa: E731
    monkeypatch.setattr("metaward.server.meter.find_spec", hidden)
    with pytest.raises(ConfigError, match=r"pip install 'metaward\[prometheus\]', or set it to 0"):
        check_machine(small("server.metrics_port=9100"))
    check_machine(small())


def test_planned_epsilon_grows_to_the_budget_and_not_above() -> None:
    run = small(*SUMS, "privacy.epsilon=4.0")
    spent = [planned_spending(run)(done) for done in range(1, 7)]
    assert spent == sorted(spent)
    assert spent[0] < 4.0
    assert spent[-1] == pytest.approx(4.0, rel=1e-3)
    assert spent[-1] <= 4.0


def test_only_the_runs_own_learner_spends_its_epsilon() -> None:
    meter = Meter(small(*SUMS), registry := CollectorRegistry())
    meter({**ROW, "phase": "fedavg"})
    assert registry.get_sample_value("metaward_epsilon_planned") == 0
    meter(ROW)
    assert 0 < (registry.get_sample_value("metaward_epsilon_planned") or 0) < 8
