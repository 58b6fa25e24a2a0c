"""Local models with a common mean: a step by hand, the limits, where they end, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.inner import FedAvg, Local, Setting, Update
from metaward.client.memory import PATTERN
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode
from metaward.options import ConfigError
from metaward.privacy import UNITS, Kind, OpenSession, Rehearsal
from metaward.privacy.session import Contributions
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.server.run import Observer
from tests.client.inner.test_hand_solved import SPEC, TASK, THETA, close
from tests.server.small import small


def update(learner: FedAvg, kept: Tensor | None = None, theta: Tensor = THETA) -> Update:
    setting = Setting(Mlp(()), SPEC).recalling({} if kept is None else {"model": kept})
    rng = np.random.default_rng(0)
    return learner.update(setting, theta, [TASK], OpenSession(), rng)


def test_a_first_step_by_hand() -> None:
    """Both records have f = 1, so g = (2, 1, 2). With lr * pull = 1, w = (theta - lr g + theta) / 2
    = theta - g / 20."""
    found = update(Local(lr=0.1, steps=1, pull=10))
    close(found.delta, -0.1, -0.05, -0.1)
    close(found.keep["model"], 0.9, -0.05, -0.1)
    assert float(found.loss) == pytest.approx(1.0)


def test_a_hospital_goes_on_from_its_own_model() -> None:
    """At w = 0 both records are fitted, so the pull alone moves it: w = (0 + theta) / 2."""
    found = update(Local(lr=0.1, steps=1, pull=10), kept=torch.zeros_like(THETA))
    close(found.keep["model"], 0.5, 0.0, 0.0)
    close(found.delta, -0.5, 0.0, 0.0)


def test_without_a_pull_a_first_round_is_that_of_federated_averaging() -> None:
    options = {"lr": 0.1, "steps": 3, "batch": 1, "l2": 0.2}
    local, averaged = update(Local(**options, pull=0)), update(FedAvg(**options))  # type: ignore[arg-type]
    close(local.delta, *averaged.delta.tolist())


@pytest.mark.parametrize("lr", [0.01, 1.0, 100.0])
def test_a_large_pull_leaves_one_model_at_any_rate(lr: float) -> None:
    found = update(Local(lr=lr, steps=1, pull=10_000), kept=torch.full_like(THETA, 0.3))
    assert (found.keep["model"] - THETA).abs().max() < 0.02


def constant(target: float) -> Episode:
    """Records x = 0 with one target: their loss is (b - target)^2, whatever the weights are."""
    x, y = np.zeros((1, 2)), np.full((1, 1), target)
    return Episode(x, y, x, y, np.zeros(0, int), np.zeros(1, int), np.ones(1, int))


def test_rounds_end_where_the_common_objective_has_its_minimum() -> None:
    """(b_h - a_h)^2 + pull/2 (b_h - m)^2 is smallest at b_h = (2 a_h + pull m) / (2 + pull), and m
    is the mean of all b_h: with a = 0, 3 and pull 2 they are 3/4, 9/4 and 3/2."""
    learner, setting = Local(lr=0.1, steps=1, pull=2), Setting(Mlp(()), SPEC)
    theta, kept = THETA, [{}, {}]
    for _ in range(300):
        found = [
            learner.update(
                setting.recalling(own), theta, [constant(a)], OpenSession(), np.random.default_rng()
            )
            for own, a in zip(kept, (0.0, 3.0), strict=True)
        ]
        theta = theta + torch.stack([one.delta for one in found]).mean(dim=0)
        kept = [dict(one.keep) for one in found]
    models = [float(own["model"][-1]) for own in kept]
    assert models == pytest.approx([0.75, 2.25], abs=1e-4)
    assert float(theta[-1]) == pytest.approx(1.5, abs=1e-4)


def test_a_new_hospital_fine_tunes_the_mean() -> None:
    setting = Setting(Mlp(()), SPEC)
    support = setting.support(TASK)
    predicted = [
        learner.adapt(setting, THETA, support, 3)(support.x)
        for learner in (Local(lr=0.1), FedAvg(lr=0.1))
    ]
    torch.testing.assert_close(*predicted, rtol=0, atol=0)


# ------------------------------------------------------------------------------ under privacy

LOCAL = (
    "client.inner={algorithm: local, lr: 0.02, steps: 2, adapt_steps: 2}",
    "client.schedule=passes",
    "strategies.hospitals_per_round=null",
    "server.evaluation={every: 3, episodes: 1, final_episodes: 1, baselines: []}",
    "server.rounds=3",
)


def sums(unit: str) -> str:
    return f"privacy={{mechanism: sums, unit: {unit}, epsilon: 6.0}}"


def test_a_task_cannot_be_protected() -> None:
    with pytest.raises(ConfigError, match=r"local pools its tasks.*no task.*unit record, patient"):
        small(*LOCAL, "privacy={mechanism: whole, unit: task}")
    Local().check(SPEC, UNITS["hospital"])


@pytest.mark.parametrize(
    "privacy", [sums("record"), sums("patient"), "privacy={mechanism: whole, unit: hospital}"]
)
def test_a_run_keeps_a_model_at_every_hospital_and_resumes_to_the_same_bytes(
    privacy: str, tmp_path: Path
) -> None:
    thetas = []
    for name, stop in (("whole", 99), ("broken", 2)):
        folder = Folder(tmp_path / name)
        folder.create(small(*LOCAL, privacy))
        if stop < 99:
            with pytest.raises(KeyboardInterrupt):
                ENGINES["inprocess"](folder.config(), folder, stopping(stop))
        ENGINES["inprocess"](folder.config(), folder, lambda row: None)
        thetas.append((folder.path / "theta.safetensors").read_bytes())
        kept = list(folder.hospitals.rglob(PATTERN))
        assert len({path.parent for path in kept}) == 4
    assert thetas[0] == thetas[1]


def test_no_model_holds_more_than_noisy_sums() -> None:
    """Two worlds with the same noisy sums have the same models and the same update."""
    learner, setting = Local(lr=0.1, steps=2, pull=1), Setting(Mlp(()), SPEC)

    class Same(Rehearsal):
        def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
            return torch.linspace(-1, 1, dim, dtype=torch.float64)

    other = replace(TASK, support_x=TASK.support_x * 9, query_y=TASK.query_y - 4)
    one, two = (
        learner.update(setting, THETA, [task], Same(), np.random.default_rng(0))
        for task in (TASK, other)
    )
    assert torch.equal(one.delta, two.delta)
    assert torch.equal(one.keep["model"], two.keep["model"])


def stopping(at: int) -> Observer:
    def observe(row: Mapping[str, Any]) -> None:
        if row["round"] == at and "accepted" in row:
            raise KeyboardInterrupt

    return observe
