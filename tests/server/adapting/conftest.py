"""A finished run on the made-up images of `metaward data example`, and a model adapted from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaward import sim
from metaward.server.adapting.adapt import AdaptedRun, Wish, adapt_run
from metaward.server.adapting.write import write_adapted
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.evaluations.finished import open_learned
from metaward.server.example import write_example
from metaward.server.folder import Folder

QUICK = (
    "server.workers=1",
    "server.evaluation.baselines=[]",
    "server.evaluation.episodes=2",
    "server.evaluation.final_episodes=2",
)
WISH = Wish(shots=5, steps=10, draws=3)


def ran(folder: Path, *settings: str, form: str = "images") -> Path:
    """The result folder of a run on a made-up consortium in ``folder``."""
    config = write_example(folder / "consortium", form)
    run, result = sim.load(config, [*QUICK, *settings]), Folder(folder / "run")
    result.create(run)
    run_inprocess(run, result, lambda row: None)
    return result.path


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``consortium`` and ``run``."""
    folder = tmp_path_factory.mktemp("adapting")
    ran(folder)
    return folder


@pytest.fixture(scope="package")
def made(place: Path) -> AdaptedRun:
    """The run adapted to the hospital west."""
    return adapt_run(open_learned(place / "run"), place / "consortium" / "west", WISH)


@pytest.fixture(scope="package")
def written(place: Path, made: AdaptedRun) -> Path:
    """Its files."""
    assert write_adapted(made, place / "model") == {}
    return place / "model"
