"""MedMNIST: dealing, the package's loader, MD5, downloads, phantom folders, damaged files."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import medmnist
import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks import medmnist as ours
from metaward.client.tasks import medmnist_files
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.dealing import deal_evenly, deal_skewed
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.medmnist_images import Projection, to_input
from metaward.client.tasks.medmnist_sets import Size, suffix
from metaward.client.tasks.phantom_findings import FINDINGS
from metaward.client.tasks.scanner import Scanner, draw_scanner

DATA = os.environ.get("METAWARD_DATA")
real = pytest.mark.skipif(not DATA, reason="METAWARD_DATA is not set: no MedMNIST files")
COUNTS = {"train": 240, "val": 8, "test": 96}
Arrays = dict[str, np.ndarray[Any, Any]]


def made_up(flag: str, classes: int = 2, shape: tuple[int, ...] = (28, 28)) -> Arrays:
    """Random pictures; the published ones' layout."""
    rng, arrays = np.random.default_rng(list(flag.encode())), {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
        labels = np.arange(count) % classes
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    return arrays


class Folder:
    """A data folder whose made-up files the package takes for published ones."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, patch

    def write(self, flag: str, arrays: Arrays, below: str = "medmnist", size: Size = 28) -> Path:
        path = self.root / below / f"{flag}{suffix(size)}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)
        counts = {split: len(arrays[f"{split}_labels"]) for split in COUNTS}
        self.bless(flag, path, size, n_samples=counts)
        return path

    def bless(self, flag: str, path: Path, size: Size = 28, **facts: Any) -> None:
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        facts = {f"MD5{suffix(size)}": digest, **facts}
        self.patch.setitem(medmnist.INFO, flag, {**medmnist.INFO[flag], **facts})

    def write_phantom(self, flag: str, below: str = ".") -> Path:
        path = self.root / below / f"{flag}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **made_up(flag, len(FINDINGS)))
        entry = {
            "description": "made up",
            "MD5": hashlib.md5(path.read_bytes()).hexdigest(),
            "task": "multi-class",
            "label": {str(i): name for i, name in enumerate(FINDINGS)},
            "n_channels": 1,
            "n_samples": COUNTS,
        }
        path.with_name("phantom.json").write_text(json.dumps({flag: entry}))
        return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path, monkeypatch)
    for flag in ("breastmnist", "pneumoniamnist"):
        made.write(flag, made_up(flag))
    return made


def opened(source: MedMnist, root: Path, seed: int = 0) -> list[Hospital]:
    return [source.hospital(i, root, seed) for i in range(len(source.roster()))]


def test_roster_deals_sets_in_turn() -> None:
    names = [s.name for s in MedMnist(hospitals=3, unseen=2).roster()]
    assert names == [
        "breastmnist-01",
        "pneumoniamnist-01",
        "breastmnist-02",
        "breastmnist-unseen-01",
        "pneumoniamnist-unseen-01",
    ]
    roles = [s.role for s in MedMnist(hospitals=3, unseen=2).roster()]
    assert roles == ["train"] * 3 + ["unseen"] * 2
    left_out = MedMnist(datasets=("bloodmnist",), unseen_datasets=("dermamnist",), unseen=1)
    assert left_out.roster()[-1].name == "dermamnist-unseen-01"
    assert left_out.spec().vocabulary == 8
    assert left_out.spec().input_shape == (3, 28, 28)
    assert left_out.offset("dermamnist") == 8


@pytest.mark.parametrize("partition", ["dirichlet", "scanner", "modality"])
def test_every_record_is_dealt_once(folder: Folder, partition: Any) -> None:
    hospitals = opened(MedMnist(partition=partition), folder.root)
    assert len(hospitals) == 10
    owned = [set(h.ids[h.rows].tolist()) for h in hospitals]
    assert sum(map(len, owned)) == len(set().union(*owned)) == 2 * (240 + 96)
    for hospital, ids in zip(hospitals, owned, strict=True):
        split = "train" if hospital.seat.role == "train" else "test"
        flag = hospital.seat.name.split("-")[0]
        assert all(i.startswith(f"{flag}/{split}/") for i in ids)


def test_an_episode_holds_what_the_file_holds_and_one_set_only(folder: Folder) -> None:
    for hospital in opened(MedMnist(), folder.root):
        flag, split = hospital.seat.name.split("-")[0], hospital.ids[0].split("/")[1]
        arrays = made_up(flag)
        episode = hospital.episode(np.random.default_rng(0))
        rows = np.concatenate([episode.support_rows, episode.query_rows])
        seen = np.concatenate([episode.support_x, episode.query_x])
        labels = episode.classes[np.concatenate([episode.support_y, episode.query_y])]
        raw = arrays[f"{split}_images"][rows].astype(np.float64)
        np.testing.assert_allclose(seen[:, 0], raw / 127.5 - 1, atol=1e-6)
        first = 0 if flag == "breastmnist" else 2
        assert (labels - first).tolist() == arrays[f"{split}_labels"][rows, 0].tolist()
        assert len(set(rows.tolist())) == 30


def test_partition_follows_seed_and_nothing_else(folder: Folder) -> None:
    def rows(seed: int, **options: Any) -> list[str]:
        hospital = MedMnist(**options).hospital(0, folder.root, seed)
        return hospital.ids[hospital.rows].tolist()  # type: ignore[no-any-return]

    assert rows(0) == rows(0) == rows(0, download=True)
    assert rows(0) != rows(1)
    # another set beside it changes nothing for a hospital of this set
    alone = rows(0, datasets=("breastmnist",), hospitals=3, unseen=2)
    assert alone == rows(0)


def test_larger_skew_means_less_even_case_mixes(folder: Folder) -> None:
    def unevenness(skew: float) -> float:
        mixes = []
        for seed in range(20):
            source = MedMnist(datasets=("breastmnist",), hospitals=3, unseen=0, skew=skew)
            for hospital in opened(source, folder.root, seed):
                a, b = (len(rows) for rows in hospital.by_class.values())
                mixes.append(abs(a - b) / (a + b))
        return float(np.mean(mixes))

    even, mild, strong = unevenness(0), unevenness(0.1), unevenness(10)
    assert even == 0
    assert 0.02 < mild < strong - 0.1


def test_deal_skewed_leaves_nothing_out_and_keeps_its_promise() -> None:
    by_class = [np.arange(0, 30), np.arange(30, 130), np.arange(130, 400), np.arange(400, 404)]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        parts = deal_skewed(by_class, 5, ways=2, need=6, concentration=0.1, rng=rng)
        assert np.sort(np.concatenate(parts)).tolist() == list(range(404))
        for part in parts:
            held = [np.isin(part, own).sum() for own in by_class]
            assert sum(count >= 6 for count in held) >= 2


def test_deal_evenly() -> None:
    parts = deal_evenly([np.arange(10), np.arange(10, 21)], 2, np.random.default_rng(0))
    assert [((p < 10).sum(), (p >= 10).sum()) for p in parts] == [(5, 6), (5, 5)]


def test_copies_across_and_within_splits_are_dealt_once(folder: Folder) -> None:
    """Those of a published file, by a list of rows that goes by the file's published MD5."""
    arrays = made_up("breastmnist")
    arrays["train_images"][7] = arrays["train_images"][3]
    arrays["test_images"][5] = arrays["train_images"][100]
    arrays["test_images"][9] = arrays["test_images"][8]
    path = folder.write("breastmnist", arrays)
    listed = {hashlib.md5(path.read_bytes()).hexdigest(): {"train": "7", "test": "5 9"}}
    folder.patch.setattr(medmnist_files, "COPIES", listed)
    source = MedMnist(datasets=("breastmnist",), hospitals=3, unseen=2, partition="dirichlet")
    hospitals = opened(source, folder.root)
    dealt = {i for h in hospitals for i in h.ids[h.rows].tolist()}
    every = {f"breastmnist/{s}/{k:06d}" for s in ("train", "test") for k in range(COUNTS[s])}
    assert every - dealt == {
        "breastmnist/train/000007",
        "breastmnist/test/000005",
        "breastmnist/test/000009",
    }
    contents = [x.tobytes() for h in hospitals for x in h.x[h.rows]]
    assert len(set(contents)) == len(contents)


@real
def test_nulling_the_original_of_a_real_copy_deals_nobody_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 1366 of pneumoniamnist shows what row 226 shows, and stays out whatever 226 holds."""
    source = MedMnist(datasets=("pneumoniamnist",), hospitals=6, unseen=1)
    read, null = medmnist_files.read_pool, False

    def nulled(*arguments: Any) -> Any:
        pool = read(*arguments)
        images = pool.images.copy()
        if null and arguments[3] == "train":
            images[226] = 0
        return pool._replace(images=images)

    monkeypatch.setattr(ours, "read_pool", nulled)
    for name in ("_dealt", "_share"):
        monkeypatch.setattr(ours, name, getattr(ours, name).__wrapped__)
    one = [h.rows.tolist() for h in opened(source, Path(str(DATA)))]
    null = True
    assert [h.rows.tolist() for h in opened(source, Path(str(DATA)))] == one


def test_scanners_differ_and_leave_labels_alone(folder: Folder) -> None:
    source = MedMnist(partition="scanner", datasets=("breastmnist",), hospitals=2, unseen=2)
    arrays = made_up("breastmnist")
    hospitals = opened(source, folder.root)
    assert len({h.note["scanner"] for h in hospitals}) == 4
    for hospital in hospitals:
        split, rows = hospital.ids[0].split("/")[1], [int(i.split("/")[2]) for i in hospital.ids]
        np.testing.assert_array_equal(hospital.y, arrays[f"{split}_labels"][rows, 0])
        original = arrays[f"{split}_images"][rows]
        assert (hospital.x != original).mean() > 0.5
        assert abs(np.corrcoef(hospital.x.ravel(), original.ravel())[0, 1]) > 0.5
    again = opened(source, folder.root)
    np.testing.assert_array_equal(hospitals[0].x, again[0].x)
    still = MedMnist(partition="scanner", scanner=0).hospital(0, folder.root, 0)
    rows = [int(i.split("/")[2]) for i in still.ids]
    np.testing.assert_array_equal(still.x, arrays["train_images"][rows])


def test_scanner_by_hand() -> None:
    image = np.full((1, 28, 28), 51, np.uint8)  # 0.2
    rng = np.random.default_rng(0)
    assert (Scanner(1, 1, 0, 0).render(image, rng) == 51).all()
    assert (Scanner(2, 1, 0, 0).render(image, rng) == 102).all()
    assert (Scanner(1, 2, 0, 0).render(image, rng) == round(255 * 0.04)).all()
    assert (Scanner(9, 1, 0, 0).render(image, rng) == 255).all()
    flat = Scanner(1, 1, 0, 0.1).render(np.full((20, 28, 28, 3), 128, np.uint8), rng)
    assert abs(flat.std() / 25.5 - 1) < 0.05
    point = np.zeros((1, 28, 28, 3), np.uint8)
    point[0, 14, 14, 1] = 255
    spread = Scanner(1, 1, 1, 0).render(point, rng)
    assert spread[0, 14, 15, 1] > 0
    assert not spread[..., [0, 2]].any()  # blur never leaks between colours
    assert draw_scanner(0, rng) == (1, 1, 0, 0)


def test_colour_and_grey() -> None:
    red = np.zeros((2, 28, 28, 3), np.uint8)
    red[..., 0] = 255
    as_is = to_input(red, 3)
    assert as_is.shape == (2, 3, 28, 28)
    assert (as_is[:, 0] == 1).all()
    assert (as_is[:, 1:] == -1).all()
    np.testing.assert_allclose(to_input(red, 1), np.full((2, 1, 28, 28), 2 * 0.299 - 1), atol=1e-6)
    grey = to_input(np.full((2, 28, 28), 255, np.uint8), 3)
    assert grey.shape == (2, 3, 28, 28)
    assert (grey == 1).all()
    assert grey.dtype == as_is.dtype == np.float32


def test_colour_sets_run_beside_grey_ones_when_converted(folder: Folder) -> None:
    folder.write("dermamnist", made_up("dermamnist", 7, (28, 28, 3)))
    source = MedMnist(
        datasets=("breastmnist", "dermamnist"), channels=3, hospitals=2, unseen=2, queries=5
    )
    for hospital in opened(source, folder.root):
        assert hospital.episode(np.random.default_rng(0)).query_x.shape == (10, 3, 28, 28)


def test_volumes_are_projected(folder: Folder) -> None:
    arrays = made_up("nodulemnist3d", 2, (28, 28, 28))
    folder.write("nodulemnist3d", arrays)
    for how, axis in (("mean", 0), ("max", 2)):
        source = MedMnist(datasets=("nodulemnist3d",), projection=how, axis=axis, hospitals=2)  # type: ignore[arg-type]
        hospital = source.hospital(0, folder.root, 0)
        flat = getattr(arrays["train_images"][hospital.rows], how)(axis=axis + 1)
        np.testing.assert_array_equal(hospital.x[hospital.rows], np.round(flat).astype(np.uint8))
    assert Projection("max", 1)(np.ones((2, 28, 28, 28), np.uint8)).shape == (2, 28, 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"datasets": ("brainmnist",)},
            "datasets: brainmnist is unknown; allowed are pathmnist.*phantomct",
        ),
        ({"datasets": ()}, "datasets = .*at least one"),
        ({"datasets": ("breastmnist",) * 2}, "name each set once"),
        ({"hospitals": 1}, "1 hospitals cannot hold them all"),
        (
            {"unseen_datasets": ("octmnist", "tissuemnist"), "unseen": 1},
            "unseen_datasets.*1 hospitals",
        ),
        ({"ways": 3}, "ways = 3.*'breastmnist': 2"),
        ({"datasets": ("breastmnist", "dermamnist")}, "set channels to 1 or 3"),
        ({"canonical": True}, "canonical = true.*one data set"),
        ({"canonical": True, "datasets": ("octmnist",)}, "canonical = true.*'octmnist': 4"),
        ({"partition": "modality", "datasets": ("octmnist",)}, "at least two datasets"),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MedMnist(**options)


def test_canonical_labels_with_one_set(folder: Folder) -> None:
    source = MedMnist(datasets=("pneumoniamnist",), canonical=True)
    assert source.spec().canonical
    episode = source.hospital(0, folder.root, 0).episode(np.random.default_rng(3))
    assert episode.classes.tolist() == [0, 1]


def test_the_package_own_loader_reads_the_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = medmnist.dataset.MedMNIST.__init__

    def spy(self: Any, *args: Any, **options: Any) -> None:
        calls.append((type(self).__name__, options["split"], options["download"]))
        original(self, *args, **options)

    monkeypatch.setattr(medmnist.dataset.MedMNIST, "__init__", spy)
    opened(MedMnist(), folder.root)
    opened(MedMnist(), folder.root)
    assert sorted(calls) == [
        (name, split, False)
        for name in ("BreastMNIST", "PneumoniaMNIST")
        for split in ("test", "train")
    ]


def test_an_altered_byte_names_file_both_checksums_and_source(folder: Folder) -> None:
    path = folder.root / "medmnist" / "breastmnist.npz"
    MedMnist().hospital(0, folder.root, 0)
    expected = hashlib.md5(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    found = hashlib.md5(content).hexdigest()
    with pytest.raises(
        DataError, match=rf"breastmnist.npz is damaged: .*{found}.*{expected}.*zenodo.*download"
    ):
        MedMnist().hospital(0, folder.root, 0)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("train_images", lambda x: x[:, :14], r"train_images is \(240, 14, 28\).*\(240, 28, 28\)"),
        ("train_images", lambda x: x.astype(np.float32), "float32"),
        ("train_images", lambda x: x[:-1], r"\(239, 28, 28\)"),
        ("train_labels", lambda y: y + 1, "train_labels leave the range 0 to 1"),
        ("train_labels", lambda y: y[:, 0], r"train_labels is \(240,\)"),
        ("train_labels", lambda y: np.where(y > 0, np.nan, 0.0), "leave the range 0 to 1"),
    ],
)
def test_wrong_content_is_refused_even_with_the_right_md5(
    folder: Folder, key: str, change: Any, message: str
) -> None:
    arrays = made_up("breastmnist")
    folder.write("breastmnist", {**arrays, key: change(arrays[key])})
    with pytest.raises(DataError, match=rf"breastmnist.npz is damaged: .*{message}"):
        MedMnist().hospital(0, folder.root, 0)


def test_truncated_file_with_the_right_md5_is_refused(folder: Folder) -> None:
    path = folder.root / "medmnist" / "breastmnist.npz"
    path.write_bytes(path.read_bytes()[:1000])
    folder.bless("breastmnist", path)
    with pytest.raises(DataError, match=r"breastmnist.npz is damaged: medmnist cannot read it"):
        MedMnist().hospital(0, folder.root, 0)


def test_missing_file_names_address_and_both_ways_out(tmp_path: Path) -> None:
    message = r"breastmnist.npz does not exist.*METAWARD_DATA.*https://zenodo.*download: true"
    with pytest.raises(DataError, match=message):
        MedMnist().hospital(0, tmp_path, 0)
    with pytest.raises(DataError, match=r"medmnist/breastmnist.npz is needed.*data.root"):
        MedMnist(download=True).hospital(0, None, 0)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A web server on this machine in place of Zenodo: its folder and its address."""
    served = tmp_path_factory.mktemp("served")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(served))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield served, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("size", [28, 64])
