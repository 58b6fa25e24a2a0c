"""What is said of a machine that is not as this one, and how hospitals' files travel."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from metaward import sim
from metaward.client import away
from metaward.client.tasks.files import files_read
from metaward.options import ConfigError, compact
from metaward.privacy import Refusal, Release
from metaward.server.engines.cluster import address as addressing
from metaward.server.engines.cluster import check as checking
from metaward.server.engines.cluster.address import JOB, address, check_settings, driver
from metaward.server.engines.cluster.archive import Archive
from metaward.server.engines.cluster.machine_report import MachineReport, machine_report
from metaward.server.engines.cluster.survey import Surveyed
from metaward.server.example import write_example
from metaward.server.folder import Folder
from tests.client.bedside import RECORD, ask, request
from tests.server.small import small

FLOWER = ("server.engine=flower", "server.flower.cluster=head:6379")


@pytest.fixture
def consortium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sim.Sim:
    """A run on files of hospitals' own, in this machine's METAWARD_DATA."""
    write_example(tmp_path / "data", "table")
    monkeypatch.setenv("METAWARD_DATA", str(tmp_path / "data"))
    mapping = yaml.safe_load((tmp_path / "data" / "run.yaml").read_text())
    mapping["data"] = {"root": None}
    mapping["server"] |= {"engine": "flower", "flower": {"cluster": "head:6379"}}
    return sim.parse(mapping)


def said(there: MachineReport, here: MachineReport) -> str:
    return "\n".join(there.differs(here))


# ------------------------------------------------------------------------- one machine


def test_a_machine_with_the_same_code_and_data_has_no_fault(consortium: sim.Sim) -> None:
    here = machine_report(compact(consortium.mapping()))
    assert set(here.records) == {"north", "south", "east", "west"}
    assert set(here.files) == {f"{name}/records.csv" for name in here.records}
    again = machine_report(compact(consortium.mapping()))  # readers have them in their cache now
    assert again == here
    assert said(again, here) == ""


def test_a_file_that_differs_is_named_and_a_missing_one(
    consortium: sim.Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine_report(compact(consortium.mapping()))
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    monkeypatch.setenv("METAWARD_DATA", str(tmp_path / "other"))
    file = tmp_path / "other" / "south" / "records.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    words = said(machine_report(compact(consortium.mapping())), here)
    assert words.startswith("south/records.csv is not the same file as here")
    assert len(words.splitlines()) == 1, "nothing is said of what follows from it"
    file.unlink()
    words = said(machine_report(compact(consortium.mapping())), here)
    assert f"south: {file.parent} holds none of" in words


def test_made_up_records_that_differ_are_named() -> None:
    here = machine_report(compact(small().mapping()))
    assert here.files == {}
    other = replace(here, records=dict.fromkeys(here.records, "0" * 64))
    assert said(other, here) == "sine-01: the records are not the same as here"


def test_other_code_and_other_packages_are_named() -> None:
    here = machine_report(compact(small().mapping()))
    other = replace(here, digest="f" * 64, packages={**here.packages, "torch": "1.0"})
    first, second = other.differs(here)
    assert first.startswith("has other code of metaward")
    assert "ffffffffffff" in first
    assert second.startswith("has torch 1.0, and this machine has 2.")


def test_a_device_that_a_machine_lacks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAWARD_DEVICE", "cuda:77")
    assert "'cuda:77'" in machine_report(compact(small().mapping())).fault


# --------------------------------------------------------------------- the whole cluster


def checked(run: sim.Sim, monkeypatch: pytest.MonkeyPatch, *found: Surveyed, **options: Any) -> Any:
    monkeypatch.setattr(checking, "surveyed", lambda run, where: list(found))
    return checking.check(run, **options)


def one(where: str, **changes: Any) -> Surveyed:
    report = replace(machine_report(compact(small(*FLOWER).mapping())), **changes)
    return Surveyed(where, 2, vars(report))


def test_every_machine_with_a_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(*FLOWER)
    gone = Surveyed("10.0.0.4", 1, None, "metaward cannot be imported (ModuleNotFoundError)")
    with pytest.raises(ConfigError) as caught:
        checked(run, monkeypatch, one("10.0.0.2"), one("10.0.0.3", digest="0" * 64), gone)
    assert len(caught.value.faults) == 2
    assert caught.value.faults[0].startswith("machine 10.0.0.3: has other code")
    assert caught.value.faults[1].startswith("machine 10.0.0.4: metaward cannot be imported")
    good = checked(run, monkeypatch, one("10.0.0.2"), Surveyed("10.0.0.1", 0))
    assert good == [{"address": "10.0.0.2", "device": "cpu", "at_once": 2}]


def test_too_few_machines_are_a_fault_at_the_start_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(*FLOWER, "server.flower.machines=2")
    with pytest.raises(ConfigError, match="2 machines are wanted, and 1 can hold a hospital"):
        checked(run, monkeypatch, one("10.0.0.2"), Surveyed("10.0.0.1", 0))
    assert checked(run, monkeypatch, one("10.0.0.2"), anew=False)
    with pytest.raises(ConfigError, match="1 machines are wanted, and 0 can"):
        checked(run, monkeypatch, Surveyed("10.0.0.1", 0), anew=False)


def test_a_cluster_that_is_not_there_is_an_error_with_the_way_out() -> None:
    run = small("server.engine=flower", "server.flower.cluster=127.0.0.1:1")
    run = replace(
        run, server=replace(run.server, flower=replace(run.server.flower, startup_timeout=9))
    )
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1: cannot be used .* ray start --head"):
        checking.check(run)


def test_the_yaml_names_a_cluster_and_else_rays_own_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address(small("server.engine=flower")) is None
    monkeypatch.setenv("RAY_ADDRESS", "other:1")
    assert address(small("server.engine=flower")) == "other:1"
    assert address(small(*FLOWER)) == "head:6379"
    assert address(small("server.flower.cluster=head:6379")) is None, "the engine is inprocess"


def test_hospitals_are_told_that_they_simulate_and_never_where_data_lie(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    folder.create(small(*FLOWER))
    theirs = json.loads(driver(small(*FLOWER), "head:6379", folder)[JOB])["runtime_env"]["env_vars"]
    assert theirs["METAWARD_SIMULATION"] == str(folder.hospitals.resolve())
    assert not {"METAWARD_DATA", "METAWARD_DEVICE"} & theirs.keys()


def test_settings_of_one_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="METAWARD_DEVICE=cuda ray start"):
        check_settings(small(*FLOWER, "server.device=cuda"))
    own = SimpleNamespace(by="network", plugins=SimpleNamespace(registered={"only_here": None}))
    monkeypatch.setattr(addressing, "REGISTRIES", (own,))
    monkeypatch.setattr(addressing, "asked_plugins", lambda desk: ["network:only_here"])
    with pytest.raises(ConfigError, match="network:only_here: parts that a program registers"):
        check_settings(small(*FLOWER))


# ------------------------------------------------------------- the files of a hospital


class Caller:
    """Calls a method of the archive as Ray would, at once."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive in this process, and an environment as on a machine of a cluster."""
    names = [seat.name for seat in RECORD.client.tasks.roster()]
    made = Archive(str(tmp_path / "hospitals"), names, str(tmp_path / "log"))

    class Handle:
        fetch, put = Caller(made.fetch), Caller(made.put)

    monkeypatch.setenv(away.VARIABLE, "run")
    monkeypatch.setattr(away, "_archive", lambda: Handle)
    monkeypatch.setattr(away, "_asked", lambda found: found)
    return made


