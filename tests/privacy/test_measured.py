"""What is left of a sum: by hand, by drawing the noise, and as the mechanism itself sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.privacy import UNITS, Batch, Opening
from metaward.privacy.measured import FACTORS, OWN, Measure, Notes, Sum, Watching, WatchingTasks
from metaward.privacy.mechanisms import Sums, Whole
from metaward.privacy.mechanisms.noisy_sums import NoisySums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Kind, use

CLIPS = np.array([0.5, 1.0, 100.0])


def measured(vectors: Sequence[Sequence[float]]) -> Measure:
    return Sum.of([torch.tensor(vectors)], CLIPS).measure(CLIPS)


def test_two_vectors_by_hand() -> None:
    """(3, 4) and (0, 1): clipped to 0.5 they are (0.3, 0.4) and (0, 0.5)."""
    found = measured([[3.0, 4.0], [0.0, 1.0]])
    np.testing.assert_allclose(found.norms, [5.0, 1.0])
    plain = np.array([3.0, 5.0])
    for place, clipped in enumerate([[0.3, 0.9], [0.6, 1.8], [3.0, 5.0]]):
        length = np.linalg.norm(clipped)
        cosine = plain @ clipped / length / np.linalg.norm(plain)
        assert found.direction[place] == pytest.approx(cosine)
        assert found.length[place] == pytest.approx(length / np.linalg.norm(plain))
        assert found.agreement[place] == pytest.approx(length / 2 / CLIPS[place])


def test_where_nothing_is_clipped_and_no_noise_is_added_all_is_left() -> None:
    found = measured([[3.0, 4.0], [0.0, 1.0]])
    assert found.left(0.0, value=True)[-1] == pytest.approx(1.0)
    assert found.left(0.0, value=False)[-1] == pytest.approx(1.0)


def test_vectors_that_are_not_finite_count_as_zero() -> None:
    broken = measured([[3.0, 4.0], [0.0, 1.0], [float("nan"), 1.0], [float("inf"), 0.0]])
    np.testing.assert_allclose(broken.norms, [5.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(broken.direction, measured([[3.0, 4.0], [0.0, 1.0]]).direction)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_what_is_left_is_what_drawn_noise_leaves(noise: float) -> None:
    """In many coordinates, where a noise's length and its angle to a mean hardly vary."""
    rng, d, n = np.random.default_rng(1), 4000, 50
    vectors = rng.normal(size=(n, d)) + rng.normal(size=d)
    found = Sum.of([torch.from_numpy(vectors)], CLIPS).measure(CLIPS)
    plain = vectors.mean(axis=0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    for place, clip in enumerate(CLIPS):
        mean = (vectors * np.minimum(1, clip / norms)).mean(axis=0)
        noisy = mean + noise * clip * rng.normal(size=(20, d)) / np.sqrt(d)
        cosines = noisy @ plain / np.linalg.norm(noisy, axis=1) / np.linalg.norm(plain)
        errors = np.linalg.norm(noisy - plain, axis=1) / np.linalg.norm(plain)
        assert found.left(noise, value=False)[place] == pytest.approx(cosines.mean(), abs=0.02)
        expected = max(0.0, 1 - errors.mean())
        assert found.left(noise, value=True)[place] == pytest.approx(expected, abs=0.02)


def batch(n: int = 12) -> Batch:
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(n, 3)))
    return Batch(x, torch.arange(n) % 2, np.arange(n))


def twice(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, 2 * x]) * (1 + y)


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_the_mean_is_that_of_the_mechanism_without_its_noise(unit: str) -> None:
    """And so is every later sum of the learner. A patient has three records here."""
    mechanism = Sums(unit=UNITS[unit], clip_norm=3.0, clip_features=0.5)
    units = np.arange(12) // (3 if unit == "patient" else 1)
    notes, kinds = Notes(mechanism, ("query",)), ("query", "features")
    watching = Watching(notes, units)
    wanted = [use(kind, batch()) for kind in kinds]  # type: ignore[arg-type]
    opening = Opening(wanted, dict.fromkeys(kinds, 0.0), units, SeededNoise(0))
    silent = NoisySums(mechanism, opening)
    for kind in kinds:
        known: Kind = kind  # type: ignore[assignment]
        found = watching.mean([(twice, batch())], known, 6)
        expected = silent.mean([(twice, batch())], known, 6)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    measures = notes.measures()
    assert len(measures["query"][0].norms) == len(np.unique(units))
    vectors = torch.stack([twice(x, y) for x, y in zip(batch().x, batch().y, strict=True)])
    whole = vectors.view(-1, 3, 6).sum(dim=1) if unit == "patient" else vectors
    np.testing.assert_allclose(measures["query"][0].norms, whole.norm(dim=1).numpy())


def test_what_theta_follows_is_added_up_and_the_rest_kept_alone() -> None:
    notes = Notes(Sums(), ("query",))
    watching = Watching(notes, np.arange(24))
    first, second = batch(), batch()._replace(rows=np.arange(12, 24))
    for one in (first, second):
        watching.mean([(twice, one)], "query", 6)
        watching.mean([(twice, one)], "features", 6)
    found = notes.measures()
    assert [len(one.norms) for one in found["query"]] == [24]
    assert [len(one.norms) for one in found["features"]] == [12, 12]
    assert found["query"][0].dim == 6


def test_tasks_are_vectors_of_a_sum() -> None:
    mechanism = Whole(unit=UNITS["task"], clip_norm=1.0)
    notes = Notes(mechanism, ("update",))
    tasks = [torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])]
    mean = WatchingTasks(notes=notes).combine(tasks)
    torch.testing.assert_close(mean, torch.tensor([0.3, 0.9]))
    assert notes.measures()["update"][0].direction[OWN] < 1
    assert FACTORS[OWN] == 1
