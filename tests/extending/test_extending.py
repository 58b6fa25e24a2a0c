"""The trials of docs/extending.md that have no test elsewhere: each is one file and one line."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metaward as mw
from metaward import sim
from metaward.client.errors import DataError
from metaward.privacy import Batch, Opening, Use
from metaward.privacy.noise import SeededNoise
from tests.door.conftest import nothing_stays_registered
from tests.extending.folder import Folder
from tests.extending.normalised import Normalised

__all__ = ["nothing_stays_registered"]

FINDINGS = np.random.default_rng(3).normal(size=(4, 6))


@pytest.fixture
def wards(tmp_path: Path) -> Path:
    """A data folder with a file for each of four hospitals."""
    (tmp_path / "wards").mkdir()
    for number, name in enumerate(("north", "west", "south", "east")):
        rng = np.random.default_rng(number)
        y = rng.integers(0, 4, 120)
        x = (FINDINGS[y] + 0.4 * rng.normal(size=(120, 6))).astype(np.float32)
        patients = np.array([f"{name}-{k // 2}" for k in range(120)])
        np.savez(tmp_path / "wards" / f"{name}.npz", x=x, y=y, patients=patients)
    return tmp_path


def run_of(wards: Path, privacy: dict[str, Any]) -> sim.Sim:
    return mw.load(
        {
            "data": {"root": str(wards)},
            "client": {
                "tasks": {
                    "source": "wards",
                    "training": ["north", "west"],
                    "unseen": ["south", "east"],
                    "features": 6,
                    "findings": 4,
                    "ways": 3,
                    "shots": 2,
                    "queries": 3,
                },
                "model": {"network": "mlp", "hidden": [8]},
                "inner": {"algorithm": "fomaml", "lr": 0.1, "steps": 2, "adapt_steps": 5},
                "schedule": "passes",
            },
            "privacy": privacy,
            "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 1.0}},
            "server": {
                "rounds": 3,
                "workers": 1,
                "evaluation": {"episodes": 2, "final_episodes": 10, "baselines": ["untrained"]},
            },
        }
    )


# ------------------------------------------------------------------- a source from a folder


def test_tasks_come_from_files_in_a_folder(wards: Path, tmp_path: Path) -> None:
    mw.register.tasks("wards", Folder)
    result = mw.run(run_of(wards, {"mechanism": "none"}), tmp_path / "out")
    assert [row["learner"] for row in result.table] == ["fomaml", "fomaml, untrained"]
    assert result.table[0]["after"] > 1 / 3


def test_a_missing_file_is_named(wards: Path) -> None:
    (wards / "wards" / "west.npz").unlink()
    source = Folder(training=("north", "west"), features=6)
    with pytest.raises(DataError, match=r"wards/west\.npz does not exist: put the file there"):
        source.hospital(1, wards, 0)


# ------------------------------------------------- a mechanism for a unit that is there already


def mean_of(vectors: torch.Tensor, sigma: float) -> torch.Tensor:
    """The mechanism's mean of these vectors, each a record's (n, d)."""
    rows = np.arange(len(vectors))
    uses = [Use("support", tuple(rows.tolist()))]
    opening = Opening(uses, {"support": sigma}, rows, SeededNoise(1))
    session = Normalised(clip_norm=2.0).session(opening)
    batch = Batch(vectors, torch.zeros(len(vectors)), rows)
    return session.mean([(lambda x, y: x, batch)], "support", vectors.shape[1])


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6, float("inf"), float("nan")])
def test_a_record_moves_a_sum_by_no_more_than_the_clip_norm(size: float) -> None:
    vectors = torch.ones(4, 5)
    vectors[1] *= size
    nulled = vectors.clone()
    nulled[1] = 0
    moved = 4 * (mean_of(vectors, 0.0) - mean_of(nulled, 0.0)).double().norm()
    assert moved <= 2.0 * (1 + 1e-6)


def test_a_short_vector_counts_almost_as_much_as_a_long_one() -> None:
    short, long = torch.tensor([[0.1, 0.0]]), torch.tensor([[1000.0, 0.0]])
    assert float(mean_of(short, 0.0)[0] / mean_of(long, 0.0)[0]) == pytest.approx(0.83, abs=0.01)


def test_its_noise_is_what_the_price_says() -> None:
    values = mean_of(torch.zeros(1, 20_000), 3.0).double()
    assert float(values.std()) == pytest.approx(3.0 * 2.0, rel=0.03)


def test_a_run_is_priced_charged_and_reported_under_its_name(wards: Path, tmp_path: Path) -> None:
    mw.register.tasks("wards", Folder)
    mw.register.mechanism("normalised", Normalised)
    run = run_of(wards, {"mechanism": "normalised", "unit": "record", "epsilon": 8})
    result = mw.run(run, tmp_path / "out")
    report = (tmp_path / "out" / "privacy.json").read_text(encoding="utf-8")
    assert '"normalised"' in report
    spent = [float(x) for x in re.findall(r'"this_run": ([0-9.]+)', report)]
    assert Counter(round(x, 3) for x in spent) == Counter({8.0: 2})
    assert len(result.table) == 2


def test_it_refuses_units_that_it_cannot_protect(wards: Path) -> None:
    mw.register.tasks("wards", Folder)
    mw.register.mechanism("normalised", Normalised)
    with pytest.raises(mw.ConfigError, match="unit: patient cannot be protected by mechanism norm"):
        run_of(wards, {"mechanism": "normalised", "unit": "patient"})


# --------------------------------------------------------------------------- the page itself


def test_the_page_names_files_that_are_there() -> None:
    text = (sim.HERE / "docs" / "extending.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[a-z_/]+\.py)`", text)
    assert len(named) >= 8
    assert all((sim.HERE / path).is_file() for path in named), named
