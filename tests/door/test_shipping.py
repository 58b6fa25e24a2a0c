"""Registered parts reach the processes of a simulation, by two ways only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import metaward as mw
from metaward.client import guard, shipping
from metaward.client.desk import NETWORK
from metaward.errors import InputError
from metaward.sim import HERE
from tests.door.own import configuration, register_all

SCRIPT = """
import beside
import metaward as mw
beside.register_all()
result = mw.run(mw.load(beside.configuration(workers=2)), "out")
assert result.status == "finished"
print("learned", result.theta.shape)
"""


def python(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def program(folder: Path) -> Path:
    """A script, a module beside it, and files whose names are those of ours, in a folder."""
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    own = Path(__file__).with_name("own.py").read_text(encoding="utf-8")
    (folder / "beside.py").write_text(own, encoding="utf-8")
    for name in ("client", "server", "sim", "options", "privacy", "strategies", "plugins"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not ours')\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result folder of the script on the in-process engine."""
    folder = program(tmp_path_factory.mktemp("program"))
    done = python("script.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "learned (57,)\n", "the script ran once"
    return folder / "out"


def test_a_plain_script_runs_with_worker_processes(run: Path) -> None:
    """No ``if __name__ == "__main__"``; own parts in a file beside it; other files in the way."""
    assert "refused" not in (run / "hospitals.log").read_text(encoding="utf-8")


NAMED = """
from __future__ import annotations
from typing import Annotated
from pydantic import Field
import torch
import metaward as mw
Width = Annotated[int, Field(ge=1)]

@mw.register.network("named")
class Named(torch.nn.Module):
    def __init__(self, input_shape: tuple[int, ...], width: Width = 16) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[0], width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))
"""


def test_types_that_only_the_script_names_reach_a_worker(tmp_path: Path) -> None:
    """Without a guard, and with annotations as texts: a worker knows none of the script's names."""
    pack = "from metaward.client import shipping; open('packed', 'wb').write(shipping.packed())\n"
    (tmp_path / "script.py").write_text(NAMED + pack, encoding="utf-8")
    assert python("script.py", cwd=tmp_path).returncode == 0
    worker = (
        "from pathlib import Path; from metaward.client import shipping\n"
        "shipping.unpack(Path('packed').read_bytes())\n"
        "from metaward import register; print(register.names()['network'])\n"
    )
    done = python("-c", worker, cwd=tmp_path)
    assert done.stdout == "['named']\n", done.stderr


@pytest.mark.flower
def test_the_same_script_on_flowers_runtime(tmp_path: Path) -> None:
    script = program(tmp_path) / "script.py"
    flower = SCRIPT.replace("workers=2", "workers=1, engine='flower'")
    script.write_text(flower, encoding="utf-8")
    done = python("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "learned (57,)\n"


# ------------------------------------------------------------------------------ what is packed


def test_nothing_is_packed_where_nothing_is_registered() -> None:
    assert shipping.packed() == b""
    shipping.unpack(b"")


def test_what_is_packed_is_registered_elsewhere(tmp_path: Path) -> None:
    register_all()
    (tmp_path / "packed").write_bytes(shipping.packed())
    script = (
        "import sys; from pathlib import Path; from metaward.client import shipping\n"
        "shipping.unpack(Path('packed').read_bytes())\n"
        "from metaward import register; print(register.names())\n"
        "print('tests.door.own' in sys.modules, 'metaward.server' in sys.modules)\n"
    )
    done = python("-c", script, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "{'source': ['clinics'], 'network': ['small'], 'algorithm': ['slower'], 'mechanism': [], "
        "'function': [], 'metric': []}",
        "False False",
    ], done.stderr


# -------------------------------------------------------------------------------- who reads it


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the flower engine leaves for its processes, and nothing registered in this one."""
    mw.register.network("left", lambda shape: None)  # type: ignore[arg-type, return-value]
    path = tmp_path / "plugins"
    shipping.write(path)
    assert NETWORK.plugins is not None
    NETWORK.plugins.registered.clear()
    NETWORK.plugins.entries.clear()
    monkeypatch.setenv(shipping.VARIABLE, str(path))
    shipping.receive.cache_clear()
    yield path
    shipping.receive.cache_clear()


SIMULATED = {"simulation": "/tmp"}


def test_a_simulated_hospital_reads_it(written: Path) -> None:
    assert written.stat().st_mode & 0o777 == 0o600
    guard.admit_plugins(SIMULATED, [])
    assert mw.register.names()["network"] == [], "not before it is needed"
    guard.admit_plugins(SIMULATED, ["network:left"])
    assert mw.register.names()["network"] == ["left"]


@pytest.mark.parametrize("config", [{"policy": "p.yaml"}, {"ledger": "a"}, {}])
def test_a_hospital_of_its_own_does_not(
    config: dict[str, str], written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METAWARD_SIMULATION", raising=False)
    with pytest.raises(mw.MetawardError, match="policy-missing"):
        guard.admit_plugins(config, ["network:left"])
    if config:  # a policy rules out a simulation, whatever else is said
        with pytest.raises(mw.MetawardError, match="policy-missing"):
            guard.admit_plugins(config | SIMULATED, ["network:left"])
    assert mw.register.names()["network"] == []


def test_a_file_that_others_could_write_is_not_read(written: Path) -> None:
    written.chmod(0o660)
    with pytest.raises(InputError, match="not private to this user"):
        shipping.receive()
    assert mw.register.names()["network"] == []


def test_it_is_written_anew_only(written: Path) -> None:
    with pytest.raises(FileExistsError):
        shipping.write(written)


def test_a_result_folder_is_no_place_for_code(run: Path) -> None:
    """Who opens somebody's results does not run their code: parts are registered anew."""
    held = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in held if b"cloudpickle" in path.read_bytes()]
    found = mw.open(run)
    assert found.table
    with pytest.raises(mw.ConfigError, match="unknown 'clinics'"):
        found.adapt([[0.0] * 5], ["a"])
    register_all()
    assert mw.open(run).run.client.inner.part == 0.5  # type: ignore[attr-defined]


def test_configurations_name_what_is_registered_only() -> None:
    with pytest.raises(mw.ConfigError, match=r"client\.tasks\.source: unknown 'clinics'"):
        mw.load(configuration())