def test_download_fetches_checks_and_keeps(
    folder: Folder, server: tuple[Path, str], size: Size
) -> None:
    served, address = server
    path = folder.write("breastmnist", made_up("breastmnist", shape=(size, size)), size=size)
    path.rename(served / path.name)
    url = {f"url{suffix(size)}": f"{address}/{path.name}"}
    folder.bless("breastmnist", served / path.name, size, **url)
    with pytest.raises(DataError, match="does not exist"):
        MedMnist(size=size).hospital(0, folder.root, 0)
    hospital = MedMnist(size=size, download=True).hospital(0, folder.root, 0)
    assert len(hospital.rows) > 30
    assert path.read_bytes() == (served / path.name).read_bytes()
    again = MedMnist(size=size).hospital(0, folder.root, 0)
    assert again.rows.tolist() == hospital.rows.tolist()


@pytest.mark.parametrize("broken", ["no such file", "other content", "no server"])
def test_failed_download_names_file_and_address_and_leaves_nothing(
    folder: Folder, server: tuple[Path, str], broken: str
) -> None:
    served, address = server
    path = folder.root / "medmnist" / "breastmnist.npz"
    if broken == "other content":
        (served / "breastmnist.npz").write_bytes(path.read_bytes()[:-9])
    port = "http://127.0.0.1:1" if broken == "no server" else address
    folder.bless("breastmnist", path, url=f"{port}/breastmnist.npz")
    path.unlink()
    with pytest.raises(
        DataError, match=rf"breastmnist.npz could not be downloaded from {port}/.*by hand"
    ):
        MedMnist(download=True).hospital(0, folder.root, 0)
    assert [p.name for p in path.parent.iterdir()] == ["pneumoniamnist.npz"]


