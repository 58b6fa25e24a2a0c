"""The audit lets sound mechanisms pass, close to their claim, and says what is wrong with others.

Noise is seeded here, so each test always sees the same audit. With noise of the system's a sound
mechanism would fail one of the some six checks once in 100,000 audits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward import sim
from metaward.client.audit import audit_run
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.reptile import Reptile
from metaward.client.models import Mlp
from metaward.privacy import Mechanism, NoPrivacy, Sums
from metaward.privacy.accounting import gdp
from metaward.privacy.audit import AuditReport
from metaward.privacy.mixing import mixing
from metaward.privacy.noise import Noise, SeededNoise, SystemNoise, noisy
from tests.mechanisms import protecting
from tests.privacy.attacked import CASES, LEARNERS, desk, pairs

Add = Callable[[NDArray[np.float64], float, float, Noise], NDArray[np.float64]]
ROUNDS = 2


def seeded(seed: int) -> Callable[[int], Noise]:
    return lambda round: SeededNoise(seed, round)


def audited(mechanism: object, learner: object = None, seed: int = 1) -> AuditReport:
    algorithm = learner or Reptile(lr=0.1, steps=2)
    return audit_run(desk(mechanism, algorithm), seeded(seed), ROUNDS, seed)


def codes(report: AuditReport) -> set[str]:
    return {fault.code for fault in report.faults}


# ---------------------------------------------------------------------------- sound code


SOUND = [
    *pairs("record"),
    *[("patient", name) for name in ("reptile", "maml", "proto_maml")],
    *[(unit, name) for unit in ("task", "hospital") for name in ("fomaml", "proto_maml")],
]


@pytest.mark.parametrize(("unit", "name"), SOUND)
def test_a_sound_mechanism_passes_and_the_bound_is_close(unit: str, name: str) -> None:
    """The size is chosen so that the bound is above 0.7 of the claim, but for one audit in 1000.

    What is claimed for the rounds played is the budget of the whole run, to the last digit: the
    noise is the smallest that keeps it.
    """
    report = audited(protecting(unit), LEARNERS[name], seed=2)
    assert report.sound, report.faults
    assert 0.7 <= report.tightness <= 1
    assert report.mu_lower_any <= report.claimed_mu
    assert report.claimed_epsilon == pytest.approx(8.0, rel=1e-6)
    assert report.claimed_epsilon <= 8
    assert report.epsilon_lower == gdp.epsilon(report.mu_lower, 1e-5)
    assert all(0.999 < moved < 1.00001 for moved in report.sensitivity.values())
    assert all(0.999 < norm < 1.00001 for norm in report.extreme.values())
    assert report.layers
    assert report.mixing is not None
    assert (report.rounds, report.unit) == (ROUNDS, unit)


def test_rounds_after_a_first_one_are_attacked_within_the_runs_budget() -> None:
    """The default run: what is summed once a run is not played, nor claimed, in every round."""
    report = audit_run(sim.load(sim.DEFAULT).desk(), seeded(1), ROUNDS, 1, seconds=3)
    assert report.sound, report.faults
    assert set(report.sensitivity) == {"support", "query"}
    assert 0 < report.claimed_epsilon < 8


def test_sound_mechanisms_fail_no_check_by_chance() -> None:
    """Each check fails once in a million audits, and so often is the bound above the claim."""
    reports = [audited(protecting("task"), seed=seed) for seed in range(20)]
    assert not [fault for report in reports for fault in report.faults]
    assert max(report.tightness for report in reports) <= 1
    assert min(report.tightness for report in reports) > 0.7


def test_the_report_is_a_function_of_the_seeds() -> None:
    one, two, other = (audited(protecting("record"), seed=seed) for seed in (3, 3, 4))
    assert one == two
    assert one.mu_lower != other.mu_lower
    assert (one.secret, "SEEDED" in one.noise_source) == (False, True)


def test_noise_of_the_system_is_named_and_passes() -> None:
    report = audit_run(
        desk(protecting("record"), Reptile(steps=2)), lambda round: SystemNoise(), ROUNDS
    )
    assert report.secret
    assert report.noise_source == SystemNoise.name
    assert report.sound, report.faults


def test_a_masked_mechanism_is_audited_on_what_it_trains() -> None:
    report = audited(protecting("record", train=("head",)))
    assert {layer.layer for layer in report.layers} == {"head.weight", "head.bias"}
    assert report.sound, report.faults
    assert report.canaries == 50  # a head of 3 * 16 + 3 coordinates, an even number of them
    assert 0.7 <= report.tightness <= 1


def test_other_clip_norms_for_other_kinds() -> None:
    mechanism = protecting("record", clip_norm=0.3, clip_query=5.0, clip_adjoint=0.01)
    report = audited(mechanism, Maml(lr=0.1, steps=2), seed=5)
    assert set(report.sensitivity) == {"support", "query", "adjoint"}
    assert report.sound, report.faults
    assert 0.7 <= report.tightness <= 1


def test_a_record_without_a_fixed_budget_claims_what_it_is_charged() -> None:
    report = audited(protecting("record", noise_multiplier=2.0))
    assert report.claimed_mu == pytest.approx((ROUNDS * 2 / 2.0**2) ** 0.5)


# ------------------------------------------------------------------------ planted faults


SUMS = ("metaward.privacy.mechanisms.noisy_sums", "metaward.privacy.optimizer")


def adding(monkeypatch: pytest.MonkeyPatch, add: Add, *where: str) -> None:
    """Plant another way to add noise; without noise it must stay the sum as it is."""

    def planted(
        total: NDArray[np.float64], clip: float, sigma: float, noise: Noise
    ) -> NDArray[np.float64]:
        return add(total, clip, sigma, noise) if sigma else noisy(total, clip, 0.0, noise)

    for place in where or SUMS:
        monkeypatch.setattr(f"{place}.noisy", planted)


@pytest.mark.parametrize("factor", [0.5, 0.9])
def test_too_little_noise(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    adding(monkeypatch, lambda t, c, s, n: noisy(t, c, factor * s, n))
    report = audited(protecting("record"))
    assert "noise-too-small" in codes(report) <= {"noise-too-small", "bound"}
    assert report.smallest_noise.ratio == pytest.approx(factor, rel=0.15)
    if factor == 0.5:
        assert codes(report) == {"noise-too-small", "bound"}
        assert report.mu_lower > 1.7 * report.claimed_mu
        assert "mu above" in next(f.text for f in report.faults if f.code == "bound")


def test_clipping_at_twice_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaward.privacy.clipping import clipped_sum, clipped_units
    from metaward.privacy.ghost import LayerRecords, factors

    def loose(
        one: object, x: Tensor, y: Tensor, g: Tensor, n: int, c: float, *rest: object
    ) -> Tensor:
        return clipped_sum(one, x, y, g, n, 2 * c, *rest)  # type: ignore[arg-type]

    def loose_units(pieces: Sequence[Tensor], slots: Tensor, c: float, step: float) -> Tensor:
        return clipped_units(pieces, slots, 2 * c, step)

    def loose_factors(layers: Sequence[LayerRecords], c: float, wrong: float) -> Tensor:
        return factors(layers, 2 * c, wrong)

    monkeypatch.setattr("metaward.privacy.mechanisms.noisy_sums.clipped_sum", loose)
    monkeypatch.setattr("metaward.privacy.optimizer.clipped_units", loose_units)
    monkeypatch.setattr("metaward.privacy.ghost.factors", loose_factors)
    report = audited(protecting("record"))
    assert codes(report) == {"sensitivity", "not-finite", "bound"}
    assert report.sensitivity["support"] == pytest.approx(2)
    assert report.mu_lower > 1.6 * report.claimed_mu


def test_the_same_noise_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound alone does not see it: T equal noises weigh T times as much, not sqrt(T)."""
    adding(monkeypatch, lambda t, c, s, n: noisy(t, c, s, SeededNoise(5)))
    report = audited(protecting("record"))
    assert codes(report) == {"noise-repeated"}
    assert report.mu_lower < report.claimed_mu
    wrong = {c.between for c in report.correlations if abs(c.largest) > 0.99}
    assert wrong == {"steps", "tasks", "rounds"}


