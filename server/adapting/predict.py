"""Predictions of an adapted model for a folder of records, labelled or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaward.client.scores.classes import probabilities
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.files import write_synced
from metaward.options import ConfigError
from metaward.server.adapting.records import read_folder
from metaward.server.adapting.saved import Described, read_model
from metaward.server.folder import FolderTakenError

AT_ONCE = 256
"""Records that go through the network at a time."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """For each record its ``ids`` (n,) and the ``probabilities`` (n, N) of the ``classes`` (N,)."""

    ids: NDArray[np.str_]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]

    def rows(self) -> Iterator[dict[str, Any]]:
        """A mapping for each record: id, predicted, and the probability of each class."""
        for name, p in zip(self.ids.tolist(), self.probabilities, strict=True):
            shares = dict(zip(self.classes, p.tolist(), strict=True))
            yield {"id": name, "predicted": self.classes[int(p.argmax())], "probabilities": shares}


def predictions(model: Path, folder: Path) -> Predictions:
    """The adapted model in ``model`` on all records of ``folder``; labels are not read.

    ``InputError`` where there is no such model; ``DataError`` where the records do not fit it.
    """
    module, about = read_model(model)
    found = read_folder(folder, about.form, labelled=False)
    pieces = torch.split(torch.from_numpy(found.x.copy()), AT_ONCE)
    with torch.no_grad(), one_thread():
        outputs = torch.cat([module(piece) for piece in pieces])
    if not bool(torch.isfinite(outputs).all()):
        raise InputError(f"{model}: its outputs for {folder} are not finite; adapt it again")
    return Predictions(found.ids, about.classes, probabilities(outputs))


def columns(about: Described | Predictions) -> list[str]:
    """The first line of predictions.csv."""
    return ["id", "predicted", *(f"probability of {name}" for name in about.classes)]


def require_new_file(path: Path) -> None:
    """``FolderTakenError`` where the file exists; ``ConfigError`` where its folder does not."""
    if path.exists():
        raise FolderTakenError(f"{path} exists, and is not written over; name another --out")
    if not path.parent.is_dir():
        raise ConfigError(["is in no folder that exists; name another file"], str(path))


def write_predictions(path: Path, found: Predictions) -> None:
    """Write a table with a line for each record, as a new file."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns(found))
    for row in found.rows():
        shares = (f"{p:.9g}" for p in row["probabilities"].values())
        table.writerow([row["id"], row["predicted"], *shares])
    try:
        write_synced(path, text.getvalue().encode())
    except FileExistsError as error:
        raise FolderTakenError(f"{path} exists, and is not written over") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError([f"cannot be written ({why}); name another file"], str(path)) from error