def test_a_hospital_that_is_away_answers_and_is_charged_as_at_home(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [request(round=number) for number in (1, 2)]
    away_from_home = [ask("train", one, simulation=str(tmp_path / "nowhere")) for one in rounds]
    again = ask("train", rounds[0], simulation=str(tmp_path / "nowhere"))
    monkeypatch.delenv(away.VARIABLE)
    at_home = [ask("train", one, simulation=str(tmp_path / "home")) for one in rounds]
    for there, here in zip([*away_from_home, again], [*at_home, at_home[0]], strict=True):
        assert isinstance(there, Release)
        assert isinstance(here, Release)
        assert (there.update == here.update).all()
        assert there.mark
        assert here.mark
        assert there.mark.sequence == here.mark.sequence
    assert not (tmp_path / "nowhere").exists()
    assert set(archive.fetch("run-1", 0)) == {"sine-01.sqlite", "sine-01.sqlite.key"}
    assert archive.fetch("run-1", 1) == {}, "another hospital's"


def test_of_two_processes_that_work_on_a_hospital_one_answers(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ask("train", request(), simulation="x"), Release)
    stored = archive.fetch("run-1", 0)
    late = archive.fetch
    monkeypatch.setattr(away, "_put_back", _overtaken(archive, away._put_back))
    assert ask("train", request(round=2), simulation="x") == Refusal("failed")
    assert late("run-1", 0) != stored, "the other one's files stay"


def _overtaken(archive: Archive, put_back: Callable[..., None]) -> Callable[..., None]:
    """Puts files back after another process has changed them."""

    def late(handle: Any, run: str, index: int, before: Any, after: Any) -> None:
        assert archive.put(run, index, away.digest(before), {**before, "0-x/note": b"other"})
        put_back(handle, run, index, before, after)

    return late


def test_files_that_are_read_are_known_only_within_the_block(consortium: sim.Sim) -> None:
    with files_read() as first:
        machine_report(compact(consortium.mapping()))
    assert first == set(), "an inner block has its own"


@pytest.mark.parametrize("first", ["metaward.server.app", "metaward.client.app"])
def test_flower_can_import_an_app_before_anything_else(first: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {first}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
