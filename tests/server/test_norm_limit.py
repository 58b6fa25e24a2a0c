"""The norm limit of each unit, against what honest updates reach."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from metaward import sim
from metaward.client.charging import plan
from metaward.client.inner.reach import Reach
from metaward.client.schedule import Share
from metaward.client.tasks.made_up import random_tasks
from metaward.options import ConfigError
from metaward.privacy import Opening
from metaward.privacy.noise import SeededNoise
from metaward.server.baselines import opponents
from metaward.server.norm_limit import norm_limit
from metaward.strategies.limits import NOTHING, FixedLimit, ReachLimit, TypicalLimit
from tests.server.small import small

SUMS = ("client.schedule=passes", "privacy={mechanism: sums, unit: record}")
CLASSES = (
    "client.tasks={source: phantom, hospitals: 4, unseen: 2, records: 200, ways: 2, shots: 3, "
    "queries: 3}",
    "client.model={network: adapter, rank: 2}",
    "server.evaluation.baselines=[scratch]",
)


def inner(text: str) -> str:
    return f"client.inner={{algorithm: {text}, adapt_steps: 2}}"


LEARNERS = {
    "reptile": (inner("reptile, lr: 0.5, steps: 3"), *SUMS),
    "reptile, decay": (inner("reptile, lr: 0.5, steps: 3, l2: 0.5"), *SUMS),
    "reptile, moving": (inner("reptile, lr: 0.5, steps: 3, local_lr: 0.7"), *SUMS),
    "fomaml": (inner("fomaml, lr: 0.1, steps: 2"), *SUMS),
    "maml": (inner("maml, lr: 0.5, steps: 3"), *SUMS),
    "proto_maml": (*CLASSES, inner("proto_maml, lr: 0.1, steps: 1"), *SUMS),
    "proto_anil": (*CLASSES, inner("proto_anil, lr: 0.1, steps: 1"), *SUMS),
    "warm up": (*CLASSES, inner("proto_anil, steps: 1"), *SUMS, "client.warm_up={shrink: 0.3}"),
    "embedding": (*CLASSES, inner("embedding"), *SUMS),
    "metric": (*CLASSES, inner("metric"), *SUMS),
    "task": (
        inner("fomaml, lr: 0.1, steps: 2"),
        "client.schedule=passes",
        "privacy={mechanism: whole}",
    ),
    "drawn": (
        inner("reptile, lr: 0.5, steps: 3"),
        "client.schedule=passes",
        "privacy={mechanism: sums, unit: record, sampling_rate: 0.5, noise_multiplier: 2.0}",
    ),
}


def update_of(run: sim.Sim, number: int, tasks: int, stream: int) -> Any:
    """An honest update of one hospital on made-up tasks, and theta, by the product's parts."""
    desk, setting = run.desk(), run.setting()
    rng = np.random.default_rng(stream)
    episodes = random_tasks(setting.spec, run.client.tasks.task_size(), tasks, rng)
    theta = desk.learner.initial(setting, run.seed)
    share = Share(episodes, run.server.rounds)
    again = partial(np.random.default_rng, stream)
    rows = 1 + max(int(r) for e in episodes for r in (*e.support_rows, *e.query_rows))
    kept: Any = {}
    for at in range(1, number + 1):
        own = setting.recalling(kept)
        parts = run.privacy, desk.learner, own, theta, share, again(), desk.first, at == 1
        price = plan(*parts)
        noise = SeededNoise(stream, at)
        opened = run.privacy.session(Opening(price.uses, price.noise, np.arange(rows), noise))
        update = desk.worker(at).update(own, theta, episodes, opened, again())
        kept = update.keep
    return update.delta.detach().numpy(), theta.numpy()


@pytest.mark.parametrize("name", LEARNERS)
def test_honest_updates_stay_below_the_limit_and_near_it(name: str) -> None:
    """The worst case of the bound, one task, comes within a factor of 30, and 1000 lets in far
    more."""
    run = small(*LEARNERS[name])
    limit = norm_limit(run)
    assert isinstance(limit, ReachLimit)
    shares = []
    for number, tasks in ((1, 1), (2, 1), (2, run.client.tasks_per_round)):
        for stream in range(3):
            delta, theta = update_of(run, number, tasks, stream)
            shares.append(np.linalg.norm(delta) / limit.of(number, theta, [], NOTHING))
    assert max(shares) <= 1
    assert max(shares) > 1 / 30
    assert limit.norm < 200


