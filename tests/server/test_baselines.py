"""Baselines stand on equal terms: the same network, rates, steps and budget as the run's own."""

from dataclasses import replace

import pytest

from client.inner import Setting
from client.inner.centroid import Centroid
from client.inner.fedavg import FedAvg
from client.inner.reptile import Reptile
from server.baselines import BASELINES, centroid, fedavg, own, scratch
from sim import Evaluation, Sim, learner_from_json, learner_json
from strategies.combine import Mean, Median
from strategies.outer import Adam, Sgd
from tests.server.small import small

MAML = "client.inner={algorithm: maml, lr: 0.03, steps: 4, adapt_steps: 6}"
RUNS = [
    pytest.param(small("client.inner.lr=0.03", "client.inner.steps=4"), id="reptile"),
    pytest.param(small(MAML), id="maml"),
    pytest.param(small(MAML.replace("maml", "fomaml")), id="fomaml"),
]


def with_scratch(run: Sim, steps: int) -> Sim:
    evaluation = replace(Evaluation(), scratch_steps=steps)
    return replace(run, server=replace(run.server, evaluation=evaluation))


def test_own_learner_keeps_the_runs_parts() -> None:
    run = small("strategies.combine={rule: median}", "strategies.outer={optimizer: adam}")
    mine = own(run)
    assert (mine.name, mine.key, mine.trained) == ("reptile", "reptile", True)
    assert (mine.learner, mine.combine, mine.outer) == (run.client.inner, Median(), Adam())


@pytest.mark.parametrize("run", RUNS)
def test_fedavg_trains_and_adapts_with_the_runs_rate_and_steps(run: Sim) -> None:
    inner = run.client.inner
    (contender,) = fedavg(run)
    learner = contender.learner
    assert isinstance(learner, FedAvg)
    assert (learner.lr, learner.steps, learner.adapt_steps) == (
        inner.lr,  # type: ignore[attr-defined]
        inner.steps,  # type: ignore[attr-defined]
        inner.adapt_steps,
    )
    assert learner.batch == getattr(inner, "batch", 0)
    assert contender.trained
    assert (contender.combine, contender.outer) == (Mean(), Sgd(lr=1.0)), "theta <- mean of phi"


@pytest.mark.parametrize("run", RUNS)
def test_scratch_is_the_runs_first_theta_fine_tuned_without_training(run: Sim) -> None:
    short, long = scratch(with_scratch(run, 300))
    assert not short.trained
    assert not long.trained
    assert isinstance(short.learner, Reptile)
    assert short.learner.adapt_steps == run.client.inner.adapt_steps
    assert long.learner == replace(short.learner, adapt_steps=300)
    assert "300 steps" in long.name
    setting = Setting(run.client.model, run.client.tasks.spec())
    first = short.learner.initial(setting, run.seed)
    assert first.tolist() == run.client.inner.initial(setting, run.seed).tolist()


def test_scratch_with_no_longer_run_is_one_line() -> None:
    assert len(scratch(with_scratch(small(), 0))) == 1


def test_centroid_is_named_after_what_it_does() -> None:
    heart = small("client.tasks={source: heart}", "strategies.hospitals_per_round=2")
    (regression,), (classification,) = centroid(small()), centroid(heart)
    assert regression.name == "nearest support point"
    assert classification.name == "nearest centroid"
    assert regression.learner == classification.learner == Centroid()
    assert not regression.trained


@pytest.mark.parametrize("run", RUNS)
def test_names_and_keys_are_distinct_and_learners_can_be_sent(run: Sim) -> None:
    run = with_scratch(run, 50)
    contenders = [own(run), *(c for make in BASELINES.values() for c in make(run))]
    assert len({c.name for c in contenders}) == len(contenders)
    trained = [c.key for c in contenders if c.trained]
    assert len(set(trained)) == len(trained)
    assert all(trained)
    for contender in contenders:
        assert learner_from_json(learner_json(contender.learner)) == contender.learner