@pytest.mark.parametrize("below", [".", "medmnist"])
def test_phantom_folders_are_read_like_the_published_sets(folder: Folder, below: str) -> None:
    path = folder.write_phantom("phantomct", below)
    source = MedMnist(datasets=("phantomct",), ways=3, shots=1, queries=2, hospitals=2, unseen=2)
    assert source.spec().vocabulary == len(FINDINGS)
    hospital = source.hospital(0, folder.root, 0)
    np.testing.assert_array_equal(hospital.x, np.load(path)["train_images"])
    np.testing.assert_array_equal(hospital.y, np.load(path)["train_labels"][:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:50], r"phantom.json is damaged \("),
        (lambda text: "[]", "phantom.json is damaged: no data sets"),
        (lambda text: "{}", "phantomct lacks MD5"),
        (lambda text: text.replace('"n_channels": 1', '"n_channels": 3'), "other classes or chan"),
        (lambda text: text.replace('"MD5": "', '"MD5": "0'), "its MD5 is"),
        (None, "phantom.json is missing"),
    ],
)
def test_damaged_phantom_indexes_are_refused(folder: Folder, change: Any, message: str) -> None:
    index = folder.write_phantom("phantomct").with_name("phantom.json")
    if change:
        index.write_text(change(index.read_text()))
    else:
        index.unlink()
    source = MedMnist(datasets=("phantomct",), ways=2, shots=1, queries=1)
    with pytest.raises(DataError, match=message):
        source.hospital(0, folder.root, 0)


