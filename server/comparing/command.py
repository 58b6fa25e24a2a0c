"""`metaward compare`: finished runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from metaward.files import write_synced
from metaward.json_text import plain_value
from metaward.server.arguments import Json
from metaward.server.comparing.compare import Comparison
from metaward.server.comparing.compare import compare as side_by_side
from metaward.server.comparing.text import markdown, pieces
from metaward.server.evaluations.evaluate import new_folder, require_free
from metaward.server.terminal import answer


def compare(
    results: Annotated[
        list[Path], typer.Argument(help="Two or more result folders.", metavar="RESULT...")
    ],
    out: Annotated[Path | None, typer.Option(help="A new folder for tables and a picture.")] = None,
    as_json: Json = False,
) -> None:
    """Set runs side by side: what differs in them, and what each of them reached."""
    found = compared(results, out)
    answer(found.plain(), list(pieces(found)), as_json)


def compared(results: Sequence[Path], out: Path | None) -> Comparison:
    """The comparison, written into ``out`` if that is named; ``FolderTakenError`` where something
    is there."""
    if out is not None:
        require_free(out)
    found = side_by_side(results)
    if out is not None:
        with new_folder(out) as folder:
            _write(found, folder)
    return found


def _write(found: Comparison, folder: Path) -> None:
    """Write compare.json, compare.md, and compare.png if there is a curve to draw."""
    from metaward.server.pictures.rounds import draw_rounds  # here: matplotlib takes a second

    text = json.dumps(plain_value(found.plain()), indent=1) + "\n"
    write_synced(folder / "compare.json", text.encode())
    write_synced(folder / "compare.md", markdown(found).encode())
    if found.finished:
        draw_rounds(folder / "compare.png", found)
