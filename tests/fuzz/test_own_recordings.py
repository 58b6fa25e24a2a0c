"""A hospital's own recordings: damaged headers, signals, annotations and lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.client.tasks.test_own_recordings import SOURCE, stored, write
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.test_own_files import whole

FILES = ("a.hea", "a.dat", "a.atr", "RECORDS", "ANNOTATORS", "patients.csv")


@inputs(40, 600)
def test_recordings(number: int, counted: Counted, tmp_path: Path) -> None:
    at = np.arange(50, 350, 50)
    good = write(tmp_path / "good", signal=stored(0, 400), at=at, symbols="NVNVNV")
    for name, text in zip(FILES[3:], ("a\n", "atr\n", "record,patient\na,p\n"), strict=True):
        (good / name).write_text(text)
    whole(SOURCE, good)

    def read(change: tuple[str, bytes]) -> None:
        place = tmp_path / "data" / "north"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(good, place)
        fresh(place / change[0], change[1])
        whole(SOURCE, place.parent)

    def change(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
        content = damaged((good / name).read_bytes(), 2)
        if name == "a.hea":
            content |= st.tuples(NUMBERS, NUMBERS, NUMBERS).map(header)
        return st.tuples(st.just(name), content)

    known = [("RECORDS", b"x\0y\n"), ("RECORDS", b"x" * 300), ("ANNOTATORS", b"a\0b\n")]
    known += [("a.hea", b"a 2"), ("a.hea", header(("2", "100", "9")).replace(b" I\n", b"\n"))]
    known += [("a.hea", header(("2", "100", str(10**10)))), ("a.hea", header(("9" * 9, "1", "1")))]
    fuzz(number, st.sampled_from(FILES).flatmap(change), read, counted, known)


NUMBERS = st.sampled_from(
    ["0", "1", "2", "100", "400", "-1", "1e9", "nan", "inf", str(10**10), "x"]
)


def header(numbers: tuple[str, str, str]) -> bytes:
    """A header with these numbers of leads, of samples a second and of samples."""
    lead = "a.dat 16 200(0)/mV 16 0 0 0 0"
    return f"a {' '.join(numbers)}\n{lead} I\n{lead} V1\n".encode()