def test_one_layer_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = slice(112, 112 + 48)  # of 6 * 16 + 16 body and 16 * 3 + 3 head coordinates: head.weight

    def add(t: NDArray[np.float64], c: float, s: float, n: Noise) -> NDArray[np.float64]:
        found = noisy(t, c, s, n)
        found[layer] = t[layer]
        return found

    adding(monkeypatch, add)
    report = audited(protecting("record"))
    assert codes(report) >= {"noise-too-small"}
    assert codes(report) <= {"noise-too-small", "bound"}
    small = [fault.text for fault in report.faults if fault.code == "noise-too-small"]
    assert len(small) == 1
    assert "head.weight" in small[0]
    assert report.smallest_noise.ratio < 0.01


@pytest.mark.parametrize(("every", "between"), [("round", "rounds"), ("task", "tasks")])
def test_noise_that_starts_anew_with_every_round_or_task(
    monkeypatch: pytest.MonkeyPatch, every: str, between: str
) -> None:
    if every == "round":
        report = audit_run(
            desk(protecting("record"), Reptile(steps=2)), lambda round: SeededNoise(9), ROUNDS
        )
    else:  # each task's sums from a stream of its own, with one seed for all tasks of a round
        calls = {"n": 0}

        def add(t: NDArray[np.float64], c: float, s: float, n: Noise) -> NDArray[np.float64]:
            calls["n"] += 1
            round, step = divmod(calls["n"] - 1, 5)  # Fomaml: two steps of two tasks, one query sum
            return noisy(t, c, s, SeededNoise(round, step // 2))

        adding(monkeypatch, add)
        report = audited(protecting("record"), Fomaml(lr=0.1, steps=2))
    assert codes(report) == {"noise-repeated"}
    assert [f.text.startswith(f"the noise of two {between}") for f in report.faults] == [True]


def test_the_same_noise_on_two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(t: NDArray[np.float64], c: float, s: float, n: Noise) -> NDArray[np.float64]:
        noise = noisy(np.zeros_like(t), c, s, n)
        noise[112:160] = noise[:48]
        return t + noise

    adding(monkeypatch, add)
    report = audited(protecting("record"))
    assert "noise-repeated" in codes(report)
    assert "two layers has correlation 1.000" in report.faults[0].text


def test_noise_that_is_not_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(t: NDArray[np.float64], c: float, s: float, n: Noise) -> NDArray[np.float64]:
        u = n.uniform(len(t)) - 0.5
        return t - s * c * np.sqrt(0.5) * np.sign(u) * np.log1p(-2 * np.abs(u))

    adding(monkeypatch, add)
    assert "noise-shape" in codes(audited(protecting("record")))


def test_more_noise_than_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    adding(monkeypatch, lambda t, c, s, n: noisy(t, c, 1.5 * s, n))
    report = audited(protecting("record"))
    assert codes(report) == {"noise-too-large"}
    assert report.tightness < 0.8


def test_records_that_are_not_finite_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(
        one: object, x: Tensor, y: Tensor, g: Tensor, n: int, c: float, *rest: object
    ) -> Tensor:
        vectors = torch.func.vmap(one)(x, y).double()  # type: ignore[arg-type]
        norms = vectors.norm(dim=1, keepdim=True)
        return (vectors * (c / norms).clamp(max=1)).nan_to_num(0, 0, 0).sum(dim=0) + (
            torch.nan if not vectors.isfinite().all() else 0
        )

    monkeypatch.setattr("metaward.privacy.mechanisms.noisy_sums.clipped_sum", trusting)
    report = audited(protecting("record"))
    assert codes(report) == {"not-finite"}
    assert report.extreme == {"support": float("inf")}


def test_a_patients_records_clipped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a patient's two records then moves the sum by C."""
    session = Sums.session

    def alone(self: Sums, opening: object) -> object:
        units = np.arange(len(opening.units))  # type: ignore[attr-defined]
        return session(self, replace(opening, units=units))  # type: ignore[type-var]

    monkeypatch.setattr(Sums, "session", alone)
    report = audited(protecting("patient"))
    assert codes(report) == {"sensitivity", "bound"}
    assert report.sensitivity["support"] == pytest.approx(2)


def test_tasks_and_hospitals_that_are_not_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "metaward.privacy.mechanisms.whole.sum_clipped", lambda vectors, norm: vectors.sum(dim=0)
    )
    monkeypatch.setattr("metaward.privacy.mechanisms.whole.clip_to", lambda vector, norm: vector)
    monkeypatch.setattr("metaward.privacy.audit.structure.extremes", lambda stage, kinds: {})
    monkeypatch.setattr("metaward.privacy.audit.extremes", lambda stage, kinds: {})
    for mechanism in (protecting("task"), protecting("hospital")):
        report = audited(mechanism)
        assert {"sensitivity", "bound"} <= codes(report)
        assert report.sensitivity["update"] > 900


@pytest.mark.parametrize("mechanism", [protecting("task"), protecting("hospital")])
def test_half_noise_on_whole_updates(monkeypatch: pytest.MonkeyPatch, mechanism: Mechanism) -> None:
    adding(
        monkeypatch, lambda t, c, s, n: noisy(t, c, s / 2, n), "metaward.privacy.mechanisms.whole"
    )
    assert codes(audited(mechanism)) == {"noise-too-small", "bound"}


def test_a_network_that_mixes_records() -> None:
    x = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    norm = torch.nn.BatchNorm1d(3, track_running_stats=False)
    assert mixing(norm, x) > 1e-3
    assert mixing(torch.nn.GroupNorm(1, 3), x) < 1e-5
    assert mixing(lambda x: x + 1e-2 * x.mean(dim=0), x) > 1e-3


def test_mixing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaward.privacy.audit.mixing", lambda outputs, x: 0.5)
    assert codes(audited(protecting("record"))) == {"records-mixed"}


# ------------------------------------------------------------------------------ refusals


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ValueError, match="protects nothing"):
        audited(NoPrivacy())
    with pytest.raises(ValueError, match=r"sampling_rate = 0\.5"):
        audited(protecting("record", sampling_rate=0.5, noise_multiplier=1.0))


