"""Noise: its distribution, its independence, and the grid on which it meets the sum.

``SystemNoise`` cannot be seeded. Each statistical test says how often it fails by chance (about
once in a million runs) and how surely it sees what it is there to see.
"""

import copy
import math
import multiprocessing
import os
import pickle
from fractions import Fraction
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from metaward.privacy.noise import (
    INFLATION,
    Noise,
    SeededNoise,
    SystemNoise,
    deviation,
    grid,
    noisy,
)

N = 100_000
ALPHA = 1e-6
CLIPS = st.floats(1e-6, 1e6)


class Fixed:
    """Given values in place of noise."""

    name, secret = "fixed", False

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def gaussian(self, n: int) -> NDArray[np.float64]:
        return np.full(n, self.value)

    def uniform(self, n: int) -> NDArray[np.float64]:
        return np.full(n, self.value)


SOURCES: list[Noise] = [SystemNoise(), SeededNoise(3)]
each_source = pytest.mark.parametrize("noise", SOURCES, ids=["system", "seeded"])


# ------------------------------------------------------------------------- distribution


@each_source
def test_the_noise_has_the_promised_deviation_and_no_other(noise: Noise) -> None:
    """Kolmogorov-Smirnov at level 1e-6: D must stay below sqrt(ln(2e6) / 2n) = 0.0085.

    Half the deviation moves the distribution function by 0.16, 1.1 times by 0.023 (at one standard
    deviation); by Massart's bound the test misses either with probability below
    2 exp(-2n (0.023 - 0.0085)^2) = 1e-18.
    """
    clip, sigma = 2.0, 1.5
    values = noisy(np.zeros(N), clip, sigma, noise)
    for factor, fits in ((1.0, True), (0.5, False), (1.1, False), (1 / 1.1, False)):
        p = stats.kstest(values, "norm", args=(0, factor * deviation(clip, sigma, N))).pvalue
        assert (p > ALPHA) == fits, factor


@each_source
def test_uniform_values(noise: Noise) -> None:
    """As above; a range of [0, 0.97) moves the distribution function by 0.03."""
    values = noise.uniform(N)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > ALPHA
    assert stats.kstest(values * 0.97, "uniform").pvalue < ALPHA


