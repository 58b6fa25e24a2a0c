"""Made-up recordings in the format of PhysioNet (WFDB), for ``metaward data example``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from metaward.client.tasks.beats import NAMES, RATE, UNITS, recorded, waves
from metaward.client.tasks.ecg import SAMPLES
from metaward.options import ConfigError

SYMBOLS = {"N": "normal", "L": "left bundle", "R": "right bundle", "V": "early ventricular"}
"""PhysioNet's symbols of the kinds of beat that the example has."""
RHYTHM = "+"
"""Its symbol for a change of rhythm, which is no beat."""


def write_recordings(place: Path, beats: int, patients: int, rng: np.random.Generator) -> None:
    """``RECORDS``, and for each patient a recording of one lead with its annotations."""
    wfdb = _package()
    kind, who = rng.integers(len(SYMBOLS), size=beats), np.sort(rng.integers(patients, size=beats))
    numbers = np.array([NAMES.index(name) for name in SYMBOLS.values()])
    signal = recorded(waves(numbers[kind], who, patients, rng), rng)
    names = [f"p{patient:02d}" for patient in np.unique(who)]
    for name, patient in zip(names, np.unique(who), strict=True):
        own = who == patient
        symbols = [RHYTHM, *(list(SYMBOLS)[k] for k in kind[own])]
        _write(wfdb, place, name, signal[own].reshape(-1, 1).astype(np.int64), symbols)
    (place / "RECORDS").write_text("\n".join([*names, ""]), encoding="utf-8")


def _write(wfdb: Any, place: Path, name: str, stored: Any, symbols: list[str]) -> None:
    """One recording: beats one after the other, and before them the rhythm in sample 0."""
    wfdb.wrsamp(
        name,
        fs=RATE,
        units=["mV"],
        sig_name=["MLII"],
        d_signal=stored,
        fmt=["16"],
        adc_gain=[float(UNITS)],
        baseline=[0],
        write_dir=str(place),
    )
    at = np.array([0, *(np.arange(len(symbols) - 1) * SAMPLES + SAMPLES // 2)])
    notes = ["(N", *[""] * (len(symbols) - 1)]
    wfdb.wrann(name, "atr", at, symbol=symbols, aux_note=notes, write_dir=str(place))


def _package() -> Any:
    try:
        import wfdb
    except ImportError as error:
        raise ConfigError(
            ["needs the package wfdb: pip install 'metaward[physionet]'"], "--form physionet"
        ) from error
    return wfdb
