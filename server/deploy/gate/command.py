"""The command ``metaward gate``: the gate of a hospital as a process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from metaward.server.deploy.gate.passage import application
from metaward.server.deploy.gate.setting import Gate
from metaward.server.terminal import tell

LOOPBACK = "127.0.0.1"
GOODBYE_SECONDS = 5


def gate(
    config: Annotated[Path, typer.Argument(help="The gate's settings, gate.yaml.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read the settings and the list of bundles.")
    ] = False,
) -> None:
    """Stand between this hospital's SuperNode and the server: only code on the list comes in."""
    setting = Gate.read(config)
    if check:
        tell(f"{config} can be used")
        return
    setting.certify()
    tell(f"the gate to {setting.superlink} listens on {LOOPBACK}:{setting.listen}")
    uvicorn.run(
        application(setting),
        host=LOOPBACK,
        port=setting.listen,
        ssl_certfile=str(setting.certificate.certificate),
        ssl_keyfile=str(setting.certificate.key),
        log_level="warning",
        ws="none",
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
