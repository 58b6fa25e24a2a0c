"""The start of a run: the machine is checked, a result folder made, and the engine called."""

from __future__ import annotations

from pathlib import Path

from metaward.client.errors import DataError, NodeError
from metaward.client.node import check_device
from metaward.client.work import check_promise, open_hospital
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.privacy.asked import PolicyError
from metaward.server import body
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder, claimed
from metaward.server.run import Observer
from metaward.sim import Sim, data_root
from metaward.strategies.meta import QuorumError
from metaward.strategies.roster import RosterError

LAST_LINES = 5


def new_folder(run: Sim, out: Path | None) -> Folder:
    """A result folder for a run that this machine can do: ``out``, or a new one under
    ``server.out``.

    ``ConfigError`` where the machine or a hospital's data lack something, or the body to start from
    does not fit;
    ``FolderTakenError`` where ``out`` holds a run or files of such names.
    """
    check_machine(run)
    check_data(run)
    body.check(run)
    return claimed(run, out)


def unfinished(path: Path) -> tuple[Sim, Folder]:
    """The run in a folder, and the folder, if the run can be resumed; ``ConfigError`` otherwise."""
    folder = Folder(path)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    if folder.status()[0] == "finished":
        raise ConfigError(["this run is finished; there is nothing to resume"], str(path))
    run = folder.config()
    check_machine(run)
    check_data(run)
    return run, folder


def execute(run: Sim, folder: Folder, observe: Observer) -> None:
    """Carry out the run; the hospitals' last log lines are added to errors that they cause."""
    try:
        ENGINES[run.server.engine](run, folder, observe)
    except (QuorumError, RosterError) as error:
        error.add_note("".join(folder.hospital_lines(last=LAST_LINES)))
        raise


def check_machine(run: Sim) -> None:
    """``ConfigError`` for a wrong data folder or a missing GPU, before anything is written."""
    data_root(run)
    try:
        check_device(run.server.device)
    except NodeError as error:
        raise ConfigError([f"server.{error}"]) from error


def check_data(run: Sim) -> None:
    """``ConfigError`` for records that cannot be opened, or that the guarantee says nothing about.

    Records that are made up are not all made here: nothing about them can be missing.
    """
    root, seats = data_root(run), run.client.tasks.roster()
    try:
        _open(run, 0, None)
        hospitals = seats[:1]
    except MetawardError:
        hospitals = seats
    faults: dict[str, list[str]] = {}
    for index, seat in enumerate(hospitals):
        try:
            _open(run, index, root)
        except (DataError, PolicyError) as error:
            faults.setdefault(str(error), []).append(seat.name)
    if faults:
        raise ConfigError([f"{', '.join(names)}: {text}" for text, names in faults.items()])


def _open(run: Sim, index: int, root: Path | None) -> None:
    hospital = open_hospital(run.client.tasks, index, root, run.seed)
    if hospital.seat.role == "train":
        check_promise(run.privacy, hospital)
