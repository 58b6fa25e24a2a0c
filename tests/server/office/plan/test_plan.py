"""`metaward privacy plan`: the run's own noise and price, foreseen without any data."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward import sim
from metaward.client.schedule import deal
from metaward.client.tasks.phantom import Phantom
from metaward.client.work import open_hospital
from metaward.options import ConfigError
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.event import Event
from metaward.privacy.ledger import History, Ledger
from metaward.privacy.noise import SeededNoise, noisy
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.plan import GRADIENTS, planned, verdict
from metaward.server.office.plan.question import question
from tests.mechanisms import spelled
from tests.server.office.plan.plan_desk import CROWDED, ONE_TASK, SINE, big, run_with

# ------------------------------------------------------------ the plan and a real run agree

LEARNERS = {
    "reptile": "client.inner={algorithm: reptile, steps: 2, lr: 0.0001}",
    "fomaml": "client.inner={algorithm: fomaml, steps: 2, lr: 0.0001}",
    "maml": "client.inner={algorithm: maml, steps: 2, lr: 0.0001}",
    "proto_maml": "client.inner={algorithm: proto_maml, steps: 2, lr: 0.0001}",
}
CASES = [
    (ONE_TASK, "record", LEARNERS["proto_maml"], ()),
    (CROWDED, "patient", LEARNERS["fomaml"], ()),
    (
        CROWDED,
        "record",
        LEARNERS["reptile"],
        ("privacy.train=[norm, head]", "client.tasks_per_round=10"),
    ),
    (SINE, "record", LEARNERS["maml"], ()),
    (
        SINE,
        "record",
        LEARNERS["reptile"],
        ("privacy.sampling_rate=0.5", "privacy.noise_multiplier=20.0"),
    ),
    (SINE, "record", LEARNERS["fomaml"], ("privacy.noise_multiplier=2.5", "privacy.epsilon=90")),
    (SINE, "task", LEARNERS["maml"], ()),
    (SINE, "hospital", LEARNERS["maml"], ()),
]


@pytest.mark.parametrize(("tasks", "unit", "learner", "settings"), CASES)
def test_the_plan_is_what_a_real_run_is_charged(
    tmp_path: Path, tasks: str, unit: str, learner: str, settings: tuple[str, ...]
) -> None:
    """Noise multipliers to the last bit, the worst unit's epsilon after all rounds to 1e-9.

    A patient may stand in fewer sums than the plan must reckon with, and spends less then.
    """
    run = run_with(tasks, spelled(unit, "epsilon: 3.0"), learner, *settings)
    plan = planned(question(run, tasks=fewest_tasks(run)))
    histories = [Ledger.open(path).history() for path in charged(run, tmp_path)]
    assert [len(history.charges) for history in histories] == [3, 3]
    for history in histories:
        assert {e.noise_multiplier for e in raw(history)} == {s.noise_multiplier for s in plan.sums}
    worst = max(spent(history, unit) for history in histories)
    if unit == "patient":
        assert 0.5 * plan.epsilon < worst < plan.epsilon * (1 + 1e-9)
    else:
        assert plan.epsilon == pytest.approx(worst, rel=1e-9)


def raw(history: History) -> list[Event]:
    return [e for charge in history.charges for paid in charge.payments for e in paid.events]


def spent(history: History, unit: str) -> float:
    """The worst unit's epsilon. A hospital stands as a whole in every charge of its own."""
    if unit == "hospital":
        return enforced_epsilon([charge.payments[0].events[0] for charge in history.charges], 1e-5)
    return max(enforced_epsilon(events, 1e-5) for events in history.totals().values())


