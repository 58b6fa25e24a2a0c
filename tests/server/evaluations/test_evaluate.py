"""A finished run judged again: the same numbers where the question is the same, and no more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metaward.client.inner import Setting
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.sine import Sine
from metaward.client.work import stream
from metaward.options import ConfigError
from metaward.server.evaluations.evaluate import as_json, checked, evaluated, free_place
from metaward.server.evaluations.exam import Exam, exam_of
from metaward.server.evaluations.finished import Finished, open_finished
from metaward.server.evaluations.report import Evaluated
from metaward.server.evaluations.sizes import Sized
from metaward.server.folder import FolderTakenError
from metaward.strategies.quorum import QuorumError


def judged(result: Path, place: Path, jobs: int = 1, **wishes: Any) -> Evaluated:
    finished = open_finished(result)
    exam = exam_of(finished, **{"episodes": 8, "shots": [10], "steps": [2], **wishes})
    return evaluated(finished, exam, checked(exam, place, jobs), place, jobs, lambda row: None)


def final_rows(result: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((result / "result.json").read_text())["tables"][0][
        "rows"
    ]
    return rows


def test_the_same_episodes_give_the_final_table_exactly(result: Path, tmp_path: Path) -> None:
    made = judged(result, tmp_path / "e")
    found = {one.learner: one for one in made.tables[0].learners}
    rows = final_rows(result)
    assert {row["learner"] for row in rows} < found.keys(), "untrained is judged as well"
    for row in rows:
        one = found[row["learner"]]
        assert (one.steps, one.before, one.after) == (row["steps"], row["before"], row["after"])
        assert (one.episodes.low, one.episodes.high) == (row["low"], row["high"])
        assert {name: at.after for name, at in one.by_hospital.items()} == row["hospitals"]
        assert (one.worst, one.worst_hospital) == (row["worst"], row["worst_hospital"])
    gaps = {one.baseline: one.better for one in made.tables[0].differences}
    for row in rows[1:]:
        assert gaps[row["learner"]] == pytest.approx(row["gap"], rel=1e-5)


def test_the_number_of_processes_changes_no_byte(result: Path, tmp_path: Path) -> None:
    wishes: dict[str, Any] = {"baselines": ["scratch", "centroid"], "seed": 3, "steps": [0, 2]}
    one = judged(result, tmp_path / "one", 1, **wishes)
    two = judged(result, tmp_path / "two", 2, **wishes)
    assert as_json(one) == as_json(two) == (tmp_path / "one" / "evaluation.json").read_text()
    assert (tmp_path / "two" / "evaluation.json").read_text() == as_json(one)


def test_a_seed_draws_other_episodes_of_the_same_hospitals(result: Path, tmp_path: Path) -> None:
    made = [judged(result, tmp_path / str(k), seed=k, baselines=[]) for k in (0, 1)]
    after = [one.tables[0].learners[0].after for one in made]
    assert after[0] != after[1]
    names = [list(one.tables[0].learners[0].by_hospital) for one in made]
    assert names[0] == names[1] == ["unseen-01", "unseen-02"]


def test_sizes_and_steps_make_a_table_each(result: Path, tmp_path: Path) -> None:
    made = judged(result, tmp_path / "e", shots=[1, 10], steps=[0, 1, 3], baselines=["centroid"])
    assert [(t.shots, t.steps) for t in made.tables] == [
        (shots, steps) for shots in (1, 10) for steps in (0, 1, 3)
    ]
    for table in made.tables:
        own, centroid = table.learners
        assert (own.steps, centroid.steps) == (table.steps, 1), "a look at the support set"
        assert (own.before == own.after) == (table.steps == 0)
    before = {
        t.shots: {x.learners[0].before for x in made.tables if x.shots == t.shots}
        for t in made.tables
    }
    assert all(len(values) == 1 for values in before.values()), "all on the same episodes"


def test_episodes_are_spread_evenly_and_said(result: Path, tmp_path: Path) -> None:
    made = judged(result, tmp_path / "e", episodes=7, baselines=[])
    assert made.plain()["asked"]["episodes"] == {"each": 4, "in_all": 8}
    assert "4 episodes each, 8 in all" in (tmp_path / "e" / "evaluation.md").read_text()


def test_training_hospitals_are_not_even_opened(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real = set[str](), Sine.hospital

    def note(self: Sine, index: int, root: Path | None, seed: int) -> Hospital:
        opened.add(self.roster()[index].role)
        return real(self, index, root, seed)

    monkeypatch.setattr(Sine, "hospital", note)
    judged(result, tmp_path / "e")
    assert opened == {"unseen"}


def test_a_training_hospital_that_is_asked_gives_no_scores(result: Path, tmp_path: Path) -> None:
    finished = open_finished(result)
    exam = replace(exam_of(finished, shots=[10], episodes=2), hospitals=("sine-01",))
    with pytest.raises(QuorumError, match=r"no scores from sine-01 \(policy-purpose\)"):
        evaluated(finished, exam, Sized((10,), {}, ()), tmp_path / "e", 1, lambda row: None)
    assert list(tmp_path.iterdir()) == [], "everything or nothing"


def test_a_baseline_without_scores_is_named_and_left_out(result: Path, tmp_path: Path) -> None:
    wild = ("server.evaluation.fine_tune.lr=100",)
    made = judged(result, tmp_path / "e", steps=[40], settings=wild, baselines=["scratch"])
    assert [one.learner for one in made.tables[0].learners] == ["reptile"]
    (line,) = made.lines
    assert line.startswith("from scratch, 10 shots, 40 steps: no scores from unseen-01 (")
    assert line in (tmp_path / "e" / "evaluation.md").read_text()


def test_further_scores_of_a_finished_run(result: Path, tmp_path: Path) -> None:
    """The thetas of its baselines are found, whatever is asked of them."""
    plain = judged(result, tmp_path / "plain")
    wished = ("server.evaluation.metrics=[rmse]", "server.evaluation.score=mae")
    made = judged(result, tmp_path / "more", settings=wished)
    assert [one.score.name for one in made.tables] == ["mae", "mse", "rmse"]
    again = [(one.learner, one.after) for one in made.tables[1].learners]
    assert again == [(one.learner, one.after) for one in plain.tables[0].learners]
    assert (tmp_path / "more" / "evaluation-rmse.png").is_file()
    with pytest.raises(ConfigError, match=r"metrics: unknown 'aurco'"):
        judged(result, tmp_path / "bad", settings=["server.evaluation.metrics=[aurco]"])


def test_a_size_that_records_do_not_allow_is_left_out_with_the_reason(
    result: Path, tmp_path: Path
) -> None:
    made = judged(result, tmp_path / "e", shots=[10, 40], baselines=[])
    assert made.sized.shots == (10,)
    assert made.lines[0].startswith("40 shots are left out: hospital unseen-01: points = 50")
    with pytest.raises(ValueError, match="--shots: 40 is refused: hospital unseen-01"):
        judged(result, tmp_path / "f", shots=[40])


def test_nothing_is_written_over(result: Path, tmp_path: Path) -> None:
    exam = exam_of(open_finished(result))
    first = free_place(tmp_path, exam)
    first.mkdir(parents=True)
    (first / "mine").write_text("x")
    assert free_place(tmp_path, exam) != first
    with pytest.raises(FolderTakenError, match="is not an empty folder"):
        judged(result, first)
    assert [path.name for path in first.iterdir()] == ["mine"]


def test_files_are_complete(result: Path, tmp_path: Path) -> None:
    judged(result, tmp_path / "e", baselines=["scratch"])
    names = sorted(path.name for path in (tmp_path / "e").iterdir())
    assert names == ["evaluation.json", "evaluation.md", "evaluation.png"]
    assert (tmp_path / "e" / "evaluation.png").read_bytes()[1:4] == b"PNG"


def test_a_query_is_predicted_without_the_others(result: Path) -> None:
    """Non-transductive: alone or among others, a record gets the same outputs."""
    finished = open_finished(result)
    run = finished.run
    setting = Setting(run.client.model, run.client.tasks.spec())
    episode = run.client.tasks.hospital(4, None, run.seed).episode(stream(5, "evaluate", 4, 0))
    theta = torch.from_numpy(finished.theta)
    predict = run.client.inner.adapt(setting, theta, setting.support(episode), 2)
    query = setting.query(episode).x
    with torch.no_grad():
        alone = torch.cat([predict(one[None]) for one in query])
        np.testing.assert_allclose(alone.numpy(), predict(query).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"role": "train"}, "'train' is refused; the run's judging hospitals are unseen"),
        ({"role": "validation"}, "'validation' is refused"),
        ({"episodes": 0}, "--episodes: 0 is refused: allowed is 1 or more"),
        ({"shots": [0, 5]}, "--shots: 0 is refused"),
        ({"steps": [-1]}, "--steps: -1 is refused"),
        ({"steps": [5000]}, "--steps: client.inner.adapt_steps: 5000"),
        ({"baselines": ["fedag"]}, "'fedag' is unknown, did you mean fedavg"),
        ({"baselines": ["local"]}, "'local' needs training, and was not trained in this run"),
        ({"baselines": ["metric"]}, "'metric' has no row in such a run"),
        ({"settings": ["client.tasks.unseen=3"]}, "client.tasks.unseen belongs to what the run"),
        ({"settings": ["client.inner.algorithm=maml"]}, "client.inner.algorithm belongs to"),
        ({"settings": ["seed=3"]}, "seed belongs to"),
        ({"settings": ["client.inner.lrr=1"]}, "did you mean lr"),
    ],
)
def test_a_wish_that_cannot_be_met_is_named(
    result: Path, wishes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        exam_of(open_finished(result), **wishes)


def test_what_is_asked_when_nothing_is_said(result: Path) -> None:
    exam: Exam = exam_of(open_finished(result))
    assert (exam.shots, exam.steps) == ((1, 5, 10, 20), (0, 2, 5, 20))
    assert (exam.each, exam.episodes) == (300, 600)
    assert exam.baselines == ("untrained", "scratch", "fedavg", "centroid")


def test_trained_baselines_are_judged_as_they_were_trained(result: Path) -> None:
    finished: Finished = open_finished(result)
    names: Sequence[str] = finished.baselines()
    assert "fedavg" in names
    assert "local" not in names
