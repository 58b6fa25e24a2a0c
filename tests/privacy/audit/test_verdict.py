"""Every measurement is held against its limit once; what the table shows is what the faults say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from metaward.privacy.audit.verdict import (
    LEVEL,
    AuditReport,
    Correlation,
    LayerNoise,
    checks,
)

BODY = LayerNoise("support", "body", 1.0, 0.99, 1.01)
HEAD = LayerNoise("support", "head", 0.998, 0.98, 1.02)
STEPS, LAYERS = (Correlation(between, 780, 0.05, 0.3) for between in ("steps", "layers"))
SOUND = AuditReport(
    unit="record",
    mechanism="sums",
    delta=1e-5,
    canaries=200,
    lives=6,
    rounds=2,
    sums=24,
    claimed_mu=1.6,
    mu_lower=1.5,
    mu_lower_any=1.2,
    claimed_epsilon=8.0,
    epsilon_lower=7.3,
    epsilon_lower_any=5.6,
    noise_multipliers={"support": 2.0},
    sensitivity={"support": 1.0},
    extreme={"support": 1.0},
    layers=(BODY, HEAD),
    correlations=(STEPS, LAYERS),
    gaussian_p=0.5,
    mixing=0.0,
    noise_source="a test",
    secret=False,
)


def codes(**changes: Any) -> list[str]:
    return [check.code for check in checks(replace(SOUND, **changes)) if check.code]


def test_a_sound_report_has_a_row_for_every_check() -> None:
    rows = list(checks(SOUND))
    assert [row.code for row in rows] == [""] * 8
    (noise,) = [row for row in rows if row.what.startswith("noise on layer")]
    assert "head" in noise.what, "of sound layers the one with the least noise"
    assert len(list(checks(replace(SOUND, mixing=None)))) == 7


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sensitivity": {"support": 0.9}}, "attack-too-weak"),
        ({"sensitivity": {"support": 1.001}}, "sensitivity"),
        ({"sensitivity": {"support": math.nan}}, "sensitivity"),
        ({"extreme": {"support": math.inf}}, "not-finite"),
        ({"extreme": {"support": math.nan}}, "not-finite"),
        ({"mixing": 0.5}, "records-mixed"),
        ({"mixing": math.nan}, "records-mixed"),
        ({"correlations": (replace(STEPS, p=LEVEL / 2), LAYERS)}, "noise-repeated"),
        ({"correlations": (STEPS, replace(LAYERS, p=LEVEL / 2))}, "noise-repeated"),
        ({"mu_lower": 1.7}, "bound"),
        ({"layers": (replace(BODY, high=0.99), HEAD)}, "noise-too-small"),
        ({"layers": (replace(BODY, low=1.01), HEAD)}, "noise-too-large"),
        ({"gaussian_p": LEVEL / 2}, "noise-shape"),
    ],
)
def test_each_measurement_beyond_its_limit_is_one_fault(changes: dict[str, Any], code: str) -> None:
    assert codes(**changes) == [code]


@pytest.mark.parametrize(
    "changes",
    [
        {"sensitivity": {"support": 0.999}},
        {"extreme": {"support": 0.0}},
        {"mu_lower": 1.6},
        {"gaussian_p": LEVEL},
        {"layers": (replace(BODY, low=1.001), replace(HEAD, high=1.0))},
    ],
)
def test_at_its_limit_it_is_none(changes: dict[str, Any]) -> None:
    assert codes(**changes) == []


def test_where_sums_repeat_each_other_nothing_else_is_concluded_from_the_noise() -> None:
    """Neither of layers, which are compared over these sums, nor of bound, size and shape."""
    again = (replace(STEPS, p=0.0), replace(LAYERS, p=0.0))
    changes: dict[str, Any] = {"correlations": again, "mu_lower": 9.0, "gaussian_p": 0.0}
    assert codes(**changes) == ["noise-repeated"]
    assert len(list(checks(replace(SOUND, **changes)))) == 4


def test_a_fault_is_a_sentence_with_both_values() -> None:
    (fault,) = [c for c in checks(replace(SOUND, mu_lower=1.7)) if c.code]
    assert fault.text == "the attack shows mu above 1.700; it should be at most the claim 1.600"
    low = replace(BODY, ratio=0.5, low=0.48, high=0.52)
    (fault,) = [c for c in checks(replace(SOUND, layers=(low, HEAD))) if c.code]
    sentence = "noise on layer body of support sums is 0.5000 of the claim (0.480 to 0.520)"
    assert fault.text == f"{sentence}; it should be 1"
