"""A hospital's own files as they may be damaged or written by hand: tables, arrays, images."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from metaward.client.charging import contents
from metaward.client.tasks.folder import OwnFiles
from tests.client.tasks.test_own_files import ARRAYS, HEAD, IMAGES, TABLE, patients
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.test_wire import headers, npy

CSV = "\n".join(",".join(map(str, row)) for row in [HEAD, *patients()])
WORDS = [
    "age",
    "label",
    "id",
    "patient",
    "file",
    "50",
    "nan",
    "inf",
    "1e39",
    "-1e308",
    "1_0",
    "٣",
    "well",
    "ill",
    "f",
    "m",
    "a.png",
    "../x",
]
CELLS = st.sampled_from([*WORDS, "", " ", '"', "\n", ",", "\0", "x" * 300, "\ud800"]) | st.text(
    max_size=6
)
TABLES = st.lists(st.lists(CELLS, max_size=7).map(",".join), max_size=6).map("\n".join)


def whole(source: OwnFiles, root: Path) -> None:
    """All hospitals can be used: their records are finite, their names can be charged."""
    hospital = source.hospital(0, root, 1)
    assert np.isfinite(hospital.x).all()
    episode = hospital.episode(np.random.default_rng(0))
    assert episode.support_x.shape[1:] == source.input_shape
    assert (
        len(contents(hospital, hospital.rows))
        == len(hospital.rows)
        == len(set(hospital.ids.tolist()))
    )
    json.dumps([hospital.ids.tolist(), hospital.patients.tolist(), hospital.note])


def place(tmp: Path) -> Path:
    """A fresh folder of the hospital ``north``."""
    shutil.rmtree(tmp / "north", ignore_errors=True)
    (tmp / "north").mkdir()
    return tmp / "north"


def one_file(name: str, source: OwnFiles, tmp: Path) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        fresh(place(tmp) / name, content)
        whole(source, tmp)

    return read


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


@inputs(60, 900)
def test_tables(number: int, counted: Counted, tmp_path: Path) -> None:
    cell = st.tuples(st.integers(0, 8), st.integers(0, 5), CELLS).map(changed)
    drawn = damaged(CSV.encode()) | TABLES.map(encoded) | cell
    known = [
        changed((3, 0, "1e300")),
        changed((3, 0, "-3e39")),
        b"",
        b"\0",
        changed((0, 0, "label")),
    ]
    fuzz(number, drawn, one_file("records.csv", TABLE, tmp_path), counted, known)


def changed(change: tuple[int, int, str]) -> bytes:
    """The good table with another text in one cell."""
    rows = [[*map(str, row)] for row in [HEAD, *patients()]]
    rows[change[0]][change[1]] = change[2]
    return encoded("\n".join(map(",".join, rows)))


# ------------------------------------------------------------------------------------ arrays

X = np.arange(16.0).reshape(8, 2)
GOOD = {"x": X, "y": np.arange(8) % 2, "patient": np.array(list("aabbccdd")), "id": np.arange(8)}


def npz(arrays: dict[str, Any]) -> bytes:
    """An archive of arrays, or of the bytes of .npy files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = array if isinstance(array, bytes) else npy(np.asarray(array))
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


ODD = [
    np.float64(3),
    np.zeros((0, 2)),
    np.zeros((8, 2), complex),
    np.zeros((8, 2), "M8[s]"),
    np.zeros(8, [("a", "f4")]),
    np.array([["a", "b"]] * 8),
    np.array([b"\xff"] * 8),
    np.arange(9),
    np.full((8, 2), 1e300),
    np.full((8, 2), np.nan),
    np.array([None] * 8),
    np.full(8, 0x110000, np.uint32).view("<U1"),
    np.full(8, 0xD800, np.uint32).view("<U1"),
    np.array(["x" * 5000] * 8),
    np.zeros(8, bool),
]


