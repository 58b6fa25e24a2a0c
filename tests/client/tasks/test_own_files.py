"""A hospital's own files: what is read, what is refused and where, and whose content is whose."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from metaward.client.charging import contents
from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.folder import OwnFiles

IMAGES = OwnFiles(
    train=("north", "south"),
    unseen=("west",),
    classes=("a", "b"),
    novel=("c", "d"),
    shape=(1, 6, 4),
    ways=2,
    shots=1,
    queries=1,
)
TABLE = OwnFiles(
    train=("north",),
    unseen=("west",),
    classes=("well", "ill"),
    columns=(("age", 50.0, 10.0), ("pressure", 120.0, 20.0)),
    choices=(("sex", "f", "m"),),
    ways=2,
    shots=1,
    queries=1,
)
ARRAYS = OwnFiles(
    train=("north",), unseen=("west",), classes=("0", "1"), shape=(2,), ways=2, shots=1, queries=1
)
HEAD = ("age", "pressure", "sex", "label", "patient", "id")


def table(place: Path, rows: list[Any], head: tuple[str, ...] = HEAD) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    with (place / "records.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return place


def patients(n: int = 8) -> list[Any]:
    return [
        [40 + k, 120 + 20 * k, "fm"[k % 2], ("well", "ill")[k % 2], f"p{k // 2}", f"r{k}"]
        for k in range(n)
    ]


def pictures(place: Path, images: dict[str, Image.Image], label: str = "a") -> Path:
    (place / "images").mkdir(parents=True)
    rows = []
    for name, image in images.items():
        image.save(place / "images" / name)
        rows.append([name, label if len(rows) % 2 else "b"])
    with (place / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["file", "label"], *rows])
    return place


def opened(source: OwnFiles, root: Path, index: int = 0) -> Hospital:
    return source.hospital(index, root, 1)


def refusal(source: OwnFiles, root: Path) -> str:
    with pytest.raises(DataError) as error:
        opened(source, root)
    return str(error.value)


# ------------------------------------------------------------------------------------- tables


def test_a_table_by_hand(tmp_path: Path) -> None:
    table(tmp_path / "north", patients())
    hospital = opened(TABLE, tmp_path)
    assert TABLE.spec().input_shape == (4,)
    np.testing.assert_allclose(hospital.x[:2], [[-1.0, 0, 1, 0], [-0.9, 1, 0, 1]], atol=1e-6)
    assert hospital.y.tolist() == [0, 1] * 4
    assert hospital.ids[0] == "north/r0"
    assert hospital.patients.tolist()[:4] == ["north/p0", "north/p0", "north/p1", "north/p1"]


def test_a_table_that_names_neither_patients_nor_ids_counts_lines(tmp_path: Path) -> None:
    rows = [row[:4] for row in patients()]
    table(tmp_path / "north", rows, HEAD[:4])
    hospital = opened(TABLE, tmp_path)
    assert hospital.ids.tolist() == hospital.patients.tolist() == [f"north/{k}" for k in range(8)]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, "", "line 3: column age is empty"),
        (0, "old", "line 3: column age holds 'old'; it must be a finite number"),
        (0, "inf", "line 3: column age holds 'inf'"),
        (2, "x", "line 3: column sex holds 'x'; client.tasks.choices knows f, m"),
        (3, "dead", "line 3: label 'dead'; hospital north (train) holds well, ill"),
        (5, "r0", "line 3: id 'r0' is that of"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(
    place: int, value: str, words: str, tmp_path: Path
) -> None:
    rows = patients()
    rows[1][place] = value
    table(tmp_path / "north", rows)
    assert words in refusal(TABLE, tmp_path)


def test_a_line_with_too_many_or_too_few_cells_is_named(tmp_path: Path) -> None:
    for odd in ([*patients()[1], "more"], patients()[1][:3]):
        rows = patients()
        rows[2] = odd
        table(tmp_path / "north", rows)
        assert "line 4: not as many cells" in refusal(TABLE, tmp_path)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    table(tmp_path / "north", patients(), ("years", *HEAD[1:]))
    words = refusal(TABLE, tmp_path)
    assert "line 1: no column age; it has years, pressure, sex" in words


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_marks_than_commas_between_the_cells_are_named(mark: str, tmp_path: Path) -> None:
    file = table(tmp_path / "north", patients()) / "records.csv"
    file.write_text(file.read_text().replace(",", mark))
    words = refusal(TABLE, tmp_path)
    assert f"line 1: {mark!r} stands between the cells; write the table with commas" in words
    assert "rename" not in words


@pytest.mark.parametrize(
    ("label", "way"),
    [("Well", "did you mean well? Otherwise add it to"), ("dead", "well, ill; add it to")],
)
def test_a_label_that_is_near_to_a_declared_one_is_asked_about(
    label: str, way: str, tmp_path: Path
) -> None:
    rows = patients()
    rows[0][3] = label
    table(tmp_path / "north", rows)
    assert way in refusal(TABLE, tmp_path)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "north", [])
    assert "holds no record" in refusal(TABLE, tmp_path)
    (tmp_path / "north" / "records.csv").write_bytes(b"\xff\xfe\x00a")
    assert "cannot be read as a table in UTF-8" in refusal(TABLE, tmp_path)


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    table(tmp_path / "north", patients())
    before = opened(TABLE, tmp_path).x.copy()
    rows = patients()
    rows[0][0] = 90
    table(tmp_path / "north", rows)
    assert opened(TABLE, tmp_path).x[0, 0] == pytest.approx(4.0)
    assert before[0, 0] == pytest.approx(-1.0)


# ------------------------------------------------------------------------------------- images


def grey(value: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (8, 12), value)


def test_grey_values_become_minus_one_to_one_whatever_the_depth(tmp_path: Path) -> None:
    """Black, white and half of 8 bits, half of 16 bits, and a coloured image seen as grey."""
    deep = Image.fromarray(np.full((12, 8), 32768, np.uint16))
    red = Image.new("RGB", (8, 12), (255, 0, 0))
    files = {"0.png": grey(0), "1.png": grey(255), "2.png": grey(51), "3.png": deep, "4.png": red}
    pictures(tmp_path / "north", {**files, "5.jpg": grey(255)})
    x = opened(IMAGES, tmp_path).x
    assert x.shape == (6, 1, 6, 4)
    expected = [-1, 1, 2 * 51 / 255 - 1, 2 * 32768 / 65535 - 1, 2 * 76 / 255 - 1, 1]
    np.testing.assert_allclose(x.reshape(6, -1).mean(axis=1), expected, atol=2e-3)


def test_colours_are_channels(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 12), (255, 0, 51))
    pictures(tmp_path / "north", {f"{k}.png": red for k in range(4)} | {"g.png": grey(0)})
    source = OwnFiles(**{**vars(IMAGES), "shape": (3, 6, 4)})
    x = opened(source, tmp_path).x
    np.testing.assert_allclose(x[0].mean(axis=(1, 2)), [1, -1, -0.6], atol=1e-6)
    np.testing.assert_allclose(x[4], -1)


def test_dicom_is_read_after_its_own_rescaling(tmp_path: Path) -> None:
    """Signed 12-bit values in Hounsfield units: the header's least is -1, its most 1."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    place = pictures(tmp_path / "north", {f"{k}.png": grey(k) for k in range(4)})
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns, data.SamplesPerPixel = 12, 8, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = np.full((12, 8), 1024, np.uint16).tobytes()
    data.save_as(place / "images" / "ct.dcm", enforce_file_format=True)
    with (place / "labels.csv").open("a") as file:
        file.write("ct.dcm,a\n")
    x = opened(IMAGES, tmp_path).x
    np.testing.assert_allclose(x[4], 2 * 1024 / 4095 - 1, atol=1e-3)
    assert pydicom.dcmread(place / "images" / "ct.dcm").pixel_array.max() == 1024


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.png", None, "line 6: {}/north/images/gone.png does not exist"),
        ("../labels.csv", None, "does not exist; the files lie in"),
        ("text.png", b"not an image", "is no image that can be read"),
        ("text.dcm", b"not an image", "is no DICOM image that can be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    place = pictures(tmp_path / "north", {f"{k}.png": grey(k) for k in range(4)})
    with (place / "labels.csv").open("a") as file:
        file.write(f"{name},a\n")
    if content is not None:
        (place / "images" / name).write_bytes(content)
    found = refusal(IMAGES, tmp_path)
    assert words.format(tmp_path) in found
    assert "line 6" in found


# ------------------------------------------------------------------------------------- arrays


def arrays(place: Path, **changed: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    x = np.arange(16.0).reshape(8, 2)
    known = {"x": x, "y": np.arange(8) % 2, "patient": np.arange(8) // 2, "id": np.arange(8) + 100}
    kept = {key: value for key, value in {**known, **changed}.items() if value is not None}
    np.savez(place / "records.npz", **kept)


def test_arrays_by_hand(tmp_path: Path) -> None:
    arrays(tmp_path / "north")
    hospital = opened(ARRAYS, tmp_path)
    assert hospital.x[3].tolist() == [6, 7]
    assert (hospital.ids[3], hospital.patients[3]) == ("north/103", "north/1")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"y": None}, "it has the arrays ['id', 'patient', 'x'], and needs x and y"),
        ({"x": np.zeros((8, 3))}, "x has shape (8, 3); client.tasks.shape is [2]"),
        ({"x": np.full((8, 2), np.nan)}, "row 0: x holds a value that is not finite"),
        ({"y": np.array([0, 1, 2, 0, 1, 0, 1, 0])}, "row 2: label '2'"),
        ({"x": np.array([{}] * 8)}, "it cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    arrays(tmp_path / "north", **changed)
    assert words in refusal(ARRAYS, tmp_path)


# ------------------------------------------------------------------------ hospitals and their keys


def test_unseen_hospitals_hold_the_novel_classes_alone(tmp_path: Path) -> None:
    pictures(tmp_path / "west", {f"{k}.png": grey(k) for k in range(4)})
    with pytest.raises(DataError, match=r"label 'b'; hospital west \(unseen\) holds c, d"):
        opened(IMAGES, tmp_path, 2)


def test_a_deployed_hospitals_data_folder_is_its_own(tmp_path: Path) -> None:
    arrays(tmp_path)
    assert opened(ARRAYS, tmp_path).ids[0] == "north/100"


def test_a_hospital_without_files_is_told_what_to_put_where(tmp_path: Path) -> None:
    assert "holds none of records.npz, records.csv and labels.csv" in refusal(ARRAYS, tmp_path)
    assert "data example DIR" in refusal(ARRAYS, tmp_path)
    assert "is no folder" in refusal(ARRAYS, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("source", "write"),
    [
        (TABLE, lambda place: table(place, patients())),
        (ARRAYS, lambda place: arrays(place)),
        (IMAGES, lambda place: pictures(place, {f"{k}.png": grey(k) for k in range(4)})),
    ],
)
def test_where_records_lie_one_folder_below_it_is_named(
    source: OwnFiles, write: Any, tmp_path: Path
) -> None:
    """A hospital is spelled otherwise than its folder."""
    for name in ("nroth", "ouest"):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert "its own folders do: name one of nroth, ouest" in refusal(source, tmp_path)


def test_content_is_that_of_the_file_whatever_the_request_says(tmp_path: Path) -> None:
    """Another size, another scale and another seed give an image and a line no new budget."""
    pictures(tmp_path / "north", {f"{k}.png": grey(k) for k in range(4)})
    known = contents(opened(IMAGES, tmp_path), [0, 1, 2, 3])
    other = OwnFiles(**{**vars(IMAGES), "shape": (3, 9, 9)})
    assert contents(other.hospital(0, tmp_path, 9), [0, 1, 2, 3]) == known
    assert len(set(known)) == 4
    table(tmp_path / "t" / "north", patients())
    lines = contents(opened(TABLE, tmp_path / "t"), list(range(8)))
    scaled = OwnFiles(**{**vars(TABLE), "columns": (("age", 0.0, 1.0),), "choices": ()})
    assert contents(opened(scaled, tmp_path / "t"), list(range(8))) == lines
    assert len(set(lines)) == 8


def written_anew(rows: list[Any], head: tuple[str, ...]) -> Iterator[tuple[list[Any], Any]]:
    """The same patients' lines: under new names, with another diagnosis, in another order of
    columns, with numbers in another form, without names."""
    for place in (3, 4, 5):
        yield [[*row[:place], "x" + row[place], *row[place + 1 :]] for row in rows], head
    yield [row[::-1] for row in rows], head[::-1]
    yield [[f"{row[0]:.2f}", f"{row[1]:.1e}", *row[2:]] for row in rows], head
    yield [row[:4] for row in rows], head[:4]


def test_a_line_under_another_name_gets_no_new_budget(tmp_path: Path) -> None:
    source = OwnFiles(**{**vars(TABLE), "classes": ("well", "ill", "xwell", "xill")})
    table(tmp_path / "north", patients())
    known = contents(opened(source, tmp_path), list(range(8)))
    for rows, head in written_anew(patients(), HEAD):
        table(tmp_path / "north", rows, head)
        assert contents(opened(source, tmp_path), list(range(8))) == known, (head, rows[0])
    rows = patients()
    rows[0][0] += 1
    table(tmp_path / "north", rows)
    changed = contents(opened(source, tmp_path), list(range(8)))
    assert changed[0] != known[0]
    assert changed[1:] == known[1:]


def test_an_array_of_another_precision_or_id_gets_no_new_budget(tmp_path: Path) -> None:
    arrays(tmp_path / "north")
    known = contents(opened(ARRAYS, tmp_path), list(range(8)))
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    arrays(tmp_path / "north", x=x, id=np.arange(8) + 7)
    assert contents(opened(ARRAYS, tmp_path), list(range(8))) == known


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"unseen": ("north",)}, "name each hospital once"),
        ({"novel": ("a", "d")}, "name each label once"),
        ({"ways": 3}, r"ways = 3: novel has 2 labels"),
        ({"columns": (("age", 0.0, 1.0),)}, "and not both"),
        ({"shape": ()}, "give the shape of images or arrays"),
        ({"shape": (), "columns": (("age", 0.0, 0.0),)}, "a unit is 0"),
        ({"shape": (), "choices": (("sex", "f"),)}, "two different values or more"),
        ({"canonical": True}, "canonical = true needs ways"),
        ({"train": ("../x",)}, "should match pattern"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(OwnFiles).validate_python({**vars(IMAGES), **changed})
