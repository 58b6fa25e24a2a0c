"""Records go through a fixed front once, and everything after it is as if they went each time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metaward import sim
from metaward.client import work
from metaward.client.inner import Setting
from metaward.client.models import MODELS
from metaward.client.models.conv import Conv
from metaward.client.models.scatter import Front, Scatter
from metaward.client.prepared import prepared
from metaward.privacy import UNITS

RUN = sim.load(
    sim.DEFAULT,
    ["client.tasks.records=120", "client.tasks.train_shots=3", "client.tasks.train_queries=3"],
)
SOURCE = RUN.client.tasks
SETTING = Setting(Scatter(), SOURCE.spec())
RAW = work.open_hospital(SOURCE, 0, None, 7)


def test_prepared_records_are_what_the_front_makes_of_them() -> None:
    ready, rows = prepared(RAW, SETTING), RAW.rows[[5, 0, 17]]
    front = Front(Scatter(), SOURCE.spec().input_shape)
    expected = front(torch.from_numpy(RAW.view(RAW.x[rows])))
    np.testing.assert_allclose(ready.view(ready.x[rows]), expected, rtol=1e-5, atol=1e-5)
    assert ready.ids is RAW.ids
    assert SETTING.spec.input_shape == expected.shape[1:]


def test_the_same_tasks_are_dealt() -> None:
    """A deal goes by labels and numbers, so preparing changes nothing of it."""
    ready = prepared(RAW, SETTING)
    deals = [
        work.deal(hospital, UNITS["record"], np.random.default_rng(3)) for hospital in (RAW, ready)
    ]
    assert len(deals[0]) > 1
    for raw, made in zip(*deals, strict=True):
        assert raw.support_rows.tolist() == made.support_rows.tolist()
        assert raw.query_rows.tolist() == made.query_rows.tolist()
        assert raw.support_y.tolist() == made.support_y.tolist()
        np.testing.assert_allclose(SETTING.prepare(raw.query_x), made.query_x, rtol=1e-5, atol=1e-5)


def test_a_network_without_a_front_gets_the_records() -> None:
    setting = Setting(Conv(8, 2, 4), SOURCE.spec())
    assert prepared(RAW, setting) is RAW
    x = RAW.view(RAW.x[RAW.rows[:2]])
    assert setting.prepare(x) is x
    assert setting.spec == SOURCE.spec()


def test_the_front_runs_once_a_record_in_a_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, forward = [], Front.forward

    def watched(self: Front, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return forward(self, x)

    setting = Setting(Scatter(orientations=2), SOURCE.spec())  # of no other test
    monkeypatch.setattr(Front, "forward", watched)
    for _ in range(3):
        ready = work.prepare(work.open_hospital(SOURCE, 0, None, 7), setting)
        work.deal(ready, UNITS["record"], np.random.default_rng(3))
    assert sum(seen) == len(RAW.rows)


def test_a_record_that_was_changed_goes_through_it_again() -> None:
    x = RAW.x.copy()
    x[RAW.rows[4]] = 0
    other = work.prepare(replace(RAW, x=x), SETTING)
    own = work.prepare(RAW, SETTING)
    changed = [r for r in RAW.rows if not np.array_equal(own.x[[r]], other.x[[r]])]
    assert changed == [RAW.rows[4]], "and no other record's features move by a bit"


def test_fronts_have_nothing_to_train() -> None:
    fronts = [cls().front((1, 28, 28)) for cls in MODELS.values()]
    made = [front for front in fronts if front is not None]
    assert made
    assert not any([*front.parameters(), *front.buffers()] for front in made)
