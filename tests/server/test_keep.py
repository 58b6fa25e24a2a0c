"""The best round by hospitals set aside for validation: chosen, kept, resumed, reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import metaward as mw
from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.node import Node
from metaward.client.tasks.kinds import ACCURACY, MEAN_SQUARED_ERROR
from metaward.options import ConfigError
from metaward.privacy import Scores
from metaward.privacy.wire import Request
from metaward.sections import Evaluation
from metaward.server import show
from metaward.server.checkpoint import CheckpointError, latest_best, latest_state, save_state
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.server.keep import Best, better, stale
from metaward.server.office.plan.question import question
from metaward.server.terminal import say
from metaward.strategies.meta import MetaState
from metaward.strategies.quorum import QuorumError
from tests.server.small import small
from tests.server.test_kill import finish, start, wait_for_round

ASIDE = "client.tasks.validation=2"
BEST = (ASIDE, "server.evaluation.keep=best", "strategies.outer.lr=0.3", "server.rounds=12")
"""A rate at which the score goes up and down, so that the best round is not the last one."""


def execute(path: Path, *settings: str, stop: int = 0) -> Folder:
    """A run, or what an interruption in round ``stop`` leaves of it."""
    folder = Folder(path)
    folder.create(small(*settings))

    def observe(row: Any) -> None:
        if row["round"] == stop and "accepted" in row and row["phase"] == "reptile":
            raise KeyboardInterrupt

    if stop:
        with pytest.raises(KeyboardInterrupt):
            ENGINES["inprocess"](folder.config(), folder, observe)
    else:
        ENGINES["inprocess"](folder.config(), folder, observe)
    return folder


def resume(folder: Folder) -> None:
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)


def theta(folder: Folder) -> bytes:
    return load_file(folder.path / "theta.safetensors")["theta"].tobytes()


def result(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "result.json").read_text())
    return found


def validated(folder: Folder) -> dict[int, float]:
    rows = [row for row in folder.rows() if "validation" in row]
    return {row["round"]: row["validation"]["after"] for row in rows}


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return execute(tmp_path_factory.mktemp("keep") / "best", *BEST)


# -------------------------------------------------------------------------------- the rule


def found(round: int, after: float) -> Best:
    return Best(round, np.zeros(2, np.float32), {"after": after})


def test_the_direction_of_the_score_is_respected_and_the_first_of_equals_counts() -> None:
    one, other, same = found(2, 0.5), found(4, 0.75), found(6, 0.5)
    assert better(ACCURACY, None, one) is one
    assert better(ACCURACY, one, other) is other
    assert better(MEAN_SQUARED_ERROR, one, other) is one
    assert better(ACCURACY, one, same) is one
    assert better(MEAN_SQUARED_ERROR, one, same) is one


def test_training_stops_when_the_best_round_is_patience_evaluations_old() -> None:
    rule = Evaluation(every=5, keep="best", patience=2)
    assert [stale(rule, found(10, 0), number) for number in (10, 15, 19, 20)] == [
        False,
        False,
        False,
        True,
    ]
    assert not stale(rule, None, 100)
    assert not stale(Evaluation(every=5, keep="best"), found(10, 0), 1000)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (("server.evaluation.keep=best",), "keep: best needs hospitals for validation"),
        (("server.evaluation.keep=first",), "server.evaluation.keep: 'first'"),
        (("server.evaluation.patience=3", ASIDE), "patience: 3 .* set keep: best"),
        ((*BEST, "server.evaluation.patience=0"), "server.evaluation.patience: 0"),
    ],
)
def test_what_cannot_be_chosen_is_refused_when_the_file_is_read(
    settings: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        small(*settings)


# --------------------------------------------------------------------------------- the run


def test_hospitals_that_are_set_aside_change_nothing_that_is_learned_or_judged(
    tmp_path: Path,
) -> None:
    plain, aside = execute(tmp_path / "plain"), execute(tmp_path / "aside", ASIDE)
    assert theta(plain) == theta(aside)
    assert result(plain)["tables"] == result(aside)["tables"]
    assert not validated(plain)
    assert list(validated(aside)) == [2, 4, 6], "they are evaluated, though nothing is chosen"


def test_the_theta_of_the_best_round_is_the_result(best: Folder, tmp_path: Path) -> None:
    """Against a run that keeps the last round, and every checkpoint."""
    changes = ("server.evaluation.keep=last", "server.checkpoint.keep=99")
    last = execute(tmp_path / "last", *BEST, *changes)
    assert validated(last) == validated(best)
    chosen = min(validated(best), key=lambda number: validated(best)[number])
    assert chosen < 12, "else there is nothing to see"
    at = load_file(last.checkpoints / f"round-{chosen:06d}" / "state.safetensors")
    assert theta(best) == at["theta"].tobytes() != theta(last)
    kept = result(best)["kept"][0]
    assert (kept["learner"], kept["round"], kept["reached"]) == ("reptile", chosen, 12)
    assert kept["scores"]["after"] == validated(best)[chosen]
    assert result(last)["kept"][0] == {
        "learner": "reptile",
        "round": 12,
        "reached": 12,
        "planned": 12,
        "scores": None,
    }


def test_trained_baselines_keep_their_best_round_on_equal_terms(best: Folder) -> None:
    (_, kept) = result(best)["kept"]
    scores = validated(best.baseline("fedavg"))
    assert kept["learner"] == "FedAvg + fine-tune"
    assert kept["round"] == min(scores, key=lambda number: scores[number])


def test_the_choice_is_in_every_report(best: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    number, low = (result(best)["kept"][0][key] for key in ("round", "scores"))
    report = (best.path / "report.md").read_text()
    words = f"reptile: the theta of round {number}, with {low['after']:.3f} [{low['low']:.3f}, "
    assert words in report
    assert "chosen by 2 hospitals set aside for it, every 2 rounds, in 2 episodes each" in report
    say(show.final(best.config(), best))
    assert words in capsys.readouterr().out
    assert mw.open(best.path).kept["round"] == number
    assert mw.open(best.path).theta.tobytes() == theta(best)
    rows = [row["best"] for row in best.rows() if "validation" in row]
    assert rows[-1] == number


def test_the_privacy_report_says_what_the_choice_depends_on(best: Folder) -> None:
    report = json.loads((best.path / "privacy.json").read_text())
    touches = {touch["name"]: touch for touch in report["touches"]}
    assert touches["evaluation metrics"]["covered"] == "no"
    assert "set aside for validation choose the round" in touches["evaluation metrics"]["words"]
    assert "tunes how many rounds it takes" in touches["hyper-parameter tuning"]["words"]
    assert report["run"]["evaluation_hospitals"] == 4


def test_training_stops_early_and_a_stopped_run_stays_stopped(tmp_path: Path) -> None:
    """The best of 12 rounds is found, then two evaluations that are no better."""
    folder = execute(tmp_path / "run", *BEST, "server.rounds=40", "server.evaluation.patience=2")
    kept, scores = result(folder)["kept"][0], validated(folder)
    assert kept["reached"] < kept["planned"] == 40
    assert kept["reached"] == max(scores) == kept["round"] + 2 * 2
    assert kept["round"] == min(scores, key=lambda number: scores[number])
    assert "training stopped early" in (folder.path / "report.md").read_text()
    before = theta(folder), result(folder)["kept"], result(folder)["tables"]
    resume(folder)
    assert (theta(folder), result(folder)["kept"], result(folder)["tables"]) == before


@pytest.mark.parametrize(("every", "stop"), [(1, 5), (1, 12), (5, 2), (5, 5), (5, 9), (5, 12)])
def test_an_interrupted_run_resumes_to_the_same_choice(
    best: Folder, tmp_path: Path, every: int, stop: int
) -> None:
    """Before the first checkpoint, at one, between two, and in the last round."""
    saved = f"server.checkpoint={{every: {every}, keep: 1}}"
    folder = execute(tmp_path / "run", *BEST, saved, stop=stop)
    resume(folder)
    assert theta(folder) == theta(best)
    assert result(folder)["kept"] == result(best)["kept"]
    assert result(folder)["tables"] == result(best)["tables"]
    assert validated(folder) == validated(best)


@pytest.mark.long
def test_a_killed_run_resumes_to_the_same_choice(best: Folder, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(small(*BEST).mapping()))
    folder = Folder(tmp_path / "killed")
    process = start("run", str(tmp_path / "run.json"), "--out", str(folder.path))
    wait_for_round(folder, 7)
    process.kill()
    process.communicate()
    finish(start("resume", str(folder.path)))
    assert theta(folder) == theta(best)
    assert result(folder)["kept"] == result(best)["kept"]


# ------------------------------------------------------------------------- silent hospitals


def silenced(rounds: set[int]) -> Callable[[Desk, Request, Node], Scores]:
    """An evaluation at which the last hospital gives no scores in these rounds."""
    evaluate = work.evaluate

    def some(desk: Desk, request: Request, node: Node) -> Scores:
        if node.index == 7 and request.round in rounds:
            raise RuntimeError("down")
        return evaluate(desk, request, node)

    return some


def test_a_round_without_all_their_scores_is_not_compared(
    best: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = result(best)["kept"][0]["round"]
    monkeypatch.setattr(work, "evaluate", silenced({chosen}))
    folder = execute(tmp_path / "run", *BEST)
    others = {number: score for number, score in validated(best).items() if number != chosen}
    second = min(others, key=lambda number: others[number])
    assert result(folder)["kept"][0]["round"] == second
    (row,) = (r for r in folder.rows() if "validation" in r and r["round"] == chosen)
    assert row["rejected"] == {"validation-02": "failed"}


def test_a_run_whose_rounds_cannot_be_compared_fails_and_can_be_resumed(
    best: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "run")
    folder.create(small(*BEST))
    with monkeypatch.context() as patch:
        patch.setattr(work, "evaluate", silenced(set(range(13))))
        with pytest.raises(QuorumError, match=r"no round of reptile.*validation-02 \(failed\)"):
            resume(folder)
    resume(folder)
    assert result(folder)["kept"][0]["round"] == 12


# ---------------------------------------------------------------------------- the checkpoint


def test_a_checkpoint_holds_the_best_round_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = Best(4, rng.normal(size=9).astype(np.float32), {"after": 0.1 + 0.2, "others": {"a": 1}})
    state = MetaState(6, one.theta * 2, {})
    path = save_state(tmp_path, state, "{}", 2, one)
    again = latest_best(tmp_path, "{}")
    assert again is not None
    assert (again.round, again.scores) == (one.round, one.scores)
    assert again.theta.tobytes() == one.theta.tobytes()
    loaded = latest_state(tmp_path, "{}")
    assert loaded is not None
    assert loaded.outer == {}
    content = bytearray((path / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "state.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        latest_best(tmp_path, "{}")


def test_a_checkpoint_without_one_says_so(tmp_path: Path) -> None:
    assert latest_best(tmp_path, "{}") is None
    save_state(tmp_path, MetaState(1, np.zeros(3, np.float32), {}), "{}", 2)
    assert latest_best(tmp_path, "{}") is None


# ---------------------------------------------------------------------- who else is to know


def test_a_plan_counts_training_hospitals_only() -> None:
    private = ("privacy={mechanism: sums, unit: record}", "client.schedule=passes")
    assert question(small(*private, ASIDE)).hospitals == 4


def test_tasks_show_names_the_role() -> None:
    rows = show.holdings(small(ASIDE))
    assert [row["role"] for row in rows] == ["train"] * 4 + ["unseen"] * 2 + ["validation"] * 2