def test_too_few_records_name_the_set_and_the_way_out(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"breastmnist.npz: 0 classes of the train.*10 hospitals"):
        MedMnist(hospitals=20).hospital(0, folder.root, 0)
    with pytest.raises(DataError, match=r"hospital breastmnist-01: 0 classes"):
        MedMnist(hospitals=20, partition="modality").hospital(0, folder.root, 0)


def test_torchvision_is_never_imported(folder: Folder) -> None:
    """medmnist needs it for its own downloads only; importing it takes seconds."""
    folder.write_phantom("phantomct")
    script = (
        "import sys; from pathlib import Path\n"
        "from metaward.client.tasks.medmnist import MedMnist\n"
        "s = MedMnist(datasets=('phantomct',), shots=1, queries=1, download=True)\n"
        "s.hospital(0, Path(sys.argv[1]), 0)\n"
        "assert 'medmnist' in sys.modules and 'torchvision' not in sys.modules"
    )
    where = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script, str(folder.root)], cwd=where, check=True)


def test_the_package_is_imported_on_first_use_only() -> None:
    script = "import sys, client.tasks.medmnist; assert 'medmnist' not in sys.modules"
    where = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script], cwd=where, check=True)


@real
@pytest.mark.parametrize("partition", ["dirichlet", "scanner", "modality"])
def test_real_hospitals_fill_the_default_task(partition: Any) -> None:
    for hospital in opened(MedMnist(partition=partition), Path(str(DATA))):
        episode = hospital.episode(np.random.default_rng(0))
        assert episode.query_x.shape == (20, 1, 28, 28), hospital.seat


