"""The command ``metaward guard``: the guard of a hospital as a process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaward.client.answering import log_locally
from metaward.client.guarding.service import serve
from metaward.client.guarding.setting import GuardSetting
from metaward.server.terminal import tell
from metaward.server.version import code_version


def guard(
    config: Annotated[Path, typer.Argument(help="The guard's settings, guard.yaml.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read the settings, policy, ledger and key.")
    ] = False,
) -> None:
    """Answer for this hospital: nothing else needs to read its records, ledger, policy, keys."""
    setting = GuardSetting.read(config)
    setting.check()
    if check:
        tell(f"{config} can be used")
        return
    log_locally()
    tell(f"the guard answers at {setting.socket}")
    serve(setting.node, Path(setting.socket), {"version": code_version()})
