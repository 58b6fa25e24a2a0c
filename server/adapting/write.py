"""The files of an adaptation; the folder holds all of them or does not exist."""

from __future__ import annotations

import json
from pathlib import Path

from metaward.files import write_synced
from metaward.json_text import plain_value
from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.card import card
from metaward.server.adapting.page import page
from metaward.server.adapting.report import markdown, plain_report
from metaward.server.adapting.saved import MODEL, TENSORS, write_exports
from metaward.server.evaluations.evaluate import new_folder

LOCAL = "local"
"""The folder of what stays at the hospital, where the model beside it may be published."""
PLACE = "adapted"
"""The folder under which a new one is made where none is named."""


def write_adapted(made: AdaptedRun, place: Path) -> dict[str, str]:
    """Write every file into ``place``, a new folder; what is absent, and why.

    ``FolderTakenError`` where it holds something; ``ConfigError`` where it cannot be written.
    """
    with new_folder(place) as folder:
        model, local = _places(made, folder)
        write_synced(model / TENSORS, made.stored)
        absent = write_exports(model, made.module, made.about.input_shape)
        write_synced(model / "model-card.md", card(made).encode())
        _draw(made, local)
        text = json.dumps(plain_value(plain_report(made, absent)), indent=1) + "\n"
        write_synced(local / "adapt.json", text.encode())
        write_synced(local / "report.md", markdown(made, absent).encode())
        write_synced(local / "report.html", page(made, absent).encode())
    return absent


def _places(made: AdaptedRun, folder: Path) -> tuple[Path, Path]:
    """Where the model lies and where what is said about it: apart where the model may be published,
    because then nothing that a record has touched without noise may lie beside it."""
    if made.pledge is None:
        return folder, folder
    apart = folder / MODEL, folder / LOCAL
    for one in apart:
        one.mkdir()
    return apart


def _draw(made: AdaptedRun, folder: Path) -> None:
    from metaward.server.pictures import adapted  # here: matplotlib takes a second

    found, score = made.verdict, next(s for s in made.scores if s.name == "ece")
    mean = score.text(found.rows[0].scores[score.name].mean)
    ece = f"{score.label}: {mean} in the mean of the splits"
    adapted.draw_reliability(folder / "reliability.png", found.reliability, ece)
    adapted.draw_confusion(folder / "confusion.png", found.confusion, made.held.classes)


def free_place(data: Path) -> Path:
    """A folder named like the hospital's that does not exist yet, in the current one."""
    name, number = data.resolve().name, 1
    while True:
        place = Path(PLACE) / (name if number == 1 else f"{name}-{number}")
        if not place.exists():
            return place
        number += 1