@real
@pytest.mark.parametrize(
    ("flag", "train", "test"), [("breastmnist", 546, 155), ("pneumoniamnist", 4690, 621)]
)
def test_real_copies_are_left_out(flag: str, train: int, test: int) -> None:
    """1 breast image of test stands in train; 18 + 3 pneumonia images repeat within a split."""
    source = MedMnist(datasets=(flag,), hospitals=2, unseen=1)
    hospitals = opened(source, Path(str(DATA)))
    assert sum(len(h.rows) for h in hospitals[:2]) == train
    assert len(hospitals[2].rows) == test
    contents = [x.tobytes() for h in hospitals for x in h.x[h.rows]]
    assert len(set(contents)) == len(contents)


@real
def test_real_nearest_centroid_reaches_its_known_floor() -> None:
    """2-way 5-shot on pixels: pneumonia about 71 %, breast about 58 % (whole test split)."""
    rng = np.random.default_rng(0)
    for flag, floor in (("pneumoniamnist", 0.708), ("breastmnist", 0.578)):
        source = MedMnist(datasets=(flag,), unseen=1)
        hospital, right = source.hospital(6, Path(str(DATA)), 0), []
        for _ in range(300):
            episode = hospital.episode(rng)
            centre = episode.support_x.reshape(2, 5, -1).mean(axis=1)
            far = ((episode.query_x.reshape(20, 1, -1) - centre) ** 2).sum(axis=2)
            right.append((far.argmin(axis=1) == episode.query_y).mean())
        assert abs(np.mean(right) - floor) < 0.04
