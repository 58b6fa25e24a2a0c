"""Recordings in a hospital's folder: which windows are cut, what is refused, and their keys."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from metaward.client.charging import contents
from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.folder import OwnFiles
from metaward.client.tasks.folder_windows import REACH, Cut, Recording, content

wfdb = pytest.importorskip("wfdb")

FS, LENGTH = 100, 2000
AT = np.arange(150, 1900, 100)
SYMBOLS = ["NV"[k % 2] for k in range(len(AT))]
ONE = Recording(rate=100.0, leads=("I",), ignore=("+",))
SOURCE = OwnFiles(
    train=("north",),
    unseen=("west",),
    classes=("N", "V"),
    shape=(1, 40),
    recording=ONE,
    ways=2,
    shots=1,
    queries=1,
)


def stored(seed: int = 0, length: int = LENGTH) -> np.ndarray[Any, Any]:
    """Two leads, in steps of 1 / 200 mV."""
    return np.random.default_rng(seed).integers(-800, 800, (length, 2)).astype(np.int64)


def write(
    place: Path,
    name: str = "a",
    signal: np.ndarray[Any, Any] | None = None,
    at: Any = AT,
    symbols: Any = SYMBOLS,
    ending: str = "atr",
    **more: Any,
) -> Path:
    """A recording of two leads and its annotations; the folder."""
    place.mkdir(parents=True, exist_ok=True)
    signal = stored() if signal is None else signal
    facts = {"fs": FS, "units": ["mV"] * 2, "sig_name": ["I", "V1"], "fmt": ["16"] * 2}
    scale = {"adc_gain": [200.0] * 2, "baseline": [0, 0]}
    wfdb.wrsamp(name, d_signal=signal, write_dir=str(place), **{**facts, **scale, **more})
    wfdb.wrann(name, ending, np.asarray(at), symbol=list(symbols), write_dir=str(place))
    return place


def asking(source: OwnFiles, shape: tuple[int, ...] | None = None, **recording: Any) -> OwnFiles:
    asked = replace(ONE, **recording)
    return replace(source, recording=asked, shape=shape or source.shape)


def opened(root: Path, source: OwnFiles = SOURCE, **recording: Any) -> Hospital:
    return asking(source, **recording).hospital(0, root, 1)


def refusal(root: Path, source: OwnFiles = SOURCE, **recording: Any) -> str:
    with pytest.raises(DataError) as error:
        opened(root, source, **recording)
    return str(error.value)


# ------------------------------------------------------------------------------------ windows


def test_a_beat_by_hand(tmp_path: Path) -> None:
    """Its window has the annotation in the middle, in millivolts; its names are the folder's."""
    write(tmp_path / "north")
    hospital = opened(tmp_path)
    assert hospital.x.shape == (len(AT), 1, 40)
    assert SOURCE.spec().input_shape == (1, 40)
    np.testing.assert_allclose(hospital.x[2, 0], stored()[330:370, 0] / 200, atol=1e-6)
    assert hospital.y.tolist() == [k % 2 for k in range(len(AT))]
    assert (hospital.ids[2], hospital.patients[2]) == ("north/a/350", "north/a")


def test_leads_are_taken_by_name_in_the_order_of_the_yaml(tmp_path: Path) -> None:
    write(tmp_path / "north")
    turned = opened(tmp_path, shape=(2, 40), leads=("V1", "I")).x
    np.testing.assert_allclose(turned[0], stored()[130:170, ::-1].T / 200, atol=1e-6)
    np.testing.assert_array_equal(opened(tmp_path, shape=(2, 40), leads=()).x, turned[:, ::-1])


