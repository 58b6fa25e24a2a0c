"""Opacus's accountants beside ours: equal on what both can count, refused on the rest."""

import math

import pytest
from dp_accounting import LaplaceDpEvent

from metaward.privacy.accounting import gdp, pld
from metaward.privacy.accounting.by_opacus import ByOpacus, by_opacus
from metaward.privacy.event import Event, gaussian

RUN = [gaussian(1.06, 1), gaussian(1.06, 1), gaussian(15.0, 20), gaussian(4.7, 20)]


@pytest.mark.parametrize("events", [RUN, [gaussian(6.8, 16)], [gaussian(20.0, 3)]])
def test_gaussian_sums_are_counted_alike(events: list[Event]) -> None:
    ours, theirs = gdp.epsilon_of(events, 1e-5), by_opacus(events, 1e-5)
    assert theirs.prv == pytest.approx(ours, rel=0.01, abs=0.02)
    assert ours <= theirs.rdp <= 1.5 * ours
    assert theirs.agrees(ours)
    for wrong in (0.9 * ours - 0.02, 1.1 * ours + 0.05):
        assert not theirs.agrees(wrong)


def test_sampled_sums_too() -> None:
    events = [gaussian(0.8, 50, 0.1)]
    ours, theirs = pld.epsilon_of(events, 1e-5), by_opacus(events, 1e-5)
    assert theirs.prv == pytest.approx(ours, rel=0.01, abs=0.02)
    assert theirs.agrees(ours)


def test_without_noise_and_without_events() -> None:
    assert by_opacus([gaussian(0.0, 1)], 1e-5) == ByOpacus(math.inf, math.inf)
    assert by_opacus([], 1e-5) == ByOpacus(0.0, 0.0)
    assert by_opacus([gaussian(0.0, 1)], 1e-5).agrees(math.inf)
    assert not by_opacus([gaussian(0.0, 1)], 1e-5).agrees(8.0)


def test_what_opacus_cannot_count_is_named() -> None:
    with pytest.raises(ValueError, match=r"Laplace.*no Gaussian sum"):
        by_opacus([Event(LaplaceDpEvent(1.0))], 1e-5)
    with pytest.raises(ValueError, match="delta"):
        by_opacus(RUN, 0.0)
