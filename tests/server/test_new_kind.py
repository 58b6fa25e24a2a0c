"""A kind of task that nobody has heard of goes through everything: run, report, plan and audit.

It is defined here, on made-up records: each record has several findings at once, or none. One of
its two scores is better when higher, the other when lower.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from metaward import sim
from metaward.client.audit import audit_run
from metaward.client.errors import DataError
from metaward.client.scores import known_scores
from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Episode, FloatArray, Hospital, Seat, TaskSize, TaskSpec
from metaward.client.tasks.kinds import KINDS, Score, TaskKind
from metaward.client.tasks.preparation import MADE_UP, Preparation
from metaward.options import ConfigError
from metaward.privacy.asked import Asked
from metaward.privacy.noise import SeededNoise
from metaward.privacy.policy import Policy
from metaward.server.folder import Folder
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.question import question
from metaward.server.show import final, holdings
from metaward.yaml_text import override
from tests.server.office.report.report_desk import executed, saved
from tests.server.small import SMALL

# ------------------------------------------------------------------------------- the kind


def every_finding(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each finding, its mean over them (n,)."""
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return losses.mean(dim=1)


def share_right(logits: Tensor, labels: Tensor) -> float:
    return float(((logits > 0) == labels.bool()).float().mean())


def brier(logits: Tensor, labels: Tensor) -> float:
    """Mean squared distance of probabilities from what is so (Brier 1950)."""
    return float((logits.sigmoid() - labels).square().mean())


def absent(spec: TaskSpec, n: int) -> FloatArray:
    return np.zeros((n, spec.outputs), np.float32)


def coins(spec: TaskSpec, n: int, generator: np.random.Generator) -> FloatArray:
    return generator.integers(0, 2, (n, spec.outputs)).astype(np.float32)


def sure(spec: TaskSpec, labels: Tensor) -> Tensor:
    return 200 * (labels - 0.5)


RIGHT = Score("findings", "findings told, %", share_right, True, 0, 1, scale=100, digits=2)
BRIER = Score("brier", "Brier score", brier, False, 0, 1, digits=4)
FINDINGS = TaskKind(
    "multi-label",
    classes=False,
    losses=every_finding,
    scores=(RIGHT, BRIER),
    blank=absent,
    random=coins,
    certain=sure,
)


# ----------------------------------------------------------------------------- the source


@dataclass(frozen=True)
class Wards:
    """Four numbers a record; a finding is there where a direction of the hospital's own says so."""

    hospitals: Annotated[int, Field(ge=1)] = 3
    unseen: Annotated[int, Field(ge=0)] = 2
    held: Annotated[int, Field(ge=12)] = 48

    records_option = "held"
    preparation = Preparation(MADE_UP, MADE_UP)

    def roster(self) -> tuple[Seat, ...]:
        train = [Seat(f"ward-{k}", "train") for k in range(self.hospitals)]
        return (*train, *(Seat(f"new-{k}", "unseen") for k in range(self.unseen)))

    def spec(self) -> TaskSpec:
        return TaskSpec(FINDINGS, (4,), 3, 0, canonical=True)

    def task_size(self) -> TaskSize:
        return TaskSize(4, 8)

    def declared_records(self) -> int:
        return self.held

    def most_tasks(self, records: int) -> int:
        return records // self.task_size().records

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        rng = np.random.default_rng([seed, index])
        x = rng.standard_normal((self.held, 4)).astype(np.float32)
        y = (x @ rng.standard_normal((4, 3)) > 0).astype(np.float32)
        ids = np.array([f"{index}/{k}" for k in range(self.held)])
        draw = partial(_draw, self.task_size())
        return Hospital(self.roster()[index], x, y, np.arange(self.held), ids, ids, draw, np.copy)