def test_windows_are_centred_and_scaled_by_themselves_and_the_yaml(tmp_path: Path) -> None:
    write(tmp_path / "north")
    plain, seen = opened(tmp_path).x, opened(tmp_path, centred=True, scale=0.5).x
    np.testing.assert_allclose(seen.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(seen, 2 * (plain - plain.mean(axis=2, keepdims=True)), atol=1e-5)


@pytest.mark.parametrize(("rate", "samples"), [(50.0, 40), (250.0, 101), (128.0, 63)])
def test_another_sampling_rate_keeps_a_slow_wave_and_its_place(rate: float, samples: int) -> None:
    """A wave of 2 Hz around a sample, seen at the rate that is asked for."""
    time = np.arange(LENGTH) / FS
    wave = np.sin(2 * np.pi * 2 * time)[:, None]
    cut = Cut(samples, rate, FS)
    windows, whole = cut.windows(wave, np.array([500, 1013]))
    assert windows.shape == (2, 1, samples)
    assert whole.all()
    for at, window in zip((500, 1013), windows[:, 0], strict=True):
        seen = at / FS + (np.arange(samples) - samples // 2) / rate
        inner = slice(samples // 5, -samples // 5)  # the filter knows nothing beyond the window
        np.testing.assert_allclose(window[inner], np.sin(2 * np.pi * 2 * seen)[inner], atol=0.1)


@pytest.mark.parametrize("rate", [37.0, 99.0, 100.0, 101.0, 257.5, 999.0])
@pytest.mark.parametrize("fs", [63.3, 100.0, 257.0, 360.0])
def test_a_window_lies_within_what_is_charged_for(rate: float, fs: float) -> None:
    samples = int(2 * REACH * rate)
    cut = Cut(samples, rate, fs)
    signal = np.arange(4000)[:, None]
    charged = np.frombuffer(content(signal, 2000, fs), "<i8")
    assert charged[0] <= 2000 - cut.before < 2000 + cut.after - 1 <= charged[-1]
    assert cut.windows(signal.astype(float), np.array([2000]))[0].shape == (1, 1, samples)


def test_beats_too_near_to_an_end_are_counted_and_left_out(tmp_path: Path) -> None:
    at, symbols = [19, 20, *AT, 1980, 1981], [*"NV", *SYMBOLS, *"NV"]
    write(tmp_path / "north", at=at, symbols=symbols)
    hospital = opened(tmp_path)
    ids = hospital.ids.tolist()
    assert "north/a/20" in ids
    assert "north/a/1980" in ids
    assert len(ids) == len(at) - 2
    assert hospital.note["left out"] == "too near to an end of the recording: a 2"


def test_a_symbol_is_left_out_only_where_the_yaml_says_so(tmp_path: Path) -> None:
    write(tmp_path / "north", at=[100, *AT], symbols=["+", *SYMBOLS])
    assert opened(tmp_path).note["left out"].endswith("recording.ignore names: + 1")
    words = refusal(tmp_path, ignore=())
    assert "a.atr, sample 100: label '+'; hospital north (train) holds N, V" in words
    assert "recording.ignore" in words


# ------------------------------------------------------------------------- what the folder says


def test_records_name_what_is_read_and_patients_whose_it_is(tmp_path: Path) -> None:
    place = write(tmp_path / "north")
    write(place / "more", "b", stored(1))
    write(place, "c", stored(2))
    (place / "RECORDS").write_text("a\n\nmore/b\n")
    (place / "patients.csv").write_text("record,patient\na,anna\nmore/b,anna\n")
    hospital = opened(tmp_path)
    assert set(hospital.patients.tolist()) == {"north/anna"}
    assert {one.rsplit("/", 1)[0] for one in hospital.ids.tolist()} == {"north/a", "north/more/b"}


def test_the_folder_and_not_the_yaml_names_the_annotator(tmp_path: Path) -> None:
    place = write(tmp_path / "north")
    wfdb.wrann("a", "qrs", AT + 2, symbol=SYMBOLS, write_dir=str(place))
    assert opened(tmp_path).ids[0] == "north/a/150"
    (place / "ANNOTATORS").write_text("qrs\tfound by a program\n")
    assert opened(tmp_path).ids[0] == "north/a/152"
    (place / "ANNOTATORS").write_text("qrs\natr\n")
    assert "names 2 annotators (qrs, atr); leave the line of the one" in refusal(tmp_path)


def test_a_recording_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path / "north")
    before = opened(tmp_path).x.copy()
    write(tmp_path / "north", signal=-stored())
    np.testing.assert_allclose(opened(tmp_path).x, -before)


# ------------------------------------------------------------------------------------- faults


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p / "a.dat").unlink(), "a.hea: its signal {}/a.dat does not exist"),
        (lambda p: (p / "a.atr").unlink(), "a.hea: {}/a.atr does not exist"),
        (lambda p: (p / "a.hea").write_text("~ ~ ~"), "a.hea is no header that can be read"),
        (lambda p: (p / "a.hea").write_text("a/2 1 100 9\na_1 9\n"), "a.hea is a recording in seg"),
        (lambda p: (p / "a.hea").write_text("a 0 100 9\n"), "a.hea has no leads"),
        (
            lambda p: (p / "a.dat").write_bytes(b"12"),
            "a.hea says that a.dat holds 2000 x 2 samples",
        ),
        (lambda p: shorten(p / "a.dat"), "a.hea: its signal a.dat cannot be read"),
        (lambda p: damage(p / "a.dat"), "a.hea: lead I has the checksum"),
        (lambda p: (p / "RECORDS").write_text("a\nb\n"), "RECORDS, line 2: {}/b.hea does not"),
        (lambda p: (p / "RECORDS").write_text("../x\n"), "RECORDS, line 1: {}/../x.hea does not"),
        (lambda p: (p / "RECORDS").write_text("\n"), "RECORDS names no recording"),
        (lambda p: (p / "RECORDS").write_bytes(b"\xff"), "RECORDS cannot be read as text in UTF-8"),
        (
            lambda p: (p / "patients.csv").write_text("record,patient\nb,anna\n"),
            "patients.csv has no line for recording a",
        ),
        (
            lambda p: (p / "patients.csv").write_text("record,patient\na,x\na,y\n"),
            "patients.csv, line 3: recording a has a line above",
        ),
        (lambda p: write(p, at=[150, 150], symbols="NN"), "sample 150: id 'a/150' is that of"),
        (lambda p: write(p, fs=200_000), "200000 samples a second; client.tasks.recording.rate is"),
    ],
)
def test_a_fault_is_named_with_file_and_line(change: Any, words: str, tmp_path: Path) -> None:
    place = write(tmp_path / "north")
    shutil.copy(place / "a.hea", tmp_path / "x.hea")
    change(place)
    assert words.format(place) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"leads": ()},
            "a.hea: 2 leads; it has I, V1, and client.tasks.shape = [1, 40] asks",
        ),
        ({"leads": ("II",)}, "a.hea: no lead II; it has I, V1"),
        ({"units": "uV"}, "a.hea: lead I is in mV; client.tasks.recording.units is uV"),
    ],
)
def test_leads_that_do_not_fit_are_named(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    write(tmp_path / "north")
    assert words in refusal(tmp_path, **changed)


def test_a_gap_in_a_beat_is_named_with_its_sample(tmp_path: Path) -> None:
    signal = stored()
    signal[255, 0] = -32768  # format 16 marks missing samples so
    write(tmp_path / "north", signal=signal)
    assert "a.hea: around sample 250 the signal has gaps" in refusal(tmp_path)
    assert len(opened(tmp_path, leads=("V1",)).x) == len(AT)


def test_recordings_without_the_key_or_the_package_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "north")
    with pytest.raises(DataError, match=r"say in client.tasks.recording what is taken"):
        replace(SOURCE, recording=None).hospital(0, tmp_path, 1)
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert "pip install 'metaward[physionet]' reads it" in refusal(tmp_path)


