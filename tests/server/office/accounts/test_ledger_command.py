"""`metaward ledger init | show | verify`, as a hospital's engineer types them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.event import Budget, gaussian
from metaward.privacy.ledger import BudgetSpent, Ledger
from tests.privacy.ledger.ledger_desk import vandal
from tests.server.office.privacy_desk import Call, caller, pay


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """Two rounds of 50 steps at sigma 10: record b in both, a and c in one; then refusals."""
    path = tmp_path / "north.sqlite"
    ledger = Ledger.create(path, "north", "an officer")
    pay(ledger, 1, "ab")
    pay(ledger, 2, "bc")
    with pytest.raises(BudgetSpent):
        pay(ledger, 3, "ab", budget=Budget(1.0, 1e-5))
    for _ in range(40):
        ledger.refuse("policy-clip", "clip 9 is above 1 [bold]\x1b[2J", "run-1", 3)
    ledger.refuse("bad-request", "no such purpose")
    return path


def shown(call: Call, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert call(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_init_makes_a_ledger_and_says_what_to_put_where(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a folder" / "north.sqlite"
    path.parent.mkdir()
    assert call("ledger", "init", path, "--hospital", "north") == 0
    made, printed = Ledger.open(path), capsys.readouterr().out
    assert made.hospital == "north"
    assert made.id in printed
    line = next(line for line in printed.splitlines() if "--node-config" in line)
    flag, config = shlex.split(line)  # as a shell takes it, whatever the folder is called
    assert flag == "--node-config"
    assert f'ledger="{path}"' in config
    assert str(path) + ".key" in printed


def test_init_never_overwrites(call: Call, used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = used.read_bytes(), Path(f"{used}.key").read_bytes()
    assert call("ledger", "init", used, "--hospital", "north") == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (used.read_bytes(), Path(f"{used}.key").read_bytes()) == before


@pytest.mark.parametrize(
    ("name", "hospital", "words"),
    [("no/such/l.sqlite", "north", "cannot be made"), ("l.sqlite", "  ", "hospital is empty")],
)
def test_init_with_bad_input_leaves_nothing(
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    hospital: str,
    words: str,
) -> None:
    assert call("ledger", "init", tmp_path / name, "--hospital", hospital) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_show_tells_spend_and_rest(
    call: Call, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """b has paid twice 50 steps at sigma 10: mu = 1, epsilon 4.377178 and 3.138671 (known)."""
    found = shown(call, capsys, "ledger", "show", used)
    assert (found["hospital"], found["who"], found["entries"]) == ("north", "an officer", 27)
    assert found["units"] == {"record": 3}
    assert found["participations"] == 2
    assert found["mu"] == pytest.approx(1.0, rel=1e-9)
    (spent,) = found["spent"]
    assert (spent["delta"], spent["epsilon"]) == (1e-5, pytest.approx(4.377178, abs=1e-5))
    (budget,) = found["budgets"]
    assert budget == {"epsilon": 8.0, "delta": 1e-5, "left": pytest.approx(8 - 4.377178, abs=1e-5)}
    (run,) = found["runs"]
    assert (run["run"], run["charges"], run["replies"]) == ("run-1", 2, 2)
    assert run["protection"] == {"mechanism": "sums", "unit": "record"}
    assert found["protections"] == [run["protection"]]
    other = shown(call, capsys, "ledger", "show", used, "--delta", "1e-3")["spent"]
    assert [(s["delta"], s["epsilon"]) for s in other] == [
        (1e-3, pytest.approx(3.138671, abs=1e-5))
    ]


def test_show_counts_refusals(call: Call, used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 40 in a day the first 20 and the 32nd have a row: at least 32."""
    found = shown(call, capsys, "ledger", "show", used)["refusals"]
    assert [(r["code"], r["at_least"]) for r in found] == [("policy-clip", 32), ("bad-request", 1)]
    assert call("ledger", "show", used) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    for words in ("clip 9 is above 1 [bold]", "4.38", "3.62", "policy-clip", "3 record"):
        assert words in printed


def test_show_never_names_a_unit(
    call: Call, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for charge in Ledger.open(used).history().charges for name in charge.new]
    assert len(names) == 3
    for options in ([], ["--json"]):
        assert call("ledger", "show", used, *options) == 0
        printed = capsys.readouterr().out
        assert "patient-" not in printed
        assert not [name for name in names if name.partition(":")[2] in printed]


def test_show_of_an_unused_and_of_an_unprotected_ledger(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger.create(tmp_path / "l.sqlite", "north")
    assert call("ledger", "show", ledger.path) == 0
    assert "nothing was ever charged" in capsys.readouterr().out
    pay(ledger, 1, event=gaussian(0.0, 1), budget=None)
    assert call("ledger", "show", ledger.path) == 0
    printed = capsys.readouterr().out
    assert "NO PRIVACY" in printed
    assert "unlimited" in printed
    found = shown(call, capsys, "ledger", "show", ledger.path)
    assert found["spent"][0]["epsilon"] == found["mu"] == "unlimited"


@pytest.mark.parametrize("command", ["show", "verify"])
def test_wrong_paths_are_bad_input(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for path in (tmp_path / "none.sqlite", tmp_path):
        assert call("ledger", command, path) == 2
        assert "make one with `ledger init`, or correct the path" in capsys.readouterr().err


@pytest.mark.parametrize("delta", ["0", "1", "-1e-5", "nan"])
def test_a_delta_outside_its_range_is_bad_input(
    call: Call, used: Path, capsys: pytest.CaptureFixture[str], delta: str
) -> None:
    assert call("ledger", "show", used, "--delta", delta) == 2
    assert "--delta" in capsys.readouterr().err


def test_verify_of_a_sound_ledger(
    call: Call, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("ledger", "verify", used) == 0
    assert "27 entries" in capsys.readouterr().out
    assert shown(call, capsys, "ledger", "verify", used)["faults"] == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE entry SET body = CAST(body || ' ' AS BLOB) WHERE seq = 2", "row 2 was changed"),
        ("DELETE FROM entry WHERE seq = 4", "rows are missing"),
        ("UPDATE total SET count = 1", "table total"),
    ],
)
def test_verify_of_a_changed_ledger(
    call: Call, used: Path, capsys: pytest.CaptureFixture[str], statement: str, words: str
) -> None:
    vandal(used, statement)
    assert call("ledger", "verify", used) == 1
    assert words in capsys.readouterr().out
    assert call("ledger", "verify", used, "--json") == 1
    assert any(words in fault for fault in json.loads(capsys.readouterr().out)["faults"])


def test_a_file_that_is_no_ledger(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no database, but it is long enough to look at " * 20)
    for command in ("show", "verify"):
        assert call("ledger", command, path) == 1
        printed = capsys.readouterr()
        assert "not a ledger" in printed.out + printed.err