def _draw(size: TaskSize, hospital: Hospital, rng: np.random.Generator) -> Episode:
    if len(hospital.rows) < size.records:
        raise DataError("no records are left")
    rows = rng.choice(hospital.rows, size.records, replace=False)
    s, q = rows[: size.support], rows[size.support :]
    x, y = hospital.x, hospital.y
    return Episode(x[s], y[s], x[q], y[q], np.arange(0), s, q)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry for the source, one for the kind: nothing else is told of them."""
    monkeypatch.setitem(TASKS, "wards", Wards)
    monkeypatch.setitem(KINDS, FINDINGS.name, FINDINGS)


def wards(*settings: str) -> sim.Sim:
    mapping: dict[str, Any] = sim.parse(SMALL).mapping()
    for text in (
        "client.tasks={source: wards}",
        "client.inner={algorithm: fomaml, lr: 0.5, steps: 2, adapt_steps: 3}",
        "strategies.hospitals_per_round=null",
        "server.rounds=4",
        "server.evaluation.baselines=[untrained, scratch, fedavg, fedavg_names, centroid]",
        *settings,
    ):
        override(mapping, text)
    return sim.parse(mapping)


PRIVATE = ("privacy={mechanism: sums, unit: record}", "client.schedule=passes")

# --------------------------------------------------------------------------- through it all


@pytest.fixture
def run_folder(tmp_path: Path) -> Folder:
    return executed(wards(), tmp_path / "run")


def test_it_is_trained_judged_and_told_in_both_scores(run_folder: Folder) -> None:
    right, error = json.loads((run_folder.path / "result.json").read_text())["tables"]
    assert (right["metric"], error["metric"]) == ("findings", "brier")
    names = ["fomaml", "fomaml, untrained", "from scratch", "FedAvg + fine-tune"]
    for table in (right, error):
        assert [row["learner"] for row in table["rows"]] == [*names, "nearest support point"]
    own, untrained = right["rows"][:2]
    assert 0.5 < own["after"] <= 1
    assert untrained["gap"] == pytest.approx(own["after"] - untrained["after"])
    own, untrained = error["rows"][:2]
    assert own["worst"] == max(own["hospitals"].values())
    assert untrained["gap"] == pytest.approx(untrained["after"] - own["after"])
    report = (run_folder.path / "report.md").read_text()
    assert report.count("| learner |") == 2
    assert f"| {right['rows'][0]['after'] * 100:.2f} |" in report
    assert "after (findings told, %)" in report
    assert "after (Brier score)" in report
    assert (run_folder.path / "curve.png").stat().st_size > 10_000
    watched = [row for row in run_folder.rows() if "after" in row]
    assert all(set(row["others"]) == {"brier"} for row in watched)
    assert all(row["others"]["brier"]["after"] != row["after"] for row in watched)


def test_it_is_shown_on_the_terminal(run_folder: Folder) -> None:
    text = StringIO()
    Console(file=text, width=120).print(final(wards(), run_folder))
    assert "4 episodes each (findings told, %)" in text.getvalue()
    assert "4 episodes each (Brier score)" in text.getvalue()
    assert [row["classes"] for row in holdings(wards())] == [{}] * 5


def test_both_axes_of_the_picture_name_the_main_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []
    from matplotlib.axes import Axes

    for side in ("set_xlabel", "set_ylabel"):
        monkeypatch.setattr(Axes, side, lambda _, label, *rest, **more: labels.append(label))
    executed(wards("server.rounds=2", "server.evaluation.baselines=[]"), tmp_path / "run")
    assert labels.count("query findings told, %") == 2


def test_a_private_run_is_reported_with_what_the_source_says(tmp_path: Path) -> None:
    run = wards(*PRIVATE, "server.evaluation.baselines=[]")
    report = saved(executed(run, tmp_path / "run"))
    said = {touch.name: touch.words for touch in report.touches}
    assert said["pre-processing"] == said["normalisation statistics"] == MADE_UP.words
    assert {hospital.units for hospital in report.hospitals} == {48}
    (support, query) = sorted(report.mechanism.sums, key=lambda one: one.kind, reverse=True)
    assert (support.kind, query.kind) == ("support", "query")
    assert support.batch == 4, "a sum for each task, over its support records"
    assert query.batch == 2 * 8, "one sum, over the query records of both tasks"


def test_it_can_be_planned() -> None:
    asked = question(wards(*PRIVATE))
    assert (asked.records, asked.tasks) == (48, 4)
    plan = advised(asked)
    assert plan.records_per_task == 12
    assert plan.epsilon == pytest.approx(8, rel=1e-3)
    more = next(s for s in plan.suggestions if s.words == "twice as many records a hospital")
    assert more.type_this == "--set 'client.tasks.held=96'"


def test_it_can_be_audited() -> None:
    desk = wards(*PRIVATE).desk()
    report = audit_run(desk, lambda number: SeededNoise(5, number), 2, seconds=3)
    assert report.sound
    assert 0 < report.mu_lower < report.claimed_mu


@pytest.mark.parametrize("algorithm", ["proto_maml", "embedding", "metric"])
def test_learners_that_need_classes_refuse_it(algorithm: str) -> None:
    with pytest.raises(ConfigError, match=f"{algorithm} needs classes"):
        wards(f"client.inner={{algorithm: {algorithm}}}")


def test_a_policy_may_allow_its_scores_and_refuse_others(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    example = (sim.HERE / "policies" / "open.yaml").read_text()
    path.write_text(example.replace("[accuracy, mse]", "[findings, brier]"))
    policy = Policy.read(path, known_scores())
    asked = Asked("evaluate", "new-0", "none", "none", 4, 1, 4, metrics=FINDINGS.score_names)
    policy.admit(asked)
    with pytest.raises(Exception, match="policy-metric"):
        replace(policy, metrics=("findings",)).admit(asked)
    path.write_text(example.replace("[accuracy, mse]", "[findings, breir]"))
    with pytest.raises(
        ConfigError,
        match=r"metrics\[1\]: 'breir' .*'brier' or .*'findings' or",
    ):
        Policy.read(path, known_scores())


def test_the_kind_keeps_what_kinds_keep() -> None:
    spec = Wards().spec()
    labels = torch.from_numpy(coins(spec, 9, np.random.default_rng(1)))
    assert FINDINGS.measure(sure(spec, labels), labels) == [1, 0]