def fewest_tasks(run: sim.Sim) -> int:
    """What a hospital's deal comes to; where hospitals differ, none of them may have fewer."""
    counts = []
    for index in range(2):
        hospital = open_hospital(run.client.tasks, index, None, run.seed)
        rng = np.random.default_rng([run.seed, 4, index, 0])  # as client.work deals a first pass
        counts.append(len(deal(hospital, run.privacy.unit, rng)))
    assert len({-(-count // run.client.tasks_per_round) for count in counts}) == 1, counts
    return min(counts)


def charged(run: sim.Sim, path: Path) -> list[Path]:
    folder = Folder(path / "result")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    return sorted(folder.hospitals.glob("*/*.sqlite"))


def test_no_data_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> Any:
        raise AssertionError("a plan opened a hospital")

    monkeypatch.setattr(Phantom, "hospital", forbidden)
    assert advised(question(run_with(ONE_TASK, "privacy={mechanism: sums, unit: record}"))).ratio


# ------------------------------------------------------------------------ signal and noise


def test_a_large_network_on_small_tasks_is_said_to_fail() -> None:
    """n mu sqrt(N) / sqrt(k d) = 25 * 0.7191 * sqrt(100) / sqrt(12 * 28485) = 0.3075 in each of 12
    rounds, sqrt(12) as much in all; mu is the known answer for epsilon 3 at delta 1e-5."""
    plan = advised(question(big()))
    assert (plan.records_per_task, plan.participations, plan.coordinates) == (25, 12, 28485)
    assert plan.mu == pytest.approx(0.7191, abs=1e-4)
    assert plan.ratio_of_a_round == pytest.approx(25 * 0.7191 * 10 / sqrt(12 * 28485), rel=1e-3)
    assert plan.ratio == pytest.approx(25 * 0.7191 * 10 / sqrt(28485), rel=1e-3)
    assert plan.verdict == "cannot work"
    assert plan.epsilon == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize(
    ("setting", "factor"),
    [
        ("client.inner.steps=12", 1.0),  # T sums cost as if sigma were sqrt(T) smaller
        ("privacy.clip_norm=0.01", 1.0),  # of signal and noise alike
        ("server.rounds=3", 1.0),  # twice a round, half by their number
        ("client.tasks.hospitals=400", 2.0),
        ("strategies.hospitals_per_round=25", 0.5),
        ("client.tasks={source: phantom, hospitals: 100, unseen: 1, ways: 5, shots: 1, queries: 9, "
         "records: 50}", 2.0),
        ("client.tasks.records=50", sqrt(2)),  # two tasks a pass: half the participations
        ("privacy.noise_multiplier=20.0", 25 * sqrt(3) * 10 / sqrt(28485) / 20 / 0.307527),
    ],
)  # fmt: skip
def test_the_ratio_follows_the_formula(setting: str, factor: float) -> None:
    before, after = (planned(question(run)).ratio for run in (big(), big(setting)))
    assert before is not None
    assert after == pytest.approx(before * factor, rel=1e-4)


def test_a_drawn_half_of_the_records_is_half_the_signal() -> None:
    runs = [big("privacy.noise_multiplier=20.0", f"privacy.sampling_rate={q}") for q in (1.0, 0.5)]
    whole, half = (planned(question(run)) for run in runs)
    assert whole.ratio is not None
    assert half.ratio == pytest.approx(whole.ratio / 2, rel=1e-9)
    assert half.epsilon < whole.epsilon
    assert (whole.mu is None, half.mu) == (False, None)


@pytest.mark.parametrize("unit", ["task", "hospital"])
def test_whole_updates_have_their_own_formula(unit: str) -> None:
    """n = 1. A task: M mu sqrt(H) / sqrt(k d) for M tasks a hospital and round; a hospital: one
    noise at the server for the sum of all, H mu / sqrt(k d), in all rounds."""
    mechanism = spelled(unit, "epsilon: 3.0")
    five = ("client.tasks.records=250", "client.tasks_per_round=5", mechanism)  # two rounds a pass
    plan = planned(question(big(*five)))
    top, k = (5 * 10, 6) if unit == "task" else (100, 12)
    assert plan.participations == k
    assert plan.ratio_of_a_round == pytest.approx(top * 0.7191 / sqrt(k * 28485), rel=1e-3)


def test_sums_over_several_tasks_share_one_noise() -> None:
    """FOMAML's query sum runs over all M tasks of a round: one noise instead of M."""
    alone = big("client.inner={algorithm: fomaml, steps: 1}")
    (query,) = [s for s in planned(question(alone)).sums if s.kind == "query"]
    assert (query.sums, query.vectors) == (1, 20)
    three = big(
        "client.inner={algorithm: fomaml, steps: 1}",
        "client.tasks.records=75",
        "client.tasks_per_round=3",
    )
    plan = planned(question(three))
    (query,) = [s for s in plan.sums if s.kind == "query"]
    assert (query.sums, query.vectors) == (1, 60)
    assert plan.ratio == pytest.approx(3 * planned(question(alone)).ratio, rel=1e-6)


def test_the_ratio_is_that_of_drawn_noise() -> None:
    """Sums of n agreeing vectors of norm C at every hospital, with real noise. The noise's length
    deviates by 1 / sqrt(2 d) = 1.1 % of itself; 6 % is five deviations."""
    run = run_with(
        SINE,
        "privacy={mechanism: sums, unit: record, clip_norm: 0.7}",
        "client.model.hidden=[1400]",
    )
    run = replace(run, client=replace(run.client, tasks_per_round=4))
    plan = planned(question(run))
    (support,) = plan.sums
    d, noise = plan.coordinates, SeededNoise(3)
    assert d > 4000
    total = np.zeros(d)
    for _ in range(plan.hospitals * support.sums):
        total += noisy(np.zeros(d), support.clip_norm, support.noise_multiplier, noise)
    signal = plan.hospitals * support.vectors * support.clip_norm
    assert plan.ratio_of_a_round == pytest.approx(signal / np.linalg.norm(total), rel=0.06)


def test_a_patients_records_are_one_vector() -> None:
    """12 patients, each in one of 6 tasks, add up 12 vectors a sum, however many records."""
    run = run_with(CROWDED, "privacy={mechanism: sums, unit: patient}", "client.tasks_per_round=6")
    own = planned(question(run, tasks=6))
    few = planned(question(run, tasks=6, units=12))
    lead = next(s for s in own.sums if s.kind == "support")
    assert lead.vectors > 12 * lead.count
    assert few.ratio == pytest.approx(own.ratio * 12 * lead.count / lead.vectors)
    assert planned(question(run, units=4)).tasks_per_pass == 4
    same = planned(question(run, tasks=6, units=100_000))
    assert same.ratio == own.ratio


def test_theta_of_a_metric_follows_second_moments() -> None:
    """5 features make a triangle of 15 numbers, whatever the network's size."""
    run = run_with(
        CROWDED,
        "privacy={mechanism: sums, unit: record}",
        "client.inner={algorithm: metric}",
        "client.model={network: mlp, hidden: [5]}",
    )
    plan = planned(question(run))
    assert (plan.parameters, plan.coordinates) == (15, 15)
    assert [s.kind for s in plan.sums] == ["features", "moments"]
    moments = plan.sums[1]
    expected = (
        plan.hospitals * moments.vectors / (moments.noise_multiplier * sqrt(plan.hospitals * 15))
    )
    assert plan.ratio_of_a_round == pytest.approx(expected)
    assert plan.limits == (1.0, 10.0)
    assert planned(
        question(run_with(CROWDED, "privacy={mechanism: sums, unit: record}"))
    ).limits == (3.0, 30.0)
    with pytest.raises(ConfigError, match=r"privacy\.train"):
        planned(question(replace(run, privacy=replace(run.privacy, train=("head",)))))


def test_verdicts() -> None:
    cannot, doubtful = GRADIENTS
    assert [verdict(r) for r in (0.0, cannot * 0.999)] == ["cannot work"] * 2
    assert [verdict(r) for r in (cannot, doubtful * 0.999)] == ["doubtful"] * 2
    assert verdict(doubtful) == "can work"
    assert [verdict(r, (1.0, 10.0)) for r in (0.9, 9.0, 10.0)] == [
        "cannot work",
        "doubtful",
        "can work",
    ]
    assert verdict(1e9, body=False) == "doubtful"
    assert verdict(0.0, body=False) == "cannot work"


def test_a_body_of_random_weights_is_never_foretold_to_work() -> None:
    """configs/private.yaml has a ratio of 65 and gains nothing over its untrained start."""
    plan = advised(question(sim.load(sim.HERE / "configs" / "private.yaml")))
    assert plan.ratio is not None
    assert plan.ratio > GRADIENTS[1]
    assert plan.verdict == "doubtful"
    assert any("drawn at random" in note for note in plan.notes)
