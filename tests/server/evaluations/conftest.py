"""One finished small run, judged by every test of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from tests.server.small import small


@pytest.fixture(scope="package")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two unseen hospitals, four final episodes each, own shots 10 and own steps 2."""
    run, folder = small("server.rounds=2"), Folder(tmp_path_factory.mktemp("judged") / "run")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    return folder.path
