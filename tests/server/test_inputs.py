"""What a run begins with: the same again where it goes on, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metaward import sim
from metaward.options import ConfigError
from metaward.server.example import write_example
from metaward.server.folder import Folder
from metaward.server.inputs import changes, inputs_of
from metaward.server.start import new_folder, unfinished
from tests.server.small import small


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A federation whose records are arrays in files."""
    return write_example(tmp_path / "own", "arrays")


def begun(file: Path, out: Path) -> Folder:
    """A result folder whose run was stopped before its first round."""
    return new_folder(sim.load(file), out)


def test_the_same_files_are_taken(own: Path, tmp_path: Path) -> None:
    folder = begun(own, tmp_path / "out")
    roster = [seat.name for seat in sim.load(own).client.tasks.roster()]
    assert list(folder.about()["records"]) == roster
    assert len(set(folder.about()["records"].values())) == len(roster)
    run, same = unfinished(folder.path)
    assert same.about() == folder.about()
    assert run.mapping() == sim.load(own).mapping()


def moved(archive: dict[str, np.ndarray]) -> None:
    archive["x"][0] += 1


def relabelled(archive: dict[str, np.ndarray]) -> None:
    archive["y"][:2] = archive["y"][1::-1]


def renamed(archive: dict[str, np.ndarray]) -> None:
    archive["id"] = archive["id"][::-1]


def another_patient(archive: dict[str, np.ndarray]) -> None:
    archive["patient"] = archive["patient"][::-1]


@pytest.mark.parametrize("change", [moved, relabelled, renamed, another_patient])
def test_other_records_are_refused_with_the_hospitals_name(
    change: Callable[[dict[str, np.ndarray]], None], own: Path, tmp_path: Path
) -> None:
    folder = begun(own, tmp_path / "out")
    name = list(folder.about()["records"])[1]
    path = own.parent / name / "records.npz"
    with np.load(path) as file:
        archive = {key: file[key].copy() for key in file.files}
    change(archive)
    np.savez(path, **archive)
    with pytest.raises(ConfigError, match=f"{name}: the records are not those"):
        unfinished(folder.path)


def test_a_configuration_that_was_edited_before_the_first_checkpoint_is_refused(
    tmp_path: Path,
) -> None:
    folder = new_folder(small(), tmp_path / "out")
    config = json.loads((folder.path / "config.json").read_text())
    config["server"]["rounds"] += 1
    (folder.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="not the configuration that the run began with"):
        unfinished(folder.path)


def test_of_made_up_records_one_hospital_is_looked_at() -> None:
    assert len(inputs_of(small())["records"]) == 1


def test_a_folder_of_an_older_version_says_nothing() -> None:
    assert changes({"id": "1"}, {"config": "a", "records": {"north": "b"}}) == []
