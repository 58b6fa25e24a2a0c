"""`metaward report`: the page of a finished run, made again from its result folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaward.options import ConfigError
from metaward.server.folder import Folder
from metaward.server.page.write import write_page


def report(
    result: Annotated[Path, typer.Argument(help="The result folder of a finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="Write this file instead of report.html in the folder.")
    ] = None,
) -> None:
    """Write report.html: what a run was, what it learned, and how its rounds went."""
    folder = Folder(result)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(result))
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        what = "is a folder" if out.is_dir() else "is in no folder that exists"
        raise ConfigError([f"{what}; name a file, such as report.html"], str(out))
    print(write_page(folder, out))