@st.composite
def archives(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """An archive with arrays exchanged, left out, of any header; or with flipped bits."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(npz(good)))
    arrays = dict(good)
    for name in draw(st.sets(st.sampled_from([*arrays]), min_size=1, max_size=2)):
        if draw(st.integers(0, 5)) == 0:
            del arrays[name]
        else:
            arrays[name] = draw(st.sampled_from([*ODD, *good.values()]) | headers())
    return npz(arrays)


def huge(shape: tuple[int, ...]) -> bytes:
    """A header that says so."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


BOMB = huge((2**27, 2)) + bytes(2**25)
"""2 GiB in a few kilobytes, as far as the header is believed."""


@inputs(50, 700)
def test_arrays(number: int, counted: Counted, tmp_path: Path) -> None:
    odd = [npz(GOOD | {key: one}) for one in ODD for key in ("x", "y", "patient")]
    big = [npz(GOOD | {"x": huge((2**40, 2))}), npz(GOOD | {"x": BOMB}), npz(GOOD | {"z": BOMB})]
    known = [*odd, *big, npz({"x": np.zeros((0, 2)), "y": np.zeros(0)})]
    fuzz(number, archives(GOOD), one_file("records.npz", ARRAYS, tmp_path), counted, known)


# ------------------------------------------------------------------------------------ images


def picture(mode: str, form: str) -> bytes:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4) * 10).convert(mode)
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


PICTURES = [picture(m, "PNG") for m in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16")]
PICTURES += [picture(m, "JPEG") for m in ("L", "RGB", "CMYK")]


def dicom() -> bytes:
    """A small DICOM file."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=["a"]
    )
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns, data.SamplesPerPixel = 6, 4, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", bytes(48)
    data.RescaleSlope, data.RescaleIntercept = 1, -5
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def wide(width: int, height: int) -> bytes:
    """A PNG file whose header says that it is so large."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    data = zlib.compress(bytes(1 << 16))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@inputs(50, 700)
def test_images(number: int, counted: Counted, tmp_path: Path) -> None:
    dcm = dicom()

    def read(files: tuple[str, bytes]) -> None:
        folder = place(tmp_path)
        (folder / "images").mkdir()
        fresh(folder / "images" / files[0], files[1])
        rest = [(f"r{k}.png", "ab"[k % 2]) for k in range(4)]
        for name, _ in rest:
            (folder / "images" / name).write_bytes(PICTURES[0])
        lines = ["file,label", f"{files[0]},a", *(",".join(row) for row in rest)]
        (folder / "labels.csv").write_text("\n".join(lines))
        whole(IMAGES, tmp_path)

    pngs = st.tuples(st.just("x.png"), st.sampled_from(PICTURES).flatmap(damaged))
    dicoms = st.tuples(st.just("x.dcm"), damaged(dcm, 2))
    known = [("x.png", wide(13_000, 13_000)), ("x.png", wide(2**30, 2**30)), ("x.png", EPS)]
    known += [("x.png", one) for one in PICTURES] + [("x.dcm", dcm)]
    fuzz(number, pngs | dicoms, read, counted, known)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@inputs(30, 300)
def test_lists_of_images(number: int, counted: Counted, tmp_path: Path) -> None:
    """``labels.csv`` names files that may be anything."""

    def read(text: bytes) -> None:
        folder = place(tmp_path)
        (folder / "images").mkdir()
        for name in ("a.png", "b.png", "c.png", "d.png"):
            (folder / "images" / name).write_bytes(PICTURES[0])
        fresh(folder / "labels.csv", text)
        whole(IMAGES, tmp_path)

    good = "file,label\na.png,a\nb.png,b\nc.png,a\nd.png,b\n"
    names = CELLS.map(lambda name: encoded(f"{good}{name},a\n"))
    known = [encoded(f"{good}{name},a\n") for name in ("x\0y", "x" * 300, "\ud800", "..", ".")]
    fuzz(number, damaged(good.encode()) | names, read, counted, known)
