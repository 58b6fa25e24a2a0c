"""What one machine of a cluster has: its code, its packages, its data, its device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metaward import sim
from metaward.client.node import check_device
from metaward.client.tasks.files import files_read
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.server.inputs import Inputs, inputs_of
from metaward.server.version import code_digest, code_version

PACKAGES = ("flwr", "numpy", "torch")
"""Packages whose version can change what a hospital answers; Ray compares its own and Python's."""
REMEDY = "bring this machine to the same commit and run: pip install --editable ."


@dataclass(frozen=True)
class MachineReport:
    """``code`` names the version and ``digest`` is the SHA-256 of all modules; ``packages`` has the
    versions of ``PACKAGES``; ``records`` the SHA-256 of each hospital's records and ``files`` that
    of each file that was read for them, by its place below the data folder; ``device`` is where
    hospitals compute. ``fault`` says what is missing on this machine; "" where nothing is."""

    code: str
    digest: str
    packages: Mapping[str, str]
    records: Mapping[str, str]
    files: Mapping[str, str]
    device: str
    fault: str = ""

    def differs(self, here: MachineReport) -> Iterator[str]:
        """What another machine has otherwise than this one (``here``), the cause before what it
        causes: records are not named where their files are."""
        if self.digest != here.digest:
            yield (
                f"has other code of metaward ({self.code}, SHA-256 {self.digest[:12]}; here "
                f"{here.code}, {here.digest[:12]}); {REMEDY}"
            )
        for name, one in self.packages.items():
            if one != here.packages[name]:
                yield f"has {name} {one}, and this machine has {here.packages[name]}; install it"
        if self.fault:
            yield self.fault
            return
        yield from self._data_differ(here)

    def _data_differ(self, here: MachineReport) -> Iterator[str]:
        others = [name for name, one in here.files.items() if self.files.get(name) != one]
        for name in others:
            found = self.files.get(name, "absent")[:12]
            yield (
                f"{name} is not the same file as here (SHA-256 {found}, here "
                f"{here.files[name][:12]}); copy this machine's there"
            )
        if others:
            return
        if more := sorted(set(self.files) - set(here.files)):
            yield f"{', '.join(more)} is read there and not here; remove it, or copy it to here"
        elif changed := [h for h, one in here.records.items() if self.records.get(h) != one]:
            yield f"{', '.join(changed)}: the records are not the same as here"


@dataclass(frozen=True)
class Surveyed:
    """A machine by its ``address``, and how many hospitals it can hold ``at_once``; ``report`` is a
    ``MachineReport`` as a mapping, or None with a ``fault``. One that holds none is not asked."""

    address: str
    at_once: int
    report: Mapping[str, Any] | None = None
    fault: str = ""


def machine_report(config: str) -> MachineReport:
    """Look at this machine, for a whole configuration in JSON. What is missing is in ``fault``."""
    with files_read() as files:
        try:
            run = sim.load_json(config)
            inputs: Inputs = inputs_of(run)
            root, device = sim.data_root(run), own_device()
        except ConfigError as error:
            return _report({}, {}, "", "; ".join(error.faults))
        except MetawardError as error:
            return _report({}, {}, "", str(error))
    return _report(inputs["records"], dict(_digests(files, root)), device)


def own_device() -> str:
    """The device of this machine's hospitals; ``NodeError`` where it has none of this name."""
    device = os.environ.get("METAWARD_DEVICE") or "cpu"
    check_device(device)
    return device


def _report(
    records: Mapping[str, str], files: Mapping[str, str], device: str, fault: str = ""
) -> MachineReport:
    versions = {name: version(name).partition("+")[0] for name in PACKAGES}
    return MachineReport(code_version(), code_digest(), versions, records, files, device, fault)


def _digests(files: set[Path], root: Path | None) -> Iterator[tuple[str, str]]:
    for path in sorted(path for path in files if path.is_file()):
        below = root is not None and path.resolve().is_relative_to(root)
        name = path.resolve().relative_to(root).as_posix() if root and below else str(path)
        with path.open("rb") as file:
            yield name, hashlib.file_digest(file, "sha256").hexdigest()
