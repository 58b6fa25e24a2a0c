"""The start of a run: the machine is checked, a result folder made, and the engine called."""

from __future__ import annotations

from pathlib import Path

from metaward.client.errors import NodeError
from metaward.client.node import check_device
from metaward.options import ConfigError
from metaward.server import body, events, meter
from metaward.server.engines import ENGINES, flower
from metaward.server.engines.cluster import check as cluster
from metaward.server.folder import Folder, claimed
from metaward.server.inputs import changes, inputs_of
from metaward.server.run import Observer
from metaward.sim import Sim, data_root
from metaward.strategies.quorum import QuorumError
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
    inputs = inputs_of(run)
    body.check(run)
    machines = cluster.check(run)
    folder = claimed(run, out)
    folder.note(inputs | ({"machines": machines} if machines else {}))
    return folder


def unfinished(path: Path) -> tuple[Sim, Folder]:
    """The run in a folder, and the folder, if the run can be resumed; ``ConfigError`` otherwise,
    and where its configuration or its records are not those that it began with."""
    folder = Folder(path)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    if folder.status()[0] == "finished":
        raise ConfigError(["this run is finished; there is nothing to resume"], str(path))
    run = folder.config()
    check_machine(run)
    if changed := changes(folder.about(), inputs_of(run)):
        raise ConfigError(changed, str(path))
    if machines := cluster.check(run, anew=False):
        folder.note({"machines": machines})
    return run, folder


def execute(run: Sim, folder: Folder, observe: Observer) -> None:
    """Carry out the run; the hospitals' last log lines are added to errors that they cause."""
    try:
        with events.observing(run, folder, observe) as everyone:
            ENGINES[run.server.engine](run, folder, everyone)
    except (QuorumError, RosterError) as error:
        error.add_note("".join(folder.hospital_lines(last=LAST_LINES)))
        raise


def check_machine(run: Sim) -> None:
    """``ConfigError`` for a wrong data folder, a missing package or GPU, or what the engine cannot
    do; nothing is written yet."""
    data_root(run)
    events.check(run)
    meter.check(run)
    try:
        check_device(run.server.device)
    except NodeError as error:
        raise ConfigError([f"server.{error}"]) from error
    if run.server.engine == "flower":
        flower.check(run)
