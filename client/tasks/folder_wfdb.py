"""Reading one recording with the package ``wfdb``: its signals and its annotations.

The package is an extra, ``pip install 'metaward[physionet]'``. A signal is checked against the sum
that its header holds, as PhysioNet writes it, before any of it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.files import lies_in

HEADER = ".hea"
PACKED = 64
"""No signal has more samples for each byte of its file, compressed or not."""


@dataclass(frozen=True)
class Listed:
    """A recording: its name, and its header's path."""

    name: str
    header: Path

    def beside(self, ending: str) -> Path:
        """The file of this recording with another ending."""
        return self.header.with_name(f"{self.header.name.removesuffix(HEADER)}.{ending}")


class Signal(NamedTuple):
    """A recording: ``stored`` (length, leads) as in the file, ``physical`` in the header's units
    with NaN for what is missing, names and units of the leads, and samples a second."""

    stored: NDArray[np.int64]
    physical: NDArray[np.float64]
    leads: tuple[str, ...]
    units: tuple[str, ...]
    fs: float


class Annotations(NamedTuple):
    """Annotations of a recording: sample numbers (n,) and symbols (n,)."""

    at: NDArray[np.int64]
    symbols: NDArray[np.str_]


def read_signal(one: Listed) -> Signal:
    """All leads; ``DataError`` where a file is missing, damaged, or in segments."""
    wfdb, name = _package(one), str(one.header.with_suffix(""))
    try:
        header = wfdb.rdheader(name)
    except Exception as error:  # the package raises whatever its readers do
        raise DataError(f"{one.header} is no header that can be read ({error})") from error
    _check_header(one, header)
    try:
        record = wfdb.rdrecord(name, physical=False)
        stored = np.asarray(record.d_signal, np.int64)
        physical = np.asarray(record.dac(expanded=False), np.float64)
    except Exception as error:
        files = ", ".join(dict.fromkeys(header.file_name))
        raise DataError(f"{one.header}: its signal {files} cannot be read ({error})") from error
    _check_sums(one, header, record)
    return Signal(stored, physical, tuple(header.sig_name), tuple(header.units), float(header.fs))


def read_annotations(one: Listed, ending: str) -> Annotations:
    """The annotations in the file with this ending; ``DataError`` where there is none to read."""
    wfdb, file = _package(one), one.beside(ending)
    if not file.is_file():
        raise DataError(
            f"{one.header}: {file} does not exist; put the annotations there, or name their ending "
            f"in {file.with_name('ANNOTATORS')}"
        )
    try:
        found = wfdb.rdann(str(one.header.with_suffix("")), ending)
        at, symbols = np.asarray(found.sample, np.int64), np.array(found.symbol, str)
    except Exception as error:
        raise DataError(f"{file} holds no annotations that can be read ({error})") from error
    fs = wfdb.rdheader(str(one.header.with_suffix(""))).fs
    if found.fs not in (None, fs):
        raise DataError(f"{file} counts {found.fs:g} samples a second, and {one.header} {fs:g}")
    return Annotations(at, symbols)


def _package(one: Listed) -> Any:
    try:
        import wfdb
    except ImportError as error:
        raise DataError(
            f"{one.header} is a recording; pip install 'metaward[physionet]' reads it"
        ) from error
    return wfdb


def _check_header(one: Listed, header: Any) -> None:
    """That the signal lies in files that are there."""
    if getattr(header, "n_seg", None):
        raise DataError(
            f"{one.header} is a recording in segments; write it as one (wfdb.rdrecord, then wrsamp)"
        )
    if not header.n_sig:
        raise DataError(f"{one.header} has no leads")
    said = (header.file_name, header.sig_name, header.units, header.samps_per_frame, header.skew)
    whole = all(part is not None and len(part) == header.n_sig for part in said)
    if not whole or None in header.sig_name or None in header.units or not 0 < header.fs < inf:
        raise DataError(
            f"{one.header} does not give each of its {header.n_sig} leads a file, a name and a "
            "unit, and a number of samples a second; get a good copy of the recording"
        )
    for name in dict.fromkeys(header.file_name):
        file = one.header.parent / name
        if not lies_in(one.header.parent, file):
            text = f"{one.header}: its signal {file!s:.300} does not exist; add the file"
            raise DataError(text)
        _check_length(one, header, file)


def _check_length(one: Listed, header: Any, file: Path) -> None:
    """That the file can hold as many samples as the header says, before memory is taken."""
    own = [k for k, name in enumerate(header.file_name) if name == file.name]
    frame = sum(header.samps_per_frame[k] for k in own)
    skew = max((header.skew[k] or 0 for k in own), default=0)
    most = PACKED * file.stat().st_size
    if (header.sig_len or 0) * frame > most or frame > most or skew > most:
        raise DataError(
            f"{one.header} says that {file.name} holds {header.sig_len} x {frame} samples, more "
            "than it can; get a good copy of the recording"
        )


def _check_sums(one: Listed, header: Any, record: Any) -> None:
    """That each lead has the sum in its header, where that holds one of the samples as they are."""
    if header.checksum is None or any(count != 1 for count in header.samps_per_frame):
        return
    sums = zip(header.sig_name, header.checksum, record.calc_checksum(), strict=True)
    for lead, given, found in sums:
        if given is not None and (given - found) % 65536:
            raise DataError(
                f"{one.header}: lead {lead} has the checksum {found}, and its header says {given}; "
                "get a good copy of the recording"
            )