def test_bound_is_met_by_noise_alone() -> None:
    """One task, one step, and noise that is all there is: within a third of the bound."""
    run = small(inner("fomaml, lr: 0.1, steps: 1"), *SUMS, "privacy.epsilon=0.1")
    limit = norm_limit(run)
    norms = [np.linalg.norm(update_of(run, 1, 1, stream)[0]) for stream in range(20)]
    most = limit.of(1, np.zeros(1, np.float32), [], NOTHING)
    assert most / 3 < max(norms) < most


def test_reach_adds_signals_and_the_squares_of_noises() -> None:
    one = Reach(1.0, 3.0, 0.5)
    assert one.times(2.0, 4) == Reach(8.0, 12.0, 4.0)
    assert one + Reach(2.0, 4.0) == Reach(3.0, 5.0, 0.5)


def test_sum_of_independent_noises_is_within_the_reach() -> None:
    generator, beyond = torch.Generator().manual_seed(0), np.sqrt(50) + np.sqrt(2 * np.log(1e9))
    parts = torch.randn(100, 16, 50, generator=generator)
    longest = float(parts.sum(dim=1).norm(dim=1).max())
    assert longest < Reach(0.0, beyond).times(1.0, 16).noise < 2 * longest


def test_where_the_server_adds_the_noise_the_limit_is_the_clip_norm() -> None:
    hospital = ("client.schedule=passes", "privacy={mechanism: whole, unit: hospital}")
    run = small(*hospital, "privacy.clip_norm=0.25")
    assert norm_limit(run) == FixedLimit(0.25)
    clipped = run.privacy.release("a", 1, torch.full((9,), 1e6), torch.zeros(()), None)
    assert np.linalg.norm(clipped.update.astype(np.float64)) <= 0.25, "no honest one is longer"


def test_without_a_clip_norm_the_others_tell_what_is_typical() -> None:
    assert norm_limit(small()) == TypicalLimit()
    warm = small(*CLASSES, inner("proto_anil, steps: 1"), "client.warm_up={shrink: 0.3}")
    assert norm_limit(warm) == TypicalLimit(estimate=True)


def test_a_number_is_taken() -> None:
    assert norm_limit(small("strategies.max_norm=7.5")) == FixedLimit(7.5)
    assert norm_limit(small(*SUMS, "strategies.max_norm=7.5")) == FixedLimit(7.5)


@pytest.mark.parametrize("value", ["0", "-1", "large", "null"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"strategies\.max_norm: .* is refused: .*auto"):
        small(f"strategies.max_norm={value}")


def test_a_learner_that_does_not_say_has_the_fixed_limit() -> None:
    run = small(*SUMS, "server.evaluation.baselines=[local]")
    (local,) = opponents(run)
    assert norm_limit(local.within(run)) == FixedLimit(1000.0)
    both = small(inner("reptile, steps: 2, local_lr: 0.5, l2: 0.1"), *SUMS)
    assert norm_limit(both) == FixedLimit(1000.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("strategies.combine.rule=median",), "median needs 3 updates or more, but with .* 0.5 a"),
        (("strategies.combine.rule=geometric_median",), "a round of 3 hospitals goes on with 2"),
        (("strategies.combine={rule: trimmed_mean, trim: 0.4}", "strategies.quorum=1.0"), "2 x 2"),
        (("strategies.combine.rule=krum", "strategies.quorum=1.0"), "needs 5 updates or more"),
        (("strategies.combine.rule=median", "strategies.hospitals_per_round=1"), "goes on with 1"),
    ],
)
def test_rule_that_means_nothing_for_the_quorum_is_refused(
    settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"strategies.combine.rule: .*{words}.*set the rule to me"
    ):
        small(*settings)


@pytest.mark.parametrize("rule", ["median", "geometric_median", "trimmed_mean"])
def test_rule_that_the_quorum_suits_is_taken(rule: str) -> None:
    small(f"strategies.combine.rule={rule}", "strategies.quorum=1.0")


def test_noise_at_the_server_refuses_every_rule_but_the_mean() -> None:
    hospital = ("client.schedule=passes", "privacy={mechanism: whole, unit: hospital}")
    for rule in ("median", "geometric_median", "trimmed_mean"):
        with pytest.raises(ConfigError, match="the server's noise for a hospital is measured for"):
            small(*hospital, f"strategies.combine.rule={rule}", "strategies.quorum=1.0")
