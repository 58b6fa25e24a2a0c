"""The guards of a deployment on this machine: their settings, and waiting until they answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from metaward.client.guarding.door import is_open
from metaward.files import write_private
from metaward.server.deploy.layout import HospitalFiles, Site
from metaward.server.deploy.supervisor import Supervised
from metaward.server.engines.follow import EngineError, with_log

HEAD = "# The guard of {name}, written anew by every metaward deploy up --local.\n"
LOOK_SECONDS = 0.1
STARTS = 3
"""A guard that ended so often before it has ever answered will not answer at another start."""


def guarded(hospitals: Sequence[HospitalFiles], sockets: Path) -> list[HospitalFiles]:
    """The same hospitals with a guard each, whose sockets are in the folder ``sockets``.

    The name of a socket can be 100 bytes long at most, so that folder's must be short.
    """
    found = [replace(one, socket=sockets / f"{one.index}.sock") for one in hospitals]
    for hospital in found:
        settings = {"socket": str(hospital.socket), "node": hospital.own}
        text = HEAD.format(name=hospital.name) + yaml.safe_dump(settings, allow_unicode=True)
        write_private(hospital.guard, text.encode())
    return found


def await_guards(
    site: Site, hospitals: Sequence[HospitalFiles], guards: Sequence[Supervised], deadline: float
) -> None:
    """Wait until every guard answers, and start ended ones again meanwhile.

    ``guards`` are those of ``hospitals``, in the same order. ``EngineError`` names one that does
    not answer by the deadline, or has ended so often that it never will, and what it said.
    """
    while missing := [
        (one, guard)
        for one, guard in zip(hospitals, guards, strict=True)
        if one.socket and not is_open(one.socket)
    ]:
        given_up = [one for one, guard in missing if guard.starts > STARTS]
        if given_up or time.monotonic() >= deadline:
            name = (given_up or [missing[0][0]])[0].name
            text = f"the guard of {name} does not answer"
            raise EngineError(with_log(text, site.log(f"{name}.guard")))
        for guard in guards:
            guard.look()
        time.sleep(LOOK_SECONDS)
