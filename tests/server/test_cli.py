"""The command as its user types it: exit codes, messages, JSON, and a README that knows it all."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metaward.server.cli import COMMANDS, main
from metaward.server.late import LateCommand
from tests.server.small import small

README = Path(__file__).parents[2] / "README.md"


def metaward(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["metaward", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(small("server.rounds=2").mapping()))
    return path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: metaward(*map(str, arguments), monkeypatch=monkeypatch)


def test_run_prints_the_table_and_says_what_is_not_protected(
    call: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", config, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    for word in ("reptile", "from scratch", "FedAvg + fine-tune", "NO PRIVACY", str(tmp_path)):
        assert word in printed.out
    assert call("resume", tmp_path / "out") == 2
    assert "finished" in capsys.readouterr().err


def test_json_is_for_programs(
    call: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("--set", "seed=11", "--engine", "inprocess")
    assert call("run", config, "--out", tmp_path / "out", "--json", *settings) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["seed"] == 11
    assert printed.err == ""


def test_a_second_run_never_overwrites_the_first(
    call: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", config, "--out", tmp_path / "out") == 0
    before = (tmp_path / "out" / "result.json").read_bytes()
    assert call("run", config, "--out", tmp_path / "out") == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "out" / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("client.inner.stpes=3", ["client.inner.stpes", "did you mean steps?"]),
        ("client.inner.lr=fast", ["client.inner.lr", "'fast'"]),
        ("privacy.mechanism=gausian", ["privacy.mechanism", "'gausian'", "none"]),
        ("strategies.hospitals_per_round=9", ["hospitals_per_round: 9", "4 training hospitals"]),
        ("server.device=cuda", ["server.device", "cuda"]),
        ("server.device=tpu", ["server.device", "'tpu'"]),
        ("nonsense", ["nonsense", "section.key=value"]),
        ("data.root=/no/such/folder", ["data.root", "/no/such/folder", "METAWARD_DATA"]),
    ],
)
def test_bad_input_starts_nothing_and_says_why(
    call: Any,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    words: list[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call("run", config, "--out", tmp_path / "out", "--set", setting) == 2
    printed = capsys.readouterr()
    assert all(word in printed.err for word in words), printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "out").exists()


def test_missing_data_is_named_before_any_round(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAWARD_DATA", raising=False)
    heart = README.parent / "configs" / "heart.yaml"
    out = tmp_path / "out"
    assert call("run", heart, "--out", out, "--set", "server.workers=1") == 2
    printed = capsys.readouterr().err
    assert printed.count("processed.cleveland.data") == 1, "once, however many hospitals miss it"
    assert "METAWARD_DATA" in printed
    assert not out.exists(), "nothing was started"


def test_a_damaged_data_file_is_named_before_any_round(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "omniglot").mkdir(parents=True)
    (tmp_path / "data" / "omniglot" / "omniglot28.npz").write_bytes(b"PK\x03\x04 cut short")
    omniglot = README.parent / "configs" / "omniglot.yaml"
    settings = ("--set", f"data.root={tmp_path}/data", "--set", "server.workers=1")
    assert call("run", omniglot, "--out", tmp_path / "out", *settings) == 2
    assert capsys.readouterr().err.count("omniglot28.npz") == 1
    assert not (tmp_path / "out").exists()


def test_a_delta_that_promises_nothing_is_named_before_any_round(
    call: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = "privacy={mechanism: sums, delta: 0.009, epsilon: 1}"
    settings = ("--set", private, "--set", "client.schedule=passes")
    assert call("run", config, "--out", tmp_path / "out", *settings) == 2
    assert "0.009 is not below 1 / 2500" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_data_folder_of_a_user_of_whom_there_is_none(
    call: Any, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", config, "--set", "data.root=~nobody-of-this-name/x") == 2
    assert "'~nobody-of-this-name/x'" in capsys.readouterr().err


def test_resume_of_a_folder_without_a_run(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("resume", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_name_that_the_terminal_cannot_spell_is_spelled_out(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a finished run would end with a traceback where its folder is called so."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii"))
    assert call("resume", "é") == 2
    sys.stderr.flush()
    assert b"\\xe9: holds no run" in written.getvalue()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_schedulers_and_closed_terminals_end_a_command_as_ctrl_c_does(
    call: Any, ending: signal.Signals
) -> None:
    before = signal.signal(ending, signal.SIG_DFL)
    try:
        assert call("resume", "nowhere") == 2
        assert signal.getsignal(ending) is signal.default_int_handler
        signal.signal(ending, signal.SIG_IGN)  # as nohup does
        assert call("resume", "nowhere") == 2
        assert signal.getsignal(ending) is signal.SIG_IGN
    finally:
        signal.signal(ending, before)


def test_tasks_show(call: Any, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "show", config, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    roster = small().client.tasks.roster()
    assert [(r["hospital"], r["role"]) for r in rows] == [(s.name, s.role) for s in roster]
    assert all(r["records"] > 0 for r in rows)
    assert call("tasks", "show", config) == 0
    assert roster[0].name in capsys.readouterr().out


def test_phantom_writes_files_that_medmnist_reads(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [
        f"--set=client.tasks.{k}"
        for k in ("hospitals=2", "unseen=2", "records=300", "modalities=[ct, mri]")
    ]
    assert call("phantom", tmp_path, *few) == 0
    written = capsys.readouterr().out.split()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(Path(p).name for p in written)
    mapping = small().mapping()
    mapping["data"]["root"] = str(tmp_path)
    mapping["client"]["tasks"] = {
        "source": "medmnist",
        "datasets": ["phantomct", "phantommri"],
        "hospitals": 2,
        "unseen": 2,
        "ways": 3,
    }
    mapping["strategies"]["hospitals_per_round"] = None
    (tmp_path / "run.yaml").write_text(json.dumps(mapping))
    assert call("tasks", "show", tmp_path / "run.yaml", "--json") == 0
    records = [row["records"] for row in json.loads(capsys.readouterr().out)]
    assert 1000 < sum(records) <= 4 * 300  # the validation split is not dealt to anybody
    assert call("phantom", tmp_path, "--config", tmp_path / "run.yaml") == 2
    assert "must be phantom" in capsys.readouterr().err


def test_unknown_options_are_bad_input(call: Any) -> None:
    assert call("run", "--bogus") == 2


def test_every_command_and_option_stands_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    names = {"tasks show", *COMMANDS} - {"tasks"}
    assert names >= {"run", "resume", "phantom", "tasks show"}
    for name in names:
        assert f"metaward {name}" in text, f"README does not mention metaward {name}"
    run = LateCommand("run", COMMANDS["run"]).load()
    options = {o for p in run.params for o in p.opts if o.startswith("--")}
    assert options >= {"--set", "--engine", "--out", "--json"}
    for option in options:
        assert option in text, f"README does not mention {option}"


def test_the_installed_command_starts() -> None:
    command = Path(sys.executable).with_name("metaward")
    found = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "run" in found.stdout


def test_a_typo_gets_one_suggestion(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("privacy", "plam") == 2
    assert capsys.readouterr().err.count("Did you mean") == 1


def test_report_says_what_is_wrong(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err
