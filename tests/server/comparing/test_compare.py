"""Runs side by side: what differs, what each reached, and no pair where episodes are not equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

import metaward as mw
from metaward.server.comparing.compare import Comparison, compare
from metaward.server.comparing.side import flat, side
from metaward.server.comparing.text import markdown, remarks
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from tests.server.office.privacy_desk import Call, caller
from tests.server.small import small

QUICK = ("server.rounds=2", "server.evaluation.baselines=[]", "client.tasks.unseen=3")
CHANGES = {
    "plain": (),
    "slower": ("client.inner.lr=0.01",),
    "seeded": ("seed=6",),
    "shots": ("client.tasks.shots=5",),
    "many": ("server.evaluation.final_episodes=5",),
    "other": ("server.evaluation.score=mae",),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of two rounds, and one that never began."""
    place = tmp_path_factory.mktemp("runs")
    for name, settings in CHANGES.items():
        run, folder = small(*QUICK, *settings), Folder(place / name)
        folder.create(run)
        run_inprocess(run, folder, lambda row: None)
    Folder(place / "waiting").create(small(*QUICK))
    return {name: place / name for name in (*CHANGES, "waiting")}


def found(runs: dict[str, Path], *names: str) -> Comparison:
    return compare([runs[name] for name in names])


def test_only_keys_that_differ_are_listed(runs: dict[str, Path]) -> None:
    assert found(runs, "plain", "slower").keys == {"client.inner.lr": (0.02, 0.01)}
    assert flat({"a": {"b": 1, "c": [2]}, "d": None}) == {"a.b": 1, "a.c": [2], "d": None}


def test_equal_episodes_give_a_paired_difference(runs: dict[str, Path]) -> None:
    """Errors: the run with the smaller one is better; p is that of scipy's paired t-test."""
    made = found(runs, "plain", "slower")
    (pair,) = made.pairs
    one, other = (list(side.first["hospitals"].values()) for side in made.sides)
    gaps = [b - a for a, b in zip(one, other, strict=True)]
    assert pair.better == pytest.approx(sum(gaps) / 3)
    assert pair.test is not None
    assert pair.test.p == pytest.approx(ttest_rel(one, other).pvalue)
    assert pair.test.corrected == pair.test.p
    assert pair.hospitals is not None
    interval = ttest_rel(other, one).confidence_interval(0.95)
    assert (pair.hospitals.low, pair.hospitals.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("seeded", "the seeds differ"),
        ("shots", "client.tasks.shots differs"),
        ("many", "server.evaluation.final_episodes differs"),
    ],
)
def test_other_episodes_are_not_paired(runs: dict[str, Path], other: str, why: str) -> None:
    made = found(runs, "plain", other)
    (pair,) = made.pairs
    assert (pair.better, pair.test) == (None, None)
    assert f"plain and {other} were not judged on the same episodes: {why}" in remarks(made)


def test_runs_of_different_main_scores_are_not_paired(runs: dict[str, Path]) -> None:
    (remark,) = remarks(found(runs, "plain", "other"))
    assert remark.startswith("plain and other were not judged on the same episodes:")
    assert "another score" in remark
    result = json.loads((runs["other"] / "result.json").read_text())
    assert [one["metric"] for one in result["tables"]] == ["mae", "mse"]


def test_p_values_are_corrected_for_the_pairs_that_there_are(runs: dict[str, Path]) -> None:
    copy = runs["plain"].with_name("copy")
    Folder(copy).create(small(*QUICK, "client.inner.lr=0.03"))
    run_inprocess(Folder(copy).config(), Folder(copy), lambda row: None)
    made = compare([runs["plain"], runs["slower"], copy, runs["seeded"]])
    tests = [pair.test for pair in made.pairs if pair.test]
    assert (len(made.pairs), len(tests)) == (6, 3)
    smallest = min(tests, key=lambda test: test.p)
    assert smallest.corrected == pytest.approx(min(1.0, 3 * smallest.p))


def test_a_run_says_what_it_reached_and_cost(runs: dict[str, Path]) -> None:
    one = side(runs["plain"], "plain")
    result = json.loads((runs["plain"] / "result.json").read_text())
    assert one.first == result["tables"][0]["rows"][0]
    assert (one.rounds, one.kept, one.spent, one.simulated) == (2, 2, "unlimited", True)
    assert one.seconds > 0
    assert [row["round"] for row in one.curve] == [2]


def test_a_run_that_is_not_finished_is_named(runs: dict[str, Path]) -> None:
    made = found(runs, "plain", "waiting")
    assert made.pairs == ()
    assert remarks(made) == ["waiting is absent, not finished: it has no scores"]
    assert "waiting is absent" in markdown(made)


def test_the_command_prints_and_writes(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call: Call = caller(monkeypatch)
    paths = [runs[name] for name in ("plain", "slower", "waiting")]
    assert call("compare", *paths, "--out", tmp_path / "c") == 0
    printed = capsys.readouterr().out
    for words in ("client.inner.lr", "NO PRIVACY", "waiting is absent", "p, Holm"):
        assert words in printed
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == ["compare.json", "compare.md", "compare.png"]
    assert (tmp_path / "c" / "compare.png").read_bytes()[1:4] == b"PNG"
    assert call("compare", *paths, "--json") == 0
    assert capsys.readouterr().out == (tmp_path / "c" / "compare.json").read_text()
    assert call("compare", *paths, "--out", tmp_path / "c") == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_bad_input_is_one_line(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call: Call = caller(monkeypatch)
    for paths in ([runs["plain"]], [runs["plain"], runs["plain"]]):
        assert call("compare", *paths) == 2
        assert "name two or more different result folders" in capsys.readouterr().err
    assert call("compare", runs["plain"], tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_from_python(runs: dict[str, Path]) -> None:
    made = mw.compare([runs["plain"], str(runs["slower"])])
    assert [one["name"] for one in made["runs"]] == ["plain", "slower"]
    assert made["differing"] == {"client.inner.lr": {"plain": 0.02, "slower": 0.01}}
