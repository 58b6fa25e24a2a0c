"""A sitting changes the tasks that judge, and nothing else about a hospital."""

from __future__ import annotations

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.node import open_node
from metaward.client.sitting import THE_RUNS_OWN, Sitting, of_config
from metaward.client.tasks.phantom import Phantom
from tests.client.bedside import RECORD, Site, request, site  # noqa: F401

SMALL = Phantom(hospitals=1, unseen=1, records=120)


def test_records_stay_though_the_source_would_deal_others() -> None:
    own = SMALL.hospital(1, None, 3)
    resized = Sitting(shots=1, queries=2).resized(own, SMALL, 1, None, 3)
    other = Phantom(hospitals=1, unseen=1, records=120, shots=1, queries=2).hospital(1, None, 3)
    assert not np.array_equal(own.y, other.y), "phantoms are drawn by the size of a task"
    assert resized.x is own.x
    assert resized.y is own.y
    episode = resized.episode(np.random.default_rng(0))
    assert (len(episode.support_y), len(episode.query_y)) == (3, 6)


def test_its_own_size_changes_nothing() -> None:
    own = SMALL.hospital(1, None, 3)
    for sitting in (THE_RUNS_OWN, Sitting(4, SMALL.shots, SMALL.queries)):
        assert sitting.resized(own, SMALL, 1, None, 3) is own


def test_a_size_that_cannot_be_is_refused() -> None:
    own = SMALL.hospital(1, None, 3)
    with pytest.raises(DataError, match=r"hospital unseen-01: records = 120 is below"):
        Sitting(shots=60).resized(own, SMALL, 1, None, 3)


@pytest.mark.parametrize("sitting", [THE_RUNS_OWN, Sitting(7), Sitting(0, 1), Sitting(2, 5, 9)])
def test_a_node_config_carries_it(sitting: Sitting) -> None:
    assert of_config(sitting.config()) == sitting


def test_a_real_hospital_is_judged_on_the_runs_tasks_alone(site: Site) -> None:  # noqa: F811
    config = {"partition-id": 0, **site.config, **Sitting(3, 1, 1).config()}
    assert open_node(config, RECORD.desk(), request()).sitting == THE_RUNS_OWN
