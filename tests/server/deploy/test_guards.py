"""Guards of a deployment on this machine: what is said of one that does not come."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from metaward.server.deploy.guards import await_guards
from metaward.server.deploy.layout import HospitalFiles, Site, default_policy, prepare
from metaward.server.deploy.supervisor import Supervised
from metaward.server.engines.follow import EngineError
from metaward.server.engines.processes import Launcher
from tests.server.small import small

FAILS = "echo 'error: policy-unreadable: epsilom: no such key'; exit 2"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    found.logs.mkdir()
    return found


@pytest.fixture
def north(site: Site, tmp_path: Path) -> HospitalFiles:
    return replace(site.hospitals(["north"])[0], socket=tmp_path / "s")


@pytest.fixture
def guard(request: pytest.FixtureRequest, site: Site) -> Iterator[Supervised]:
    """A guard that carries out a line of a shell instead."""
    launcher = Launcher(site.root, dict(os.environ), site.log("north.guard"))
    made = Supervised("north", launcher, lambda: ["sh", "-c", request.param], 0.05, lambda _: None)
    made.start()
    yield made
    made.end(time.monotonic())


@pytest.mark.parametrize("guard", ["echo 'error: no epsilom'; sleep 600"], indirect=True)
def test_a_guard_that_does_not_come_is_named_with_its_own_words(
    site: Site, north: HospitalFiles, guard: Supervised
) -> None:
    with pytest.raises(EngineError, match=r"guard of north does not answer(.|\n)*epsilom"):
        await_guards(site, [north], [guard], time.monotonic() + 2.0)


@pytest.mark.parametrize("guard", [FAILS], indirect=True)
def test_a_guard_that_ends_at_every_start_is_not_waited_for_to_the_deadline(
    site: Site, north: HospitalFiles, guard: Supervised
) -> None:
    with pytest.raises(EngineError, match=r"guard of north does not answer(.|\n)*epsilom"):
        await_guards(site, [north], [guard], time.monotonic() + 3600.0)


@pytest.mark.parametrize("guard", ["sleep 600"], indirect=True)
def test_a_guard_that_answers_is_waited_for(
    site: Site, north: HospitalFiles, guard: Supervised
) -> None:
    assert north.socket is not None
    with closing(socket.socket(socket.AF_UNIX)) as door:
        door.bind(str(north.socket))
        door.listen()
        await_guards(site, [north], [guard], time.monotonic() + 60.0)


def test_whoever_prepares_a_deployment_has_all_files_that_its_guards_need(tmp_path: Path) -> None:
    """The keys of the seats are made beforehand in `deploy up`; other callers may not do so."""
    site = Site(tmp_path / "dep")
    prepare(site, ["north"], default_policy(small()), None)
    (north,) = site.hospitals(["north"])
    named = {key: Path(str(value)) for key, value in north.own.items() if key != "partition-id"}
    missing = [key for key in ("policy", "ledger", "signing-key") if not named[key].is_file()]
    assert missing == []
