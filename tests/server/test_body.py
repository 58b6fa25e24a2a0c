"""A body as a file: what a run writes of its own, and what another run makes of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from metaward import sim
from metaward.client.inner import Setting
from metaward.door import open as open_result
from metaward.door import run as carry_out
from metaward.options import ConfigError
from metaward.result import Result
from metaward.server import body
from metaward.server.office.plan.plan import body_counts
from metaward.server.office.report.touches import touches
from tests.server.small import small

NETWORK = "client.model={network: conv, width: 4, depth: 2, groups: 2}"
TASKS = "client.tasks={source: phantom, hospitals: 3, unseen: 2, records: 60, shots: 1, queries: 2}"
LEARNER = "client.inner={algorithm: proto_maml, lr: 0.1, steps: 0, adapt_steps: 1}"
SMALL = (TASKS, NETWORK, LEARNER, "server.evaluation.baselines=[untrained, scratch]")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run that trains a body on made-up images."""
    return carry_out(small(*SMALL, "seed=1"), tmp_path_factory.mktemp("first") / "run")


def file_of(result: Result) -> Path:
    return result.path / "body.safetensors"


def rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["learner"]: row for row in result.table}


def test_a_run_writes_its_body_and_where_it_comes_from(first: Result) -> None:
    found, run = body.read(file_of(first)), first.run
    assert found.origin.made_up
    assert (found.origin.network, found.origin.source, found.origin.seed) == ("conv", "phantom", 1)
    assert found.origin.privacy == run.privacy.claim
    assert found.tensors["body.0.weight"].shape == (4, 1, 3, 3)
    setting = Setting(run.client.model, run.client.tasks.spec())
    assert sum(tensor.size for tensor in found.tensors.values()) == setting.network(0).dim
    begun = body.begun(found, run.client.inner, setting, np.zeros_like(first.theta))
    np.testing.assert_array_equal(begun, first.theta)


def test_a_learner_with_a_head_takes_the_body_and_keeps_its_own_head(first: Result) -> None:
    run = small(TASKS, NETWORK, "client.inner={algorithm: fomaml}")
    setting = Setting(run.client.model, run.client.tasks.spec())
    net = setting.network(setting.spec.outputs)
    theta = np.arange(net.dim, dtype=np.float32)
    begun = body.begun(body.read(file_of(first)), run.client.inner, setting, theta)
    np.testing.assert_array_equal(begun[net.head], theta[net.head])
    np.testing.assert_array_equal(begun[: net.head.start], first.theta)


def test_a_run_begins_where_the_other_one_ended(first: Result, tmp_path: Path) -> None:
    """The untrained start scores as the first run's result does, and "from scratch" as ever."""
    started = small(*SMALL, "seed=1", f"server.start={file_of(first)}")
    second = rows(carry_out(started, tmp_path / "run"))
    before = rows(first)
    assert second["proto_maml, untrained"]["after"] == before["proto_maml"]["after"]
    assert second["proto_maml, untrained"]["after"] != before["proto_maml, untrained"]["after"]
    assert second["from scratch"]["after"] == before["from scratch"]["after"]


def test_a_run_keeps_its_own_copy(first: Result, tmp_path: Path) -> None:
    """So it can be resumed, and its report made anew, when the file is gone."""
    file = tmp_path / "body.safetensors"
    file.write_bytes(file_of(first).read_bytes())
    run = small(*SMALL, f"server.start={file}", "server.evaluation.baselines=[untrained]")
    done = carry_out(run, tmp_path / "run")
    file.unlink()
    assert (done.path / "start.safetensors").read_bytes() == file_of(first).read_bytes()
    assert "SHA-256" in (done.path / "privacy.json").read_text()
    assert open_result(done.path).run.server.start == str(file)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            (TASKS, LEARNER, "client.model={network: conv, width: 8, depth: 2, groups: 2}"),
            r"body.0.bias has shape \(4,\) in the file and \(8,\) in this run",
        ),
        (
            (TASKS, LEARNER, "client.model={network: conv, width: 4, depth: 3, groups: 2}"),
            r"body.8.weight has shape none in the file and \(4, 4, 3, 3\)|body.8.bias",
        ),
        (
            (TASKS, "client.model={network: scatter}", "client.inner={algorithm: metric}"),
            "this learner's theta holds no body",
        ),
    ],
)
def test_a_body_that_does_not_fit_is_refused_before_the_run(
    settings: tuple[str, ...], words: str, first: Result, tmp_path: Path
) -> None:
    run = small(*settings, f"server.start={file_of(first)}")
    with pytest.raises(ConfigError, match=words):
        carry_out(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def damaged(path: Path, how: str, good: Path) -> None:
    if how == "no safetensors":
        path.write_bytes(b"not a file of tensors")
    elif how == "a theta":
        save_file({"theta": np.zeros(3, np.float32)}, path)
    elif how == "not finite":
        origin = body.read(good).origin
        about = {"format": body.FORMAT, "origin": json.dumps(asdict(origin))}
        save_file({"body.0.weight": np.full(3, np.nan, np.float32)}, path, about)


@pytest.mark.parametrize("how", ["missing", "no safetensors", "a theta", "not finite"])
def test_a_file_that_is_no_body_is_refused(how: str, first: Result, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    damaged(file, how, file_of(first))
    run = small(*SMALL, f"server.start={file}")
    with pytest.raises(ConfigError, match=r"name the body\.safetensors of a run"):
        carry_out(run, tmp_path / "run")


def word_of(run: sim.Sim, start: body.StoredBody | None) -> tuple[str, str]:
    return next(
        (t.covered, t.words) for t in touches(run, start) if t.name == "public pre-training"
    )


def test_the_report_names_what_the_run_started_from(first: Result) -> None:
    plain, started = small(*SMALL), small(*SMALL, f"server.start={file_of(first)}")
    known = body.read(file_of(first))
    assert word_of(plain, None)[0] == "not used"
    covered, words = word_of(started, known)
    assert covered == "not used"
    assert "source phantom: Made up by this program" in words
    assert known.sha256[:16] in words
    real = replace(known, origin=replace(known.origin, made_up=False, records="Of a register."))
    covered, words = word_of(started, real)
    assert covered == "no"
    assert "Of a register." in words
    assert "the run's own claim" in words
    assert word_of(started, None) == (
        "no",
        "The server starts from a file, which is not at hand for this report.",
    )


def test_a_body_that_is_not_trained_counts_where_it_was_trained_before(first: Result) -> None:
    frozen = (*SMALL, "client.schedule=passes", "privacy={mechanism: sums, train: [norm]}")
    assert not body_counts(small(*frozen))
    assert body_counts(small(*frozen, f"server.start={file_of(first)}"))
