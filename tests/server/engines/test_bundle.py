"""The bundle that goes to every hospital: the app, all of it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from metaward import sim

CODE = ("client", "metaward", "privacy", "server", "strategies")
TOP = {"LICENSE", "pyproject.toml", "sim.yaml"}
SOURCES = (
    *CODE,
    "configs",
    "policies",
    "tests",
    "docs",
    *TOP,
    "README.md",
    ".gitignore",
    "Makefile",
)
STRAY = (
    "data/heart/patients.json",
    "results/run/config.json",
    "notes.md",
    "client/records.csv",
    "client/records.json",
    "server/test_secret.py",
    ".env",
)
MAX_BYTES = 1_900_000
LOAD = """
import json, sys
from pathlib import Path
import metaward.client.app as client, metaward.server.app as server
from metaward import sim
from flwr.cli.config_utils import load_and_validate
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.supercore.object_ref import load_app
home = Path(sys.argv[1])
config, warnings = load_and_validate(home / "pyproject.toml", check_module=True)
named = config["tool"]["flwr"]["app"]["components"]
assert isinstance(load_app(named["clientapp"], RuntimeError, home), ClientApp)
assert isinstance(load_app(named["serverapp"], RuntimeError, home), ServerApp)
runs = [sim.load(path).name for path in [sim.DEFAULT, *sorted(home.glob("configs/*.yaml"))]]
files = [module.__file__ for module in (client, server, sim)]
print(json.dumps({"files": files, "runs": runs, "warnings": warnings}))
"""


def checkout(path: Path) -> Path:
    """A copy of this checkout, with files in it that must never leave."""
    for name in SOURCES:
        source = sim.HERE / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, path / name, ignore=ignore, symlinks=True)
        elif source.exists():
            path.mkdir(exist_ok=True)
            shutil.copy(source, path / name)
    for name in STRAY:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text('{"patient": "private"}')
    return path


def build(app: Path, into: Path) -> Path:
    flwr = Path(sys.executable).parent / "flwr"
    env = {"FLWR_HOME": str(into), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    into.mkdir()
    command = [flwr, "build", "--app", app]
    done = subprocess.run(command, cwd=into, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    (found,) = into.glob("*.fab")
    return found


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("app") / "metaward")


@pytest.fixture(scope="module")
def bundle(app: Path) -> Path:
    return build(app, app.parent / "built")


def test_it_holds_the_app_and_nothing_else(app: Path, bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as zipped:
        names = set(zipped.namelist())
    code = {
        path.relative_to(sim.HERE).as_posix()
        for folder in CODE
        for path in (sim.HERE / folder).rglob("*.py")
        if not path.is_relative_to(sim.HERE / "server" / "deploy")
    }
    files = {
        folder: {f"{folder}/{path.name}" for path in (sim.HERE / folder).glob("*.yaml")}
        for folder in ("configs", "policies")
    }
    templates = {
        path.relative_to(sim.HERE).as_posix()
        for folder in ("client/models/fused", "privacy/report", "server/page")
        for path in (sim.HERE / folder).glob("*.md")
    }
    assert all(files.values())
    assert len(templates) >= 8
    assert names == code.union(*files.values()) | TOP | templates | {".info/CONTENT"}
    assert all((app / name).exists() for name in STRAY)


def test_it_is_small(bundle: Path) -> None:
    assert bundle.stat().st_size < MAX_BYTES


def test_one_source_has_one_hash(app: Path, bundle: Path) -> None:
    again = build(app, app.parent / "again")
    assert again.name == bundle.name
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle, again)}
    assert len(digests) == 1


def test_flower_loads_both_apps_from_it(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with zipfile.ZipFile(bundle) as zipped:
        zipped.extractall(home)
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(home)],
        cwd=elsewhere,
        env={"PYTHONPATH": str(home), "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(home) for file in found["files"]), found["files"]
    assert found["warnings"] == []
    assert sim.load(sim.DEFAULT).name in found["runs"]
