"""Which form of records lies in a hospital's folder; what lies there decides how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from metaward.client.errors import DataError
from metaward.client.tasks.files import stamp
from metaward.client.tasks.folder_files import (
    ARRAYS,
    EXAMPLE,
    IMAGES,
    LABELS,
    TABLE,
    Read,
    RecordForm,
    arrays,
    images,
    table,
)
from metaward.client.tasks.folder_recordings import (
    RECORDS,
    files,
    holds_recordings,
    recordings,
)


class FolderForm(NamedTuple):
    """``lies_in`` a folder or not; the ``files`` that are read then, and what reads them."""

    lies_in: Callable[[Path], bool]
    files: Callable[[Path], Iterable[Path]]
    read: Callable[[Path, RecordForm, tuple[Any, ...]], Read]


def _one(name: str) -> tuple[Callable[[Path], bool], Callable[[Path], Iterable[Path]]]:
    """A form that lies in one file."""
    return lambda folder: (folder / name).is_file(), lambda folder: [folder / name]


def _with_images(folder: Path) -> list[Path]:
    place = folder / IMAGES
    return [folder / LABELS, *(sorted(place.iterdir()) if place.is_dir() else [])]


FORMS = (
    FolderForm(*_one(ARRAYS), arrays),
    FolderForm(*_one(TABLE), table),
    FolderForm(_one(LABELS)[0], _with_images, images),
    FolderForm(holds_recordings, files, recordings),
)
"""The first that lies in a folder is read."""


def read(folder: Path, form: RecordForm) -> Read:
    """All records of a folder; ``DataError`` where something is missing or wrong."""
    for one in FORMS:
        if one.lies_in(folder):
            found = tuple((str(p), stamp(p)) for p in one.files(folder) if p.is_file())
            return one.read(folder, form, found)
    raise DataError(
        f"{folder} holds none of {ARRAYS}, {TABLE} and {LABELS} (with {IMAGES}/), and no "
        f"recordings ({RECORDS} or *.hea); {_elsewhere(folder) or EXAMPLE}"
    )


def _elsewhere(folder: Path) -> str:
    """Where records lie one step below: the folder of all hospitals was named in place of one's
    own, or a hospital is spelled otherwise than its folder. Empty where none do."""
    inner = sorted(one for one in folder.iterdir() if one.is_dir())
    found = [one.name for one in inner if any(form.lies_in(one) for form in FORMS)]
    return f"its own folders do: name one of {', '.join(found)}" if found else ""
