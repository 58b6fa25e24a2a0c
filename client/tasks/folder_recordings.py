"""Recordings in the format of PhysioNet (WFDB): one record of a task is a beat.

A folder holds headers ``*.hea`` with their signals and annotations; ``RECORDS``, if there, names
the ones that are read. Whose they are, and which annotations count, is said by the folder and not
by the run's yaml: ``patients.csv`` with ``record`` and ``patient`` (without it a recording is a
patient), and ``ANNOTATORS`` with the ending of the annotation files (without it ``atr``). Otherwise
a run could meet a beat again as that of another annotator, two samples beside the first.

A beat's name is its recording and sample number. Its content, by which the ledger charges, are the
stored samples of all leads from ``REACH`` seconds before the annotation to as many after it: so the
yaml's leads, sampling rate, length and scale give no beat a new budget. Beats that follow each
other closer than that share samples; unit ``patient`` protects all of them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.files import lies_in
from metaward.client.tasks.folder_files import (
    EXAMPLE,
    Read,
    RecordForm,
    digest,
    gathered,
    lines,
    said,
)
from metaward.client.tasks.folder_wfdb import (
    HEADER,
    Listed,
    Signal,
    read_annotations,
    read_signal,
)
from metaward.client.tasks.folder_windows import Cut, Recording, content, network_input

RECORDS, ANNOTATORS, PATIENTS = "RECORDS", "ANNOTATORS", "patients.csv"
USUAL = "atr"


def holds_recordings(folder: Path) -> bool:
    """Whether this is a folder of recordings."""
    return (folder / RECORDS).is_file() or any(folder.glob(f"*{HEADER}"))


def files(folder: Path) -> list[Path]:
    """All files that can be read of it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Part(NamedTuple):
    """The beats of one recording, as in ``Read``; how many were ``too near`` to an end of it, and
    how many of each symbol were ``ignored``."""

    x: NDArray[np.float32]
    names: list[tuple[str, str, str]]
    stored: list[bytes]
    where: list[str]
    too_near: Counter[str]
    ignored: Counter[str]


