"""Baselines stand on equal terms: the same network, rates, steps and budget as the run's own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from metaward.client.desk import read_desk
from metaward.client.inner import Setting
from metaward.client.inner.centroid import Centroid
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.local import Local
from metaward.client.inner.reptile import Reptile
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.ledger import Ledger
from metaward.sections import Baseline, Evaluation, FineTune
from metaward.server import show
from metaward.server.baselines import (
    BASELINES,
    centroid,
    claim,
    fedavg,
    fedavg_names,
    local,
    own,
    scratch,
    untrained,
)
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from metaward.server.terminal import say
from metaward.sim import Sim
from metaward.strategies.combine import Mean, Median
from metaward.strategies.outer import Adam, Sgd
from tests.server.office.privacy_desk import PRIVATE
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
    run = small("strategies={combine: {rule: median}, outer: {optimizer: adam}, quorum: 1.0}")
    mine = own(run)
    assert (mine.name, mine.key, mine.trained) == ("reptile", "reptile", True)
    assert (mine.learner, mine.combine, mine.outer) == (run.client.inner, Median(), Adam())


@pytest.mark.parametrize("run", RUNS)
def test_baselines_have_their_own_rate_and_the_runs_adaptation_steps(run: Sim) -> None:
    tune = FineTune(lr=0.07, steps=3, batch=9)
    evaluation = replace(run.server.evaluation, fine_tune=tune)
    run = replace(run, server=replace(run.server, evaluation=evaluation))
    (contender,) = fedavg(run)
    for learner in (contender.learner, scratch(run)[0].learner):
        assert isinstance(learner, Reptile)
        assert (learner.lr, learner.steps, learner.batch) == (0.07, 3, 9)
        assert learner.adapt_steps == run.client.inner.adapt_steps
    assert isinstance(contender.learner, FedAvg)
    assert contender.trained
    assert (contender.combine, contender.outer) == (Mean(), Sgd(lr=1.0)), "theta <- mean of phi"


def test_baselines_of_prototypes_alone_are_ones_that_a_hospital_takes() -> None:
    """``steps: 0`` is Proto-MAML's own; gradient descent takes at least one."""
    run = small(
        "client.tasks={source: phantom}",
        "client.model={network: conv}",
        "client.inner={algorithm: proto_maml, steps: 0}",
    )
    for contender in (*scratch(run), *fedavg(run), *fedavg_names(run)):
        desk = contender.within(run).desk()
        assert desk.learner == contender.learner
        assert read_desk(desk.json()) == desk


def test_class_names_are_a_second_fedavg_only_where_they_tell_more() -> None:
    assert fedavg_names(small()) == []
    phantom = small("client.tasks={source: phantom}", "client.model={network: conv}")
    (contender,) = fedavg_names(phantom)
    (plain,) = fedavg(phantom)
    assert isinstance(contender.learner, FedAvg)
    assert contender.learner == replace(plain.learner, names=True)  # type: ignore[type-var]
    assert contender.key != plain.key


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


@pytest.mark.parametrize("run", RUNS)
def test_untrained_is_the_runs_own_learner_at_its_first_theta(run: Sim) -> None:
    """What meta-training adds is what stands between this row and the run's own."""
    (contender,) = untrained(run)
    assert (contender.learner, contender.trained) == (run.client.inner, False)


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
        desk = contender.within(run).desk()
        assert desk.learner == contender.learner
        assert read_desk(desk.json()) == desk


def test_baselines_may_take_rounds_of_their_own_under_the_same_budget(tmp_path: Path) -> None:
    """One round of the run, four of FedAvg; both spend epsilon 8, each for its own rounds."""
    run = small(
        *PRIVATE,
        "server.rounds=1",
        "server.evaluation={every: 1, episodes: 1, final_episodes: 1, baselines: [fedavg]}",
        "server.evaluation.fine_tune.rounds=4",
        "strategies.hospitals_per_round=null",
    )
    folder = Folder(tmp_path / "result")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    trained = {key: {row["round"] for row in rows_of(folder, key)} for key in ("reptile", "fedavg")}
    assert trained == {"reptile": {1}, "fedavg": {1, 2, 3, 4}}
    for path in folder.hospitals.glob("*/*.sqlite"):
        events = Ledger.open(path).history().totals().values()
        assert max(enforced_epsilon(e, 1e-5) for e in events) == pytest.approx(8.0, rel=1e-3)


