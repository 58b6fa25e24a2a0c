"""A hospital's own side: where its files are, and whether its guard answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metaward.client.guarding.door import is_open
from metaward.client.guarding.relay import asked_about
from metaward.client.guarding.setting import GuardSetting
from metaward.server.deploy.doctor.finding import Finding
from metaward.server.version import code_version

UNITS = Path("/etc/systemd/system")
NAME = "guard.yaml"


def node_config(folder: Path) -> Mapping[str, object]:
    """Where policy, ledger and data are: as the guard's settings say, or the SuperNode's service.

    ``ConfigError`` where the guard's settings cannot be used.
    """
    path = folder / NAME
    if path.is_file():
        return GuardSetting.read(path).node
    units = [place / "metaward-node.service" for place in (folder, UNITS)]
    text = next((unit.read_text(encoding="utf-8") for unit in units if unit.is_file()), "")
    return dict(re.findall(r'([a-z-]+)="([^"]*)"', text))


def guard(folder: Path) -> Iterator[Finding]:
    """That the guard answers, with the version of metaward that is installed here."""
    path = folder / NAME
    if not path.is_file():
        text = "there is none: the SuperNode's account, which runs the server's code, reads records"
        yield Finding("guard", "doubtful", text, "metaward deploy init gives each hospital one")
        return
    place = Path(GuardSetting.read(path).socket)
    if not is_open(place):
        text = f"nobody answers at {place}"
        yield Finding("guard", "doubtful", text, "start it: systemctl start metaward-guard")
        return
    about = asked_about(place)
    if about.get("version") != code_version():
        text = f"{about.get('version')} answers at {place}, {code_version()} is installed"
        yield Finding("guard", "doubtful", text, "systemctl restart metaward-guard")
    else:
        yield Finding("guard", "good", f"it answers at {place}")