# --------------------------------------------------------------------------------- their keys


def test_no_request_gives_a_beat_a_new_budget(tmp_path: Path) -> None:
    write(tmp_path / "north", at=[60, *AT, 1950], symbols=["N", *SYMBOLS, "V"])

    def known(seed: int, shape: tuple[int, ...], **recording: Any) -> dict[str, str]:
        found = asking(SOURCE, shape, **recording).hospital(0, tmp_path, seed)
        return dict(zip(found.ids.tolist(), contents(found, found.rows.tolist()), strict=True))

    first = known(1, SOURCE.shape)
    assert len(set(first.values())) == len(AT) + 2
    for seed, shape, recording in (
        (2, (1, 40), {"leads": ("V1",)}),
        (1, (2, 40), {"leads": (), "scale": 3.0, "centred": True}),
        (1, (1, 200), {}),
        (1, (1, 31), {"rate": 73.5}),
        (1, (1, 40), {"ignore": ("+", "x")}),
    ):
        found = known(seed, shape, **recording)
        assert len(found) >= len(AT) - 2
        assert found.items() <= first.items()


def test_a_renamed_recording_keeps_its_contents(tmp_path: Path) -> None:
    write(tmp_path / "one" / "north")
    write(tmp_path / "two" / "north", "renamed")
    one, two = (opened(tmp_path / name) for name in ("one", "two"))
    assert not set(one.ids.tolist()) & set(two.ids.tolist())
    assert contents(one, one.rows.tolist()) == contents(two, two.rows.tolist())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shape": (40,)}, "recordings need .leads, samples."),
        ({"shape": (1, 201)}, "a window goes further than 1 s from its annotation"),
        ({"shape": (2, 40)}, "name each lead once, and as many as shape"),
        ({"classes": ("N", "+")}, r"recording.ignore = \['\+'\]: these are classes, too"),
        ({"recording": {"rate": 0.0}}, "greater than or equal to 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(OwnFiles).validate_python({**vars(SOURCE), **changed})
