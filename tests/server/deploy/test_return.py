"""A SuperNode that is killed comes back at once, with a real SuperLink; no run is carried out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaward import sim
from metaward.server.deploy.layout import Site, default_policy
from metaward.server.deploy.up import Deployment, deployment
from tests.server.deploy.live import wait_for

pytestmark = [pytest.mark.flower, pytest.mark.long, pytest.mark.timeout(900)]

NAME = "phantom-01"
SECONDS = 300.0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    settings = ["client.tasks.hospitals=1", "server.flower.startup_timeout=300"]
    run = sim.load(sim.HERE / "configs" / "deploy.yaml", settings)
    site = Site(tmp_path_factory.mktemp("return") / "dep")
    with deployment(run, site, default_policy(run), pause=1.0) as made:
        yield made


def connected(up: Deployment) -> int:
    """How often the hospital's SuperNode has connected."""
    up.look()
    log = up.site.log(NAME)
    return log.read_text().count("SuperNode ID: ") if log.exists() else 0


def test_a_killed_supernode_is_signed_off_and_comes_back_at_its_first_try(up: Deployment) -> None:
    """Without the sign-off every try within a minute would be refused."""
    wait_for(lambda: connected(up) == 1, SECONDS, "the SuperNode")
    os.kill(up.pids()[NAME], signal.SIGKILL)
    wait_for(lambda: connected(up) == 2, SECONDS, "its return")
    said = Path(up.site.log("supervisor")).read_text()
    assert f"{NAME}: its SuperNode was killed by SIGKILL (signal 9)" in said
    assert "the SuperLink takes it for disconnected" in said
    assert "could not connect" not in said
    assert f"{NAME}: start 2" in said
    assert f"{NAME}: start 3" not in said
