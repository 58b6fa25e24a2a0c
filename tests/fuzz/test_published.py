"""Files of heartbeats, characters and heart disease: damaged, or of other content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from metaward.client.tasks import omniglot
from metaward.client.tasks.ecg import DS1, Ecg
from metaward.client.tasks.heart import Heart
from metaward.client.tasks.omniglot import Omniglot
from tests.client.tasks.test_heart import made_up
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.test_own_files import ODD, archives, npz

SOURCE = Ecg(hospitals=1, unseen=0, ways=2, shots=1, queries=1)


def beats() -> dict[str, Any]:
    """Two beats of each of two kinds for each patient."""
    record = np.repeat(np.array(DS1, np.int16), 4)
    symbol = np.array(list("NNVV") * len(DS1))
    x = np.random.default_rng(0).integers(-9, 9, (len(record), 128)).astype(np.int16)
    return {"x": x, "symbol": symbol, "aami": symbol, "record": record}


@inputs(40, 500)
def test_heartbeats(number: int, counted: Counted, tmp_path: Path) -> None:
    good = beats()
    path = tmp_path / "ecg" / "mitbih_beats.npz"
    path.parent.mkdir()

    def read(content: bytes) -> None:
        fresh(path, content)
        hospital = SOURCE.hospital(0, tmp_path, 1)
        hospital.episode(np.random.default_rng(0))
        json.dumps(hospital.note)

    read(npz(good))
    empty = {key: array[:0] for key, array in good.items()}
    known = [npz(empty), *(npz(good | {key: one}) for one in ODD for key in good)]
    fuzz(number, archives(good), read, counted, known)


@inputs(40, 500)
def test_heart_disease(number: int, counted: Counted, tmp_path: Path) -> None:
    path = tmp_path / "heart" / "processed.cleveland.data"
    path.parent.mkdir()
    lines = made_up("cleveland")
    good = "\n".join(map(",".join, lines)).encode()

    def read(content: bytes) -> None:
        fresh(path, content)
        hospital = Heart().hospital(0, tmp_path, 1)
        assert np.isfinite(hospital.x).all()
        hospital.episode(np.random.default_rng(0))

    @st.composite
    def cells(draw: st.DrawFn) -> bytes:
        rows = [[*line] for line in lines]
        row = rows[draw(st.integers(0, len(rows) - 1))]
        words = ["?", "nan", "inf", "-inf", "1e400", "1_0", "", "x", "-1", "0.5", "\0"]
        row[draw(st.integers(0, 13))] = draw(st.sampled_from(words))
        return "\n".join(map(",".join, rows)).encode()

    fuzz(number, damaged(good, 2) | cells(), read, counted, [b"", b"?", b"\xff", b","])


def characters() -> dict[str, Any]:
    """Blank drawings under the names that the file has."""
    alphabets = np.array([*omniglot.ALPHABETS])[omniglot.ALPHABET_OF]
    names = np.array([f"{name}/{k}" for k, name in enumerate(alphabets)])
    shape = omniglot.LAYOUTS["images"].shape
    images = np.broadcast_to(np.uint8(255), [int(n or 1) for n in shape])
    evaluation = (omniglot.ALPHABET_OF >= omniglot.BACKGROUND).astype(np.uint8)
    return {"images": images, "names": names, "is_evaluation": evaluation}


@inputs(10, 80)
def test_characters(number: int, counted: Counted, tmp_path: Path) -> None:
    """All but the images is exchanged; these are large, and always the same."""
    good = characters()
    path = tmp_path / "omniglot" / "omniglot28.npz"
    path.parent.mkdir()

    def read(content: bytes) -> None:
        fresh(path, content)
        Omniglot().hospital(0, tmp_path, 1).episode(np.random.default_rng(0))

    read(npz(good))
    small = {key: array[:2] for key, array in good.items()}
    known = [npz(small | {key: one}) for one in ODD for key in small]
    fuzz(number, archives(small), read, counted, known)