def test_too_few_scores_are_refused() -> None:
    from metaward.privacy.audit import Effort

    with pytest.raises(ValueError, match="too few"):
        Effort(canaries=10, rounds=1, lives=3)
    with pytest.raises(ValueError, match="at least 2"):
        Effort(canaries=0)


# -------------------------------------------------------------------------- other inputs


@pytest.mark.parametrize("case", ["conv", "curve"])
def test_other_networks_and_tasks(case: str) -> None:
    architecture, spec = CASES[case]
    if case == "curve":
        architecture = Mlp((32,))  # room for more canaries, which take fewer lives
    work = desk(protecting("record"), Maml(lr=0.1, steps=1), spec, architecture)
    report = audit_run(work, seeded(6), ROUNDS, 6)
    assert report.sound, report.faults
    assert 0.7 <= report.tightness <= 1


def test_a_small_budget_takes_more_lives() -> None:
    one, other = (audited(replace(protecting("task"), epsilon=eps), seed=7) for eps in (1.0, 8.0))
    assert one.lives > 10 * other.lives
    assert one.sound, one.faults
    assert one.claimed_epsilon == pytest.approx(1.0, rel=1e-6)
    assert 0.7 <= one.tightness <= 1


def test_less_time_is_a_looser_bound_and_no_error() -> None:
    """So little that one round alone takes longer: two lives of one round each."""
    work = desk(replace(protecting("record"), epsilon=0.5), Reptile(steps=1))
    report = audit_run(work, seeded(1), 4, 1, seconds=1e-9)
    assert (report.lives, report.rounds) == (2, 1)
    assert report.sound, report.faults
    assert gdp.epsilon(2 * report.claimed_mu, 1e-5) == pytest.approx(0.5)  # of all four rounds