@each_source
def test_nothing_is_correlated(noise: Noise) -> None:
    """Between any two calls, and within one at any distance, cosine and sine of one pair included.

    A correlation of independent values has standard deviation 1 / sqrt(n); the largest of some 200
    exceeds 6.5 of those with probability 200 * 8e-11. Squares have heavier tails and count half.
    A repeated stream has correlation 1; sine and cosine of one radius that is not Gaussian, or
    drawn once for many pairs, have correlated squares.
    """
    n = 20_000
    calls = np.stack([noise.gaussian(n) for _ in range(20)])
    between = np.corrcoef(calls)[np.triu_indices(20, 1)]
    distances = (1, 2, 3, 8, n // 4, n // 2)
    within = [
        np.corrcoef(calls[0][d:], calls[0][:-d])[0, 1] * math.sqrt(1 - d / n) for d in distances
    ]
    squares = [np.corrcoef(calls[0][d:] ** 2, calls[0][:-d] ** 2)[0, 1] * 0.5 for d in distances]
    assert np.abs([*between, *within, *squares]).max() < 6.5 / math.sqrt(n)


@pytest.mark.parametrize(
    ("byte", "expected"), [(b"\x00", math.sqrt(130 * math.log(2))), (b"\xff", 0)]
)
def test_the_last_words_give_the_ends_of_the_range(
    byte: bytes, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Box-Muller at its two singular points: ln 0 must not occur, nor the root of a negative."""
    words = np.frombuffer(byte * 16, np.uint64)
    monkeypatch.setattr("metaward.privacy.noise._words", lambda n: words[:n])
    assert SystemNoise().gaussian(1) == pytest.approx([expected])
    assert 0 <= SystemNoise().uniform(1)[0] < 1


@each_source
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_as_many_values_as_asked_for(noise: Noise, n: int) -> None:
    assert noise.gaussian(n).shape == noise.uniform(n).shape == (n,)
    assert noise.gaussian(n).dtype == noise.uniform(n).dtype == np.float64


# ----------------------------------------------------------------------------- secrecy


def test_keystream_is_aes_256_in_counter_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key 0, block 0: the value H in test case 13 of the GCM specification (McGrew, Viega 2004)."""
    asked: list[int] = []
    monkeypatch.setattr(os, "urandom", lambda n: asked.append(n) or bytes(n))
    expected = np.frombuffer(bytes.fromhex("dc95c078a2408989ad48a21492842087"), np.uint64)
    wanted = (expected >> np.uint64(11)).astype(np.float64) / 2.0**53
    assert SystemNoise().uniform(2).tolist() == wanted.tolist()
    assert asked == [32], "one key of 256 bits"


def test_no_two_sources_and_no_two_calls_agree() -> None:
    """Equal 64-bit draws among 7 x 100 have probability 1e-14; a repeated key would give 100."""
    first = SystemNoise()
    copies = [copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    draws = [noise.gaussian(100) for noise in (first, first, SystemNoise(), SystemNoise(), *copies)]
    assert len(np.unique(draws)) == 700


def send(noise: Noise, pipe: Connection) -> None:
    pipe.send(noise.gaussian(10).tolist())


def test_a_forked_process_draws_its_own_noise() -> None:
    noise, context = SystemNoise(), multiprocessing.get_context("fork")
    noise.gaussian(10)
    mine, theirs = context.Pipe()
    child = context.Process(target=send, args=(noise, theirs))
    child.start()
    there = mine.recv() if mine.poll(60) else None
    child.join(60)
    assert len(set(there or []) | set(noise.gaussian(10))) == 20


def test_seeded_noise_repeats_and_says_so() -> None:
    one, other, third = SeededNoise(1, 2), SeededNoise(1, 2), SeededNoise(1, 3)
    draws = [one.gaussian(5), one.gaussian(5), one.uniform(5)]
    assert [d.tolist() for d in draws] == [
        d.tolist() for d in (other.gaussian(5), other.gaussian(5), other.uniform(5))
    ]
    assert draws[0].tolist() != draws[1].tolist()
    assert draws[0].tolist() != third.gaussian(5).tolist()
    assert "simulation only" in one.name
    assert not one.secret
    assert SystemNoise().secret


@pytest.mark.parametrize("seed", [(), (-1,), (3, -2)])
def test_seeds_are_whole_numbers(seed: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"seed = .*whole number"):
        SeededNoise(*seed)


# ------------------------------------------------------------------------------- grid


@given(clip=CLIPS, d=st.integers(1, 10**7))
def test_the_grid_is_the_coarsest_power_of_two_within_the_bound(clip: float, d: int) -> None:
    step = grid(clip, d)
    assert math.frexp(step)[0] == 0.5
    assert Fraction(step) ** 2 * d <= (Fraction(clip) * Fraction(INFLATION)) ** 2 * (
        1 + Fraction(1, 10**12)
    )
    assert (2 * Fraction(step)) ** 2 * d > (Fraction(clip) * Fraction(INFLATION)) ** 2
    assert 1 < deviation(clip, 2.0, d) / (2.0 * clip) < 1.001


@given(clip=CLIPS, sigma=st.floats(0.01, 100), seed=st.integers(0, 2**32))
def test_every_coordinate_is_the_exact_sum_of_two_numbers_on_the_grid(
    clip: float, sigma: float, seed: int
) -> None:
    """In rational numbers: no rounding but the two that the grid asks for."""
    total = SeededNoise(seed).gaussian(20) * clip
    step, scale = grid(clip, 20), deviation(clip, sigma, 20)
    result = noisy(total, clip, sigma, SeededNoise(seed, 1))
    drawn = SeededNoise(seed, 1).gaussian(20) * (scale / step)
    for value, part, extra in zip(result, total, drawn, strict=True):
        whole = round(Fraction(part) / Fraction(step)) + round(Fraction(extra))
        assert Fraction(value) == whole * Fraction(step)


def test_the_sum_leaves_no_trace_below_the_grid() -> None:
    """Without the grid, a sum of 1/3 gives other last bits than a sum of 0; with it, none does."""
    step = grid(1.0, N)
    for total in (0.0, 1 / 3, math.pi * 1e-9):
        values = noisy(np.full(N, total), 1.0, 1.0, SystemNoise())
        assert np.array_equal(values / step, np.rint(values / step))
    plain = SystemNoise().gaussian(N) + 1 / 3
    assert not np.array_equal(plain / step, np.rint(plain / step)), "the check can fail"


def test_rounding_adds_to_the_sensitivity_what_the_noise_pays_for() -> None:
    """Worst neighbours: each coordinate just below half a step, moved to just above it.

    d = 4^6 and clip = 1 + 1e-9: a move by clip in norm is 1024 steps and 1e-6 of one in every
    coordinate; from 0.5 - 5e-7 steps it is rounded up to 1025.
    """
    d, clip = 4**6, 1 + 1e-9
    step, move = grid(clip, d), clip / math.sqrt(d)
    one = np.full(d, step * (0.5 - 5e-7))
    assert np.linalg.norm(np.full(d, move)) == pytest.approx(clip)
    apart = noisy(one + move, clip, 1.0, Fixed()) - noisy(one, clip, 1.0, Fixed())
    moved = float(np.linalg.norm(apart))
    assert clip * 1.0009 < moved <= clip + step * math.sqrt(d)
    assert moved <= deviation(clip, 1.0, d), "deviation over this sensitivity is the multiplier"


@given(seed=st.integers(0, 2**32), d=st.integers(1, 200), clip=CLIPS)
def test_no_neighbours_are_further_apart_than_that(seed: int, d: int, clip: float) -> None:
    rng = np.random.default_rng(seed)
    move = rng.standard_normal(d)
    move *= clip * (1 - 1e-12) / np.linalg.norm(move)
    total = rng.standard_normal(d) * clip * rng.integers(1, 1000)
    apart = noisy(total + move, clip, 1.0, Fixed()) - noisy(total, clip, 1.0, Fixed())
    assert np.linalg.norm(apart) <= deviation(clip, 1.0, d)


# -------------------------------------------------------------------------- noisy sums


def test_tensors_and_arrays_are_taken_and_left_alone() -> None:
    total = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    array = np.array([1.0, -2.0])
    found = [noisy(t, 1.0, 1.0, SeededNoise(1)).tolist() for t in (total, array)]
    assert found[0] == found[1]
    assert array.tolist() == total.tolist() == [1.0, -2.0]


def test_noise_is_added_to_the_sum() -> None:
    step = grid(1.0, 2)
    found = noisy(np.array([8 * step, -3.2 * step]), 1.0, 2.0, Fixed(1.0))
    drawn = round(2.0 * (1.0 + step * math.sqrt(2)) / step)
    assert found.tolist() == [(8 + drawn) * step, (-3 + drawn) * step]


def test_without_noise_the_sum_stays_as_it_came() -> None:
    total = np.array([1 / 3, -math.pi])
    found = noisy(total, 1.0, 0.0, SystemNoise())
    assert found.tolist() == total.tolist()
    found[0] = 7
    assert total[0] == 1 / 3


def test_no_coordinates_and_millions() -> None:
    assert noisy(np.zeros(0), 1.0, 1.0, SystemNoise()).shape == (0,)
    values = noisy(torch.zeros(3_000_000), 1.0, 1.0, SystemNoise())
    assert values.std() == pytest.approx(deviation(1.0, 1.0, 3_000_000), rel=0.005)  # 12 deviations


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (np.array([0.0, np.nan]), "not finite"),
        (np.array([np.inf, 0.0]), "not finite"),
        (np.zeros((2, 2)), r"shape \(2, 2\)"),
        (np.array([1e300, 0.0]), "was it clipped"),
    ],
)
def test_sums_that_no_clipping_gives_are_refused(total: NDArray[np.float64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noisy(total, 1.0, 1.0, SystemNoise())


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf, 1e-40, 1e40])
def test_clip_norms_are_positive_numbers(clip: float) -> None:
    with pytest.raises(ValueError, match=r"clip = .*is not a norm"):
        noisy(np.zeros(2), clip, 1.0, SystemNoise())


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_multipliers_are_finite_and_not_negative(sigma: float) -> None:
    with pytest.raises(ValueError, match="noise_multiplier = "):
        noisy(np.zeros(2), 1.0, sigma, SystemNoise())
