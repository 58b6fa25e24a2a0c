"""`metaward evaluate` as it is typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import metaward as mw
from metaward.server.folder import Folder
from tests.server.office.privacy_desk import Call, caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


QUICK = ("--episodes", 4, "--jobs", 1, "--baselines", "scratch,centroid")


def test_tables_are_printed_and_written(
    result: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = ("--shots", "1", "10", "--steps", "0", "2")
    assert call("evaluate", result, *QUICK, *lists, "--out", tmp_path / "e") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("reptile", "from scratch", "after 2 steps", "with 10 shots", "p, Holm"):
        assert words in printed
    assert "2 episodes at each of 2 unseen hospitals" in printed
    asked = json.loads((tmp_path / "e" / "evaluation.json").read_text())["asked"]
    assert (asked["shots"], asked["steps"]) == ([1, 10], [0, 2])


def test_json_is_the_file_and_lies_in_the_result(
    result: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "run"
    shutil.copytree(result, own)
    assert call("evaluate", "--shots", "10", "--steps", "2", own, *QUICK, "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (place,) = (own / "evaluations").iterdir()
    assert printed.out == (place / "evaluation.json").read_text()


def test_from_python(result: Path, tmp_path: Path) -> None:
    found = mw.open(result).evaluate(
        episodes=4, shots=[10], steps=[2], baselines=["scratch"], out=tmp_path / "e", jobs=1
    )
    table = found["tables"][0]
    assert [one["learner"] for one in table["learners"]] == ["reptile", "from scratch"]
    assert (tmp_path / "e" / "evaluation.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shots", "five"), "'five' is no whole number; write --shots 1 5 10"),
        (("--hospitals", "train"), "'train' is not one of 'unseen', 'validation'"),
        (("--jobs", "0"), "--jobs: 0 is refused"),
        (("--baselines", "fedag"), "did you mean fedavg?"),
    ],
)
def test_bad_input_is_one_line(
    result: Path,
    tmp_path: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert call("evaluate", result, *arguments, "--out", tmp_path / "e") == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert not (tmp_path / "e").exists()


def test_a_run_that_cannot_be_judged_is_named(
    result: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", tmp_path / "none") == 2
    assert "holds no run" in capsys.readouterr().err
    own = tmp_path / "run"
    shutil.copytree(result, own)
    Folder(own).set_status("interrupted", "stopped by the user")
    assert call("evaluate", own) == 2
    assert "the run is interrupted (stopped by the user), not finished" in capsys.readouterr().err
    Folder(own).set_status("finished")
    (own / "theta.safetensors").write_bytes(b"cut")
    assert call("evaluate", own) == 2
    assert "theta.safetensors is damaged" in capsys.readouterr().err
    (own / "theta.safetensors").unlink()
    assert call("evaluate", own) == 2
    assert "theta.safetensors is missing; put a copy back" in capsys.readouterr().err
    Folder(own).begin(simulated=False, code="x")
    assert call("evaluate", own) == 2
    assert "the run was deployed" in capsys.readouterr().err