ALONE = "This holds for what the run's own learner sends, and for nothing else: the same records "


def beside(baselines: str, *settings: str) -> Sim:
    run = small(*PRIVATE, *settings, f"server.evaluation.baselines=[{baselines}]")
    return replace(run, server=replace(run.server, rounds=1))


def test_the_claim_names_every_learner_that_it_does_not_hold_for() -> None:
    run = beside("no_privacy, untrained, scratch, fedavg, centroid")
    assert claim(run) == (
        f'{run.privacy.claim} {ALONE}also train "reptile, NO PRIVACY" WITHOUT ANY PRIVACY; '
        '"FedAvg + fine-tune" with noise and an epsilon of its own.'
    )
    task = beside("fedavg", "privacy={mechanism: whole, unit: task}")
    assert claim(task).endswith(
        f'{ALONE}also train "FedAvg + fine-tune, NO PRIVACY" WITHOUT ANY PRIVACY.'
    )
    for plain in (beside("untrained, scratch, centroid"), small()):
        assert claim(plain) == plain.privacy.claim


def test_the_claim_stands_whole_wherever_a_finished_run_prints_or_saves_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = beside("no_privacy, fedavg"), Folder(tmp_path / "result")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    say(show.final(run, folder))
    saved = json.loads((folder.path / "result.json").read_text())["privacy"]
    assert saved == claim(run) != run.privacy.claim
    for text in (capsys.readouterr().out, (folder.path / "report.md").read_text()):
        assert claim(run) in " ".join(text.split())


def rows_of(folder: Folder, key: str) -> list[dict[str, Any]]:
    place = folder if key == "reptile" else folder.baseline(key)
    return [row for row in place.rows() if row["phase"] == key]


# ------------------------------------------------------------------------------ local models


def test_the_names_of_baselines_are_those_that_a_file_may_name() -> None:
    assert get_args(Baseline) == tuple(BASELINES)


def test_local_models_are_fedavgs_twins_with_a_pull() -> None:
    """The same network, rate, steps, rounds, combination and protection."""
    phantom = small(
        "client.tasks={source: phantom}",
        "client.model={network: conv}",
        "server.evaluation.fine_tune={lr: 0.07, steps: 3, batch: 9, rounds: 4, pull: 0.5}",
    )
    twins = [*fedavg(phantom), *fedavg_names(phantom)]
    for one, twin in zip(local(phantom), twins, strict=True):
        assert isinstance(one.learner, Local)
        assert one.learner == Local(**vars(twin.learner), pull=0.5)
        same = replace(one, name=twin.name, key=twin.key, learner=twin.learner)
        assert same == twin
    assert [one.name for one in local(small())] == ["local models + fine-tune"]


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_local_models_spend_the_runs_budget_and_keep_their_memory(
    unit: str, tmp_path: Path
) -> None:
    run = small(
        f"privacy={{mechanism: sums, unit: {unit}, epsilon: 6.0}}",
        "client.schedule=passes",
        "server.rounds=2",
        "server.evaluation={every: 2, episodes: 1, final_episodes: 1, baselines: [local]}",
    )
    folder = Folder(tmp_path / "result")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    (own_row, row) = json.loads((folder.path / "result.json").read_text())["tables"][0]["rows"]
    assert row["learner"] == "local models + fine-tune"
    assert own_row["steps"] == row["steps"]
    (place,) = folder.hospitals.glob("*.local-models")
    assert len({path.parent for path in place.rglob("*.memory")}) >= 3
    for path in place.glob("*.sqlite"):
        events = Ledger.open(path).history().totals().values()
        assert max(enforced_epsilon(e, 1e-5) for e in events) <= 6.0 * (1 + 1e-3)


def test_local_models_have_no_privacy_where_tasks_are_protected_and_say_so() -> None:
    (one,) = local(small(*PRIVATE, "privacy={mechanism: whole, unit: task}"))
    assert (one.private, one.name) == (False, "local models + fine-tune, NO PRIVACY")
