"""The Flower ServerApp, and ``conduct``, with which every engine carries out a run.

Run configuration (all text): ``sim-file`` names a yaml file, relative to the app; ``sim-json`` is a
whole configuration and wins over it; ``out`` is the result folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from metaward import sim
from metaward.client import shipping
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
    conduct(run, grid, folder, lambda row: print(json.dumps(row), flush=True), simulated)
    print(f"metaward: results in {folder.path.resolve()}")


def conduct(run: sim.Sim, grid: Grid, folder: Folder, observe: Observer, simulated: bool) -> None:
    """Carry out a run; its folder has the right status afterwards, whatever happens.

    Only one process at a time can work on a folder: ``BusyError`` for a second one. The lock ends
    with the process that holds it, so a killed run can be resumed at once.
    """
    with folder.lock():
        folder.begin(simulated, code_version())
        folder.set_status("running")
        trail = folder.trail()
        starts = folder.about()["starts"]
        trail("run started" if starts == 1 else "run resumed", run=folder.id, round=0)
        try:
            with metered(run, observe) as everyone:
                job = Run(run, grid, folder, everyone, simulated)
                tables = job.execute()
            write_reports(run, folder, tables, job.kept)
            write_finished(folder)
            _draw(run, folder, tables[0])
            write_page(folder, finished=now())
        except KeyboardInterrupt:
            _end(folder, "interrupted", "stopped by the user")
            raise
        except BaseException as error:
            _end(folder, "failed", f"{type(error).__name__}: {error}")
            raise
        folder.set_status("finished")
        trail("run finished", run=folder.id)


def _draw(run: sim.Sim, folder: Folder, table: ScoreTable) -> None:
    from metaward.server.pictures import draw  # here: matplotlib takes a second to import

    draw(run, folder, table)


def _end(folder: Folder, status: Status, reason: str) -> None:
    """Write down how a run ended, and the privacy that it has cost nevertheless."""
    folder.set_status(status, reason)
    folder.trail()(f"run {status}", run=folder.id, reason=reason)
    write_ended(folder)
