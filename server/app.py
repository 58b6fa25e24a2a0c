"""The Flower ServerApp, and ``conduct``, with which every engine carries out a run.

Run configuration (all text): ``sim-file`` names a yaml file, relative to the app; ``sim-json`` is a
whole configuration and wins over it; ``out`` is the result folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from metaward import sim
from metaward.client import away, shipping
from metaward.server import body
from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder, claimed, now
from metaward.server.meter import metered
from metaward.server.office.report.write import write_ended, write_finished
from metaward.server.page.write import write_page
from metaward.server.report import write_reports
from metaward.server.run import Observer, Run
from metaward.server.stored import Status
from metaward.server.version import code_version

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry point."""
    from metaward.server.engines.careful_grid import careful  # here: the engines import conduct

    config = context.run_config
    simulated = bool(os.environ.get("METAWARD_SIMULATION"))
    if simulated:
        shipping.receive()
    text = str(config.get("sim-json") or "")
    run = sim.load_json(text) if text else sim.load(sim.HERE / str(config["sim-file"]))
    out = str(config.get("out") or "")
    folder = Folder(Path(out)) if out else None
    if folder is None or not folder.exists():
        body.check(run)
        folder = claimed(run, Path(out) if out else None)

    def show(row: Mapping[str, Any]) -> None:
        print(json.dumps(row), flush=True)

    bundle = grid.run.fab_hash  # what a hospital's gate computes of the bytes that it lets in
    with _archive(run, folder):
        conduct(run, careful(grid), folder, show, simulated, bundle)
    print(f"metaward: results in {folder.path.resolve()}")


TOLD_TO_END = "the server's process was told to end, as by SIGTERM"


def _archive(run: sim.Sim, folder: Folder) -> AbstractContextManager[None]:
    """On a cluster the hospitals' files are handed out from here."""
    if away.VARIABLE not in os.environ:
        return nullcontext()
    from metaward.server.engines.cluster.archive import at_the_run  # here: engines import this file

    names = [seat.name for seat in run.client.tasks.roster()]
    return at_the_run(folder, names, run.server.flower.startup_timeout)


def conduct(
    run: sim.Sim,
    grid: Grid,
    folder: Folder,
    observe: Observer,
    simulated: bool,
    bundle: str = "",
) -> None:
    """Carry out a run; its folder has the right status afterwards, whatever happens.

    ``bundle`` is the SHA-256 of the bundle of code that Flower ships; "": none is shipped.

    Only one process at a time can work on a folder: ``BusyError`` for a second one. The lock ends
    with the process that holds it, so a killed run can be resumed at once.
    """
    with folder.lock():
        folder.begin(simulated, code_version(), bundle)
        folder.set_status("running")
        trail = folder.trail()
        starts = folder.about()["starts"]
        trail("run started" if starts == 1 else "run resumed", run=folder.id, round=0)
        try:
            with metered(run, observe) as everyone:
                job = Run(run, grid, folder, everyone, simulated)
                tables = job.execute()
            write_reports(run, folder, tables, job.kept)
            ended = now()  # the one time of the end, which every later report has as well
            write_finished(folder, ended)
            _draw(run, folder, tables[0])
            write_page(folder, finished=ended)
        except KeyboardInterrupt:
            _end(folder, "interrupted", "stopped by the user")
            raise
        except SystemExit:
            _end(folder, "failed", TOLD_TO_END)
            raise
        except BaseException as error:
            _end(folder, "failed", f"{type(error).__name__}: {error}")
            raise
        folder.set_status("finished", at=ended)
        trail("run finished", run=folder.id)


def _draw(run: sim.Sim, folder: Folder, table: ScoreTable) -> None:
    from metaward.server.pictures import draw  # here: matplotlib takes a second to import

    draw(run, folder, table)


def _end(folder: Folder, status: Status, reason: str) -> None:
    """Write down how a run ended, and the privacy that it has cost nevertheless."""
    folder.set_status(status, reason)
    folder.trail()(f"run {status}", run=folder.id, reason=reason)
    write_ended(folder)