@lru_cache(maxsize=64)
def recordings(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """All beats of a folder, a recording after the other."""
    if form.recording is None:
        raise DataError(
            f"{folder} holds recordings; say in client.tasks.recording what is taken of them, at "
            f"least rate; {EXAMPLE}"
        )
    ending, owners = _ending(folder), _owners(folder)
    parts = [
        _part(one, ending, _patient(one, owners, folder), form, form.recording)
        for one in _listed(folder)
    ]
    if not parts:
        raise DataError(f"{folder / RECORDS} names no recording; {EXAMPLE}")
    x = np.concatenate([part.x for part in parts])
    names, stored, where = (
        [one for part in parts for one in getattr(part, key)]
        for key in ("names", "stored", "where")
    )
    return gathered(folder, x, names, stored, where)._replace(left_out=_left_out(parts))


def _part(one: Listed, ending: str, patient: str, form: RecordForm, asked: Recording) -> Part:
    """The beats of one recording: all annotations but those that the yaml ignores by their symbol,
    and those whose own window leaves the recording."""
    signal, found = read_signal(one), read_annotations(one, ending)
    cut = _cut(one, signal, form.shape[1], asked)
    ignored = np.isin(found.symbols, np.array(asked.ignore, str))
    inside = cut.inside(found.at, len(signal.stored))
    at, symbols = found.at[inside & ~ignored], found.symbols[inside & ~ignored].tolist()
    rows = list(zip(at.tolist(), symbols, strict=True))
    return Part(
        _windows(one, signal, cut, at, form.shape, asked),
        [(symbol, patient, f"{one.name}/{sample}") for sample, symbol in rows],
        [digest(content(signal.stored, sample, signal.fs)) for sample, _ in rows],
        [f"{one.beside(ending)}, sample {sample}" for sample, _ in rows],
        Counter({one.name: int((~inside & ~ignored).sum())}),
        Counter(found.symbols[ignored].tolist()),
    )


def _left_out(parts: Sequence[Part]) -> str:
    """How many annotations became no record, and why."""
    too_near, ignored = Counter[str](), Counter[str]()
    for part in parts:
        too_near.update(part.too_near)
        ignored.update(part.ignored)
    reasons = {
        "too near to an end of the recording": +too_near,
        "symbols that client.tasks.recording.ignore names": +ignored,
    }
    return "; ".join(
        f"{reason}: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}"
        for reason, counts in reasons.items()
        if counts
    )


def _cut(one: Listed, signal: Signal, samples: int, asked: Recording) -> Cut:
    """How windows lie in this signal; ``DataError`` where its sampling rate is far from theirs."""
    cut = Cut(samples, asked.rate, signal.fs)
    if cut.too_coarse:
        raise DataError(
            f"{one.header}: {signal.fs:g} samples a second; client.tasks.recording.rate is "
            f"{asked.rate:g}, less than a thousandth of it"
        )
    return cut


def _windows(
    one: Listed,
    signal: Signal,
    cut: Cut,
    at: NDArray[np.int64],
    shape: tuple[int, ...],
    asked: Recording,
) -> NDArray[np.float32]:
    """The network's input (n, leads, samples) around ``at`` (n,)."""
    windows, whole = cut.windows(signal.physical[:, _leads(one, signal, shape, asked)], at)
    if not whole.all():
        raise DataError(
            f"{one.header}: around sample {at[~whole][0]} the signal has gaps (values that the "
            "format marks as missing); take the annotation out, or fill the gap"
        )
    return network_input(windows, asked)


def _leads(one: Listed, signal: Signal, shape: tuple[int, ...], asked: Recording) -> list[int]:
    """Which leads are taken; ``DataError`` for a missing one, a wrong number or a wrong unit."""
    has, wanted = f"it has {', '.join(signal.leads)}", asked.leads or signal.leads
    if len(wanted) != shape[0]:
        raise DataError(
            f"{one.header}: {len(wanted)} leads; {has}, and client.tasks.shape = {list(shape)} "
            f"asks for {shape[0]}; name those that are taken in client.tasks.recording.leads"
        )
    if absent := [name for name in wanted if name not in signal.leads]:
        raise DataError(f"{one.header}: no lead {', '.join(absent)}; {has}")
    places = [signal.leads.index(name) for name in wanted]
    if odd := [signal.leads[k] for k in places if signal.units[k] != asked.units]:
        raise DataError(
            f"{one.header}: lead {odd[0]} is in {signal.units[signal.leads.index(odd[0])]}; "
            f"client.tasks.recording.units is {asked.units}"
        )
    return places


# ------------------------------------------------------------------- what the folder says


def _listed(folder: Path) -> Iterator[Listed]:
    """The recordings that ``RECORDS`` names, or else all headers of the folder."""
    listing = folder / RECORDS
    if not listing.is_file():
        for path in sorted(folder.glob(f"*{HEADER}")):
            yield Listed(path.stem, path)
        return
    for where, name in _words(listing):
        header = folder / f"{name}{HEADER}"
        if not lies_in(folder, header):
            raise DataError(
                f"{where}: {header!s:.300} does not exist; take the line out, or add the file"
            )
        yield Listed(name, header)


def _ending(folder: Path) -> str:
    """The ending of the annotation files that count."""
    listing = folder / ANNOTATORS
    found = [word for _, word in _words(listing)] if listing.is_file() else [USUAL]
    if len(found) != 1:
        raise DataError(
            f"{listing} names {len(found)} annotators ({', '.join(found)}); leave the line of the "
            "one whose annotations are the records, and no other for all runs to come"
        )
    return found[0]


def _owners(folder: Path) -> dict[str, str] | None:
    """The patient of each recording; None where the folder does not say."""
    path, owners = folder / PATIENTS, dict[str, str]()
    if not path.is_file():
        return None
    for where, row in lines(path, ["record", "patient"]):
        name = said(where, row, "record")
        if name in owners:
            raise DataError(f"{where}: recording {name} has a line above; leave one")
        owners[name] = said(where, row, "patient")
    return owners


def _patient(one: Listed, owners: dict[str, str] | None, folder: Path) -> str:
    if owners is None:
        return one.name
    if one.name not in owners:
        raise DataError(f"{folder / PATIENTS} has no line for recording {one.name}; add it")
    return owners[one.name]


def _words(listing: Path) -> Iterator[tuple[str, str]]:
    """(file and line, first word) of each line that is not empty."""
    try:
        text = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing} cannot be read as text in UTF-8 ({error})") from error
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield f"{listing}, line {number}", line.split()[0]
