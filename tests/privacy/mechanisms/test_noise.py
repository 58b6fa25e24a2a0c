"""The noise in what mechanisms really give: its scale, and that it is fresh every time.

What a mechanism gives, less what it gives without noise, is the noise; over its claimed standard
deviation it must be N(0, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from metaward import sim
from metaward.client.desk import read_desk
from metaward.client.node import open_node
from metaward.privacy import Opening, Use
from metaward.privacy.mechanisms.sums import Sums
from metaward.privacy.noise import Noise, SeededNoise, SystemNoise, deviation
from metaward.privacy.session import Batch, Kind
from metaward.privacy.wire import Request
from metaward.server.protection import protection
from tests.mechanisms import protecting, spelled

N = 60_000
"""Coordinates. Kolmogorov-Smirnov at level 1e-6: D stays below sqrt(ln(2e6) / 2N) = 0.011. Half the
deviation moves the distribution function by 0.16, 1.1 times by 0.023: either is missed with
probability below 2 exp(-2N (0.023 - 0.011)^2) = 6e-8 (Massart)."""

ALPHA, SIGMA, CLIP = 1e-6, 1.7, 0.4
SOURCES: list[Callable[[], Noise]] = [SystemNoise, lambda: SeededNoise(3)]
RECORD_KINDS: tuple[Kind, ...] = ("support", "query", "adjoint", "features", "moments")
NORMS = {"support": 0.4, "query": 1.1, "adjoint": 0.02, "features": 7.0, "moments": 0.4}
Floats = NDArray[np.float64]


def record_noise(unit: str, kind: Kind, noise: Noise, sums: int = 1, n: int = N) -> Floats:
    """Noise (sums, n) of a session's sums over six records of three patients."""
    norms = {f"clip_{k}": NORMS[k] for k in ("query", "adjoint", "features")}
    mechanism = protecting(unit, clip_norm=NORMS["support"], **norms)
    assert isinstance(mechanism, Sums)
    who = np.arange(6) // 2 if unit == "patient" else np.arange(6)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, n)))
    batch = Batch(x, torch.arange(6), np.arange(6))
    mask = torch.ones(n, dtype=torch.bool)

    def means(sigma: float) -> Floats:
        uses = [Use(kind, tuple(range(6)))] * sums
        session = mechanism.session(Opening(uses, {kind: sigma}, who, noise))
        if kind in ("support", "query"):
            found = [
                session.gradient(lambda p, x, y: x @ p, [(x[0], batch)], kind, mask)[0]
                for _ in range(sums)
            ]
        else:
            found = [session.mean([(lambda x, y: x, batch)], kind, n) for _ in range(sums)]
        return torch.stack(found).numpy()

    return np.asarray((means(SIGMA) - means(0.0)) * 6)


def task_noise(noise: Noise) -> Floats:
    vectors = list(torch.from_numpy(np.random.default_rng(0).normal(size=(3, N))))

    def mean(sigma: float) -> Floats:
        uses = [Use("update", (row,)) for row in range(3)]
        opening = Opening(uses, {"update": sigma}, np.arange(3), noise)
        return protecting("task", clip_norm=CLIP).session(opening).combine(vectors).numpy()

    return np.asarray((mean(SIGMA) - mean(0.0)) * 3)


def server_noise(noise: Noise) -> Floats:
    updates = np.random.default_rng(0).normal(size=(3, N)).astype(np.float32)
    mechanism = protecting("hospital", clip_norm=CLIP)
    noised, quiet = (
        mechanism.at_server(updates, lambda u: u[0], sigma, noise) for sigma in (SIGMA, 0.0)
    )
    return np.asarray((noised.astype(np.float64) - quiet) * 3)


def is_normal(values: Floats, scale: float) -> bool:
    return bool(stats.kstest(values.ravel(), "norm", args=(0, scale)).pvalue > ALPHA)


def holds(values: Floats, clip: float) -> None:
    """The claimed scale and no other; at least the multiplier times the clip norm."""
    claimed = deviation(clip, SIGMA, N)
    assert SIGMA * clip <= claimed <= 1.001 * SIGMA * clip
    found = {factor: is_normal(values, factor * claimed) for factor in (0.5, 1 / 1.1, 1.0, 1.1, 2)}
    assert found == {0.5: False, 1 / 1.1: False, 1.0: True, 1.1: False, 2: False}


each_source = pytest.mark.parametrize("source", SOURCES, ids=["system", "seeded"])


@each_source
@pytest.mark.parametrize("kind", RECORD_KINDS)
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_sums_over_records(unit: str, kind: Kind, source: Callable[[], Noise]) -> None:
    holds(record_noise(unit, kind, source()), NORMS[kind])


