"""`metaward privacy show | verify` on the folders of a deployment: runs and ledgers are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaward.options import ConfigError
from metaward.privacy.ledger import Ledger
from metaward.server.deploy.layout import Site
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import places
from metaward.strategies.marks import SeenMark
from tests.server.office.privacy_desk import Call, caller, pay, private


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


class Deployed:
    """A deployment on this machine, of which two hospitals trained and one only judged."""

    def __init__(self, folder: Path) -> None:
        self.site, self.run = Site(folder / "dep"), Folder(folder / "elsewhere" / "run")
        self.run.create(private())
        with self.site.lock():
            self.site.remember(self.run)
        for files in self.site.hospitals(["sine-01", "sine-02", "unseen-01"]):
            files.folder.mkdir(parents=True)
            ledger = Ledger.create(files.ledger, files.name)
            if files.name.startswith("sine"):
                mark = pay(ledger, 1, run=f"{self.run.id}.reptile").mark
                self.run.marks().note([SeenMark(files.name, f"{self.run.id}.reptile", 1, mark)])

    @property
    def ledgers(self) -> list[Path]:
        return sorted((self.site.root / "hospitals").glob("*/ledger.sqlite"))


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


def shown(call: Call, capsys: pytest.CaptureFixture[str], *paths: object) -> list[str]:
    """The hospitals that ``show`` tells of."""
    assert call("privacy", "show", *paths, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return [account["hospital"] for account in found["hospitals"]]


@pytest.mark.parametrize("named", ["site", "run", "both"])
def test_either_folder_leads_to_the_run_and_its_ledgers(
    call: Call, deployed: Deployed, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"site": [deployed.site.root], "run": [deployed.run.path]}
    paths["both"] = [*paths["site"], *paths["run"]]
    found = places(paths[named])
    assert [ledger.resolve() for ledger in found.ledgers] == deployed.ledgers
    assert [run.path.resolve() for run in found.folders] == [deployed.run.path.resolve()]
    assert shown(call, capsys, *paths[named]) == ["sine-01", "sine-02", "unseen-01"]
    assert call("privacy", "verify", *paths[named]) == 0
    printed = capsys.readouterr().out
    assert "No fault: 3 ledgers" in printed
    assert "2 of the server's marks" in printed
    assert "unseen-01/ledger.sqlite: holds no charge, as at a hospital that only judges" in printed


def test_a_ledger_that_went_back_is_found_from_the_deployment_s_folder(
    call: Call, deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{deployed.run.id}.reptile"
    other = Ledger.create(deployed.site.root / "other.sqlite", "sine-01")
    later = [pay(other, number) for number in (1, 2, 3)][-1].mark
    first = Ledger.open(deployed.ledgers[0])
    forged = SeenMark("sine-01", name, 2, type(later)(first.id, later.sequence, later.head))
    deployed.run.marks().note([forged])
    assert call("privacy", "verify", deployed.site.root) == 1
    assert "went back" in capsys.readouterr().out


def test_etc_of_a_hospital_leads_to_its_ledger(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    etc, state = tmp_path / "etc", tmp_path / "var"
    for place in (etc, state / "gate"):
        place.mkdir(parents=True)
    (etc / "gate.yaml").write_text(f"folder: {state}/gate\nlisten: 1\n")
    pay(Ledger.create(state / "ledger.sqlite", "north"), 1)
    for named in (etc, state):
        assert shown(call, capsys, named) == ["north"]


def test_etc_of_a_server_leads_to_its_results(tmp_path: Path) -> None:
    etc, state = tmp_path / "etc/metaward", tmp_path / "var/lib/metaward"
    etc.mkdir(parents=True)
    (etc / "consortium.yaml").write_text(f"prefix: {tmp_path}\n")
    for name in ("first", "second"):
        Folder(state / "results" / name).create(private())
    for named in (etc, state, state / "results"):
        found = [run.path.name for run in places([named]).folders]
        assert found == ["first", "second"], named


def test_the_server_is_told_where_ledgers_lie(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Folder(tmp_path / "run").create(private())
    assert call("privacy", "show", tmp_path / "run") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "in a deployment ledgers lie at the hospitals" in said
    assert "/var/lib/metaward/ledger.sqlite" in said


def test_a_folder_with_nothing_says_where_was_looked(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(f"folder: {tmp_path}/far/gate\n")
    with pytest.raises(ConfigError) as caught:
        places([tmp_path])
    said = str(caught.value)
    assert "no run (config.json) and no ledger" in said
    assert f"is in {tmp_path} and {tmp_path}/far; name a result folder" in said
    with pytest.raises(ConfigError, match="is not there; name a result folder, a ledger file"):
        places([tmp_path / "nowhere"])


def test_a_run_that_was_moved_away_is_not_missed(deployed: Deployed) -> None:
    deployed.run.path.rename(deployed.run.path.with_name("gone"))
    with (deployed.site.root / "runs.jsonl").open("a") as file:
        file.write('{"result": "/cut sho\n[]\n')
    found = places([deployed.site.root])
    assert found.folders == ()
    assert len(found.ledgers) == 3
