"""What mechanisms sum, against slow loops that follow the definition to the letter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metaward.privacy import Opening, Use
from metaward.privacy.mechanisms.noisy_sums import Overdraft
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Batch
from tests.mechanisms import protecting

SEEDS = st.integers(0, 2**32)
WEIGHTS = torch.linspace(-1, 1, 12, dtype=torch.float64)


def losses(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Softplus of a bilinear form: gradients of very different sizes."""
    return torch.nn.functional.softplus((x @ phi) * y)


def slope(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Its gradient for one record, by hand."""
    return torch.sigmoid((x @ phi) * y) * y * x


def oracle(phi: Tensor, x: Tensor, y: Tensor, who: np.ndarray, clip: float, mask: Tensor) -> Tensor:
    """One patient after the other: the records' gradients are summed, then cut, then added up."""
    total = torch.zeros_like(phi)
    for name in sorted(set(who.tolist())):
        own = [slope(phi, x[i], y[i]) * mask for i in range(len(who)) if who[i] == name]
        vector = torch.stack(own).sum(dim=0)
        total += vector * min(1.0, clip / float(vector.norm()))
    return total


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 20), st.integers(1, 8), st.sampled_from([0.01, 1.0, 30.0]))
def test_patients_one_by_one(seed: int, n: int, people: int, clip: float) -> None:
    """Names are texts in any order, and rows need not begin at 0 nor stand in order."""
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.normal(size=(n, 12)) * 3), torch.from_numpy(rng.normal(size=n))
    names = rng.permutation([f"p{rng.integers(people)}" for _ in range(n + 10)])
    rows = rng.permutation(n + 10)[:n]
    phi, mask = torch.from_numpy(rng.normal(size=12)), torch.from_numpy(rng.random(12) < 0.7)
    mask[0] = True
    for unit, who in (("patient", names[rows]), ("record", rows)):
        use = Use("support", tuple(rows.tolist()))
        units = names if unit == "patient" else np.arange(n + 10)
        opening = Opening([use], {"support": 0.0}, units, SeededNoise(0))
        session = protecting(unit, clip_norm=clip).session(opening)
        found, _ = session.gradient(losses, [(phi, Batch(x, y, rows))], "support", mask)
        expected = oracle(phi, x, y, who, clip, mask) / n
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=clip * 1e-11)


def test_a_patient_is_no_record() -> None:
    """Two records of one patient, each of norm 1: together cut to 1, apart not at all."""
    x = torch.eye(2, dtype=torch.float64)
    for unit, expected in (("patient", 0.5**0.5), ("record", 1.0)):
        units = np.array(["ann", "ann"] if unit == "patient" else ["a", "b"])
        opening = Opening([Use("features", (0, 1))], {"features": 0.0}, units, SeededNoise(0))
        session = protecting(unit, clip_norm=1.0).session(opening)
        batch = Batch(x, torch.zeros(2), np.arange(2))
        found = session.mean([(lambda x, y: x, batch)], "features", 2) * 2
        assert found.tolist() == pytest.approx([expected, expected])


def test_tasks_of_one_sum_may_not_share_a_patient() -> None:
    """Else she would move it by two clip norms; nothing is computed."""
    x = torch.eye(4, dtype=torch.float64)
    contributions = [
        (lambda x, y: x, Batch(x[rows], torch.zeros(2), np.array(rows)))
        for rows in ([0, 1], [2, 3])
    ]
    for names, fits in ((["a", "a", "b", "b"], True), (["a", "b", "b", "c"], False)):
        use = Use("query", (0, 1, 2, 3))
        opening = Opening([use], {"query": 0.0}, np.array(names), SeededNoise(0))
        session = protecting("patient").session(opening)
        if fits:
            session.mean(contributions, "query", 4)
        else:
            with pytest.raises(ValueError, match="a patient is in two tasks of one query sum"):
                session.mean(contributions, "query", 4)


def test_several_tasks_are_one_sum() -> None:
    """Each with its own contribution; the mean is over the records of both."""
    x = torch.tensor([[3.0, 0.0], [0.0, 0.5], [0.0, 4.0]], dtype=torch.float64)
    y = torch.zeros(3)
    contributions = [
        (lambda x, y: x, Batch(x[:2], y[:2], np.array([0, 1]))),
        (lambda x, y: -x, Batch(x[2:], y[2:], np.array([2]))),
    ]
    opening = Opening([Use("query", (0, 1, 2))], {"query": 0.0}, np.arange(3), SeededNoise(0))
    found = protecting("record", clip_norm=1.0).session(opening).mean(contributions, "query", 2)
    assert (found * 3).tolist() == pytest.approx([1.0, 0.5 - 1.0])


def test_a_use_is_served_as_often_as_it_was_charged() -> None:
    """Kinds, rows and their order all count; a refused sum computes nothing."""
    calls = []
    batch = Batch(torch.ones(2, 3), torch.zeros(2), np.array([4, 2]))
    uses = [Use("support", (4, 2)), Use("support", (4, 2)), Use("query", (4, 2))]
    opening = Opening(uses, {"support": 1.0, "query": 1.0}, np.arange(5), SeededNoise(0))
    session = protecting("record").session(opening)

    def one(x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return x

    for kind in ("support", "query", "support"):
        session.mean([(one, batch)], kind, 3)
    assert len(calls) == 3
    other = batch._replace(rows=np.array([2, 4]))
    for kind, asked in (("support", batch), ("query", other), ("adjoint", batch)):
        with pytest.raises(Overdraft, match=f"{kind} sum over 2 records was not charged"):
            session.mean([(one, asked)], kind, 3)
    assert len(calls) == 3


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_the_secret_draw_takes_units_afresh_with_its_probability(unit: str) -> None:
    """2000 sums over 6 rows of 6 records or 3 patients, drawn at 0.3. A unit stands in 600 of
    them, standard deviation 20; 5 of these are allowed. Two units stand together in 0.09 of
    them (patients' rows in 0.3, because they are drawn as one), and so do neighbours in time."""
    sums, q = 2000, 0.3
    who = np.arange(6) // 2 if unit == "patient" else np.arange(6)
    use = Use("features", tuple(range(6)))
    opening = Opening([use] * sums, {"features": 0.0}, who, SeededNoise(6))
    session = protecting(unit, clip_norm=10.0, sampling_rate=q).session(opening)
    batch = Batch(torch.eye(6, dtype=torch.float64), torch.zeros(6), np.arange(6))
    drawn = torch.stack(
        [session.mean([(lambda x, y: x, batch)], "features", 6) * q * 6 for _ in range(sums)]
    ).round(decimals=6)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    hits = drawn.sum(dim=0).numpy()
    assert np.abs(hits - sums * q).max() < 5 * (sums * q * (1 - q)) ** 0.5
    together = (drawn.T @ drawn).numpy() / sums
    same = who[:, None] == who[None]
    assert np.abs(together[same] - q).max() < 0.04
    assert np.abs(together[~same] - q * q).max() < 0.03
    assert np.abs((drawn[1:] * drawn[:-1]).mean(dim=0).numpy() - q * q).max() < 0.03