@each_source
def test_sums_over_tasks(source: Callable[[], Noise]) -> None:
    holds(task_noise(source()), CLIP)


@each_source
def test_sums_over_hospitals(source: Callable[[], Noise]) -> None:
    holds(server_noise(source()), CLIP)


def test_a_mean_over_several_tasks_has_one_noise() -> None:
    """Two tasks of three records: one noise over six, so half of what two noises would come to."""
    mechanism, x = protecting("record", clip_norm=CLIP), torch.ones(6, N, dtype=torch.float64)
    contributions = [
        (lambda x, y: x, Batch(x[rows], torch.arange(3), np.array(rows)))
        for rows in ([0, 1, 2], [3, 4, 5])
    ]
    use = Use("support", tuple(range(6)))

    def mean(sigma: float) -> Floats:
        opening = Opening([use], {"support": sigma}, np.arange(6), SeededNoise(4))
        return np.asarray(mechanism.session(opening).mean(contributions, "support", N).numpy())

    holds((mean(SIGMA) - mean(0.0)) * 6, CLIP)


# --------------------------------------------------------------------------- freshness


def largest(rows: Floats) -> float:
    """Of the correlations of each two rows."""
    return float(np.abs(np.corrcoef(rows)[np.triu_indices(len(rows), 1)]).max())


FRESH = 6.5 / N**0.5
"""The largest of some 50 correlations of independent rows exceeds 6.5 of their deviations of
1 / sqrt(N) with probability 50 * 8e-11; repeated noise has correlation 1."""


@each_source
def test_steps_are_fresh(source: Callable[[], Noise]) -> None:
    rows = record_noise("record", "support", source(), sums=6)
    assert largest(rows) < FRESH
    assert largest(np.stack([rows[0], rows[0]])) > 0.999


@each_source
def test_sessions_and_mechanisms_are_fresh(source: Callable[[], Noise]) -> None:
    """One source goes on from one session to the next."""
    noise = source()
    rows = [record_noise(unit, kind, noise)[0] for unit in ("record", "patient") for kind in NORMS]
    assert largest(np.stack([*rows, task_noise(noise), server_noise(noise)])) < FRESH


@each_source
def test_layers_are_fresh(source: Callable[[], Noise]) -> None:
    """Ten pieces of one sum: noise drawn for one layer is not used for the next."""
    pieces = record_noise("record", "support", source())[0].reshape(10, -1)
    assert largest(pieces) < FRESH * 10**0.5


def guards(folder: Path) -> Iterator[tuple[str, Noise]]:
    """The noise that hospitals are given for several requests of one run."""
    run = sim.load(
        sim.HERE / "configs/phantom.yaml", ["privacy.mechanism=sums", "client.schedule=passes"]
    )
    desk = run.desk()
    other = read_desk(desk.json().replace("0.02", "0.03"))
    assert other.learner != desk.learner
    for index, round, which in [(0, 1, desk), (0, 2, desk), (1, 1, desk), (0, 1, other)]:
        request = Request(round, which.json(), np.zeros(1, np.float32), 0, "r")
        node = open_node({"partition-id": index, "simulation": str(folder)}, which, request)
        yield f"{index} {round}", node.guard.noise


def test_rounds_hospitals_and_learners_are_fresh_in_a_simulation(tmp_path: Path) -> None:
    found = [noise for _, noise in guards(tmp_path / "a")]
    assert [type(noise) for noise in found] == [SeededNoise] * 4
    rows = np.stack([noise.gaussian(N) for noise in found])
    again = np.stack([noise.gaussian(N) for _, noise in guards(tmp_path / "b")])
    assert largest(rows) < FRESH
    np.testing.assert_array_equal(rows, again)  # a run can be repeated


def test_the_server_s_noise_is_fresh_every_round_and_secret_outside_simulations() -> None:
    settings = [spelled("hospital"), "client.schedule=passes"]
    runs = [
        sim.load(sim.HERE / "configs/phantom.yaml", [*settings, f"client.inner.lr={lr}"])
        for lr in (0.02, 0.03)
    ]
    updates = np.zeros((2, N), np.float32)

    def drawn(simulated: bool) -> Floats:
        protect = [protection(run, simulated) for run in runs]
        return np.stack([p(updates, lambda u: u[0], round) for p in protect for round in (1, 2)])

    seeded, secret = drawn(True), drawn(False)
    assert largest(np.concatenate([seeded, secret])) < FRESH
    np.testing.assert_array_equal(seeded, drawn(True))
    assert not np.array_equal(secret, drawn(False))
