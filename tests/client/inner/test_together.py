"""Many tasks in one call: what it gives, what it costs, and an engine of one file that uses it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.audit import stage_of
from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.at_once import AtOnce, Batched, OneByOne
from metaward.client.inner.maml import Fomaml
from metaward.client.inner.reptile import Reptile
from metaward.client.inner.steps import task_gradients
from metaward.privacy import UNITS, Batch, Opening, OpenSession, Rehearsal, Session
from metaward.privacy.noise import SeededNoise
from metaward.privacy.price import profiles
from metaward.privacy.session import use
from tests.client.inner.test_private_paths import CLOSE, plain, silent
from tests.client.inner.together import FomamlTogether, ReptileTogether
from tests.contracts.requests import MASK, price_of, squares
from tests.mechanisms import protecting
from tests.privacy.attacked import CASES, desk, episodes, records, start

PAIRS: dict[str, tuple[Algorithm, Algorithm]] = {
    "reptile": (Reptile(lr=0.1, steps=3, l2=0.1), ReptileTogether(lr=0.1, steps=3, l2=0.1)),
    "in batches": (Reptile(lr=0.1, steps=3, batch=5), ReptileTogether(lr=0.1, steps=3, batch=5)),
    "one step": (Reptile(lr=0.1, steps=1), ReptileTogether(lr=0.1, steps=1)),
    "fomaml": (Fomaml(lr=0.3, steps=2, l2=0.1), FomamlTogether(lr=0.3, steps=2, l2=0.1)),
    "local rate": (Fomaml(steps=2, local_lr=0.2), FomamlTogether(steps=2, local_lr=0.2)),
}
every_pair = pytest.mark.parametrize(("loop", "together"), PAIRS.values(), ids=PAIRS)
every_mechanism = pytest.mark.parametrize("unit", UNITS)

# ----------------------------------------------------------------- the engine is the loop


@every_pair
@pytest.mark.parametrize("case", CASES)
def test_the_engine_is_the_loop(case: str, loop: Algorithm, together: Algorithm) -> None:
    """The readable loop is the oracle, in float64, with records in the open."""
    expected = plain(loop, case)
    assert expected.norm() > 1e-3
    torch.testing.assert_close(plain(together, case), expected, rtol=0, atol=1e-12)


@every_pair
@pytest.mark.parametrize("unit", ["record", "patient", "task", "hospital"])
def test_it_is_the_loop_under_every_mechanism(
    unit: str, loop: Algorithm, together: Algorithm
) -> None:
    torch.testing.assert_close(
        silent(unit, together, "mlp")[1], silent(unit, loop, "mlp")[1], rtol=0, atol=CLOSE["mlp"]
    )


@every_pair
@every_mechanism
def test_it_asks_for_the_same_and_pays_the_same(
    unit: str, loop: Algorithm, together: Algorithm
) -> None:
    """The same sums over the same records, hence the same noise; only their order may differ."""
    mechanism = protecting(unit)
    one, other = price_of(mechanism, loop), price_of(mechanism, together)
    assert Counter(one.uses) == Counter(other.uses)
    assert one.noise == other.noise


def test_the_audit_sees_every_tasks_sum() -> None:
    """Of two tasks with two inner steps and one noise for the last ones: four sums and one."""
    for learner in PAIRS["fomaml"]:
        noise = lambda round: SeededNoise(1, round)  # noqa: E731
        asked = desk(protecting("record"), learner)
        setting = Setting(asked.architecture, asked.source.spec())
        stage = stage_of(asked, setting, noise, 2, 0)
        seen = stage.round(0, stage.canaries(2, np.random.default_rng(0)), stage.noise(0))
        assert Counter(one.kind for one in seen) == {"support": 4, "query": 1}
        assert len({one.real for one in seen if one.kind == "support"}) == 2


# ------------------------------------------------------------------------------ sessions

X = torch.linspace(-2, 3, 24).view(2, 3, 4)
Y = torch.linspace(0, 1, 6).view(2, 3)
PHI = torch.stack([torch.linspace(-1, 1, 4), torch.linspace(1, -2, 4)])
TASKS = Batch(X, Y, np.arange(6).reshape(2, 3))


def opened(unit: str, times: int = 1) -> Session:
    """Two tasks of three records, each charged for ``times`` gradients of its own."""
    mechanism, rows = protecting(unit), TASKS.rows.tolist()
    asked = mechanism.uses(lambda: [use("support", task) for task in TASKS.unstack()] * times, rows)
    noise = mechanism.noise_multipliers(profiles(mechanism.unit, asked, rows))
    return mechanism.session(Opening(asked, noise, np.arange(6), SeededNoise(3)))


@every_mechanism
def test_each_task_gets_what_it_would_get_alone(unit: str) -> None:
    """Noise included: each task's own, in the order of the tasks."""
    phi, mask = PHI.clone(), MASK.clone()
    found, loss = opened(unit).gradients(squares, phi, TASKS, "support", mask)
    expected, losses = Session.gradients(opened(unit), squares, PHI, TASKS, "support", MASK)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss, losses, equal_nan=True)
    assert (found.shape, found.dtype, loss.shape) == ((2, 4), PHI.dtype, (2,))
    assert found[:, ~MASK].tolist() == [[0.0], [0.0]]
    assert not found.requires_grad
    assert not loss.requires_grad
    for now, before in ((phi, PHI), (mask, MASK)):
        assert torch.equal(now, before)


def test_tasks_have_noise_of_their_own() -> None:
    """Two tasks of equal records at equal phi, told apart by their noise alone."""
    twin = Batch(X[:1].expand(2, -1, -1), Y[:1].expand(2, -1), TASKS.rows)
    found, _ = opened("record").gradients(squares, PHI[:1].expand(2, -1), twin, "support", MASK)
    assert (found[0] != found[1])[MASK].all()


def test_what_was_not_charged_is_not_served() -> None:
    session = opened("record")
    session.gradients(squares, PHI, TASKS, "support", MASK)
    with pytest.raises(RuntimeError, match="was not charged"):
        session.gradients(squares, PHI, TASKS, "support", MASK)


def test_a_rehearsal_writes_a_use_for_each_task() -> None:
    session = Rehearsal()
    found, loss = session.gradients(squares, PHI, TASKS, "query", MASK)
    assert session.uses == [("query", (0, 1, 2)), ("query", (3, 4, 5))]
    assert (found.shape, loss.shape) == (PHI.shape, (2,))
    assert not found.any()


def test_stacking_and_its_inverse() -> None:
    again = Batch.stack(TASKS.unstack())
    assert torch.equal(again.x, TASKS.x)
    assert torch.equal(again.y, TASKS.y)
    assert again.rows.tolist() == TASKS.rows.tolist()
    short = Batch(X[0, :2], Y[0, :2], np.arange(2))
    with pytest.raises(ValueError, match=r"tasks of \[2, 3\] records cannot be stacked"):
        Batch.stack([TASKS.unstack()[0], short])


@pytest.mark.parametrize(("at_once", "passes"), [(Batched(), 1), (OneByOne(), 2)])
def test_one_pass_of_the_network_for_all_tasks(at_once: AtOnce, passes: int) -> None:
    """Not a loop in disguise: the network is called once for all tasks that are done at once."""
    architecture, spec = CASES["mlp"]
    setting, calls = Setting(architecture, spec, at_once=at_once), list[Any]()
    net, theta = setting.network(3), start(setting, Fomaml())
    forward = net.forward

    def counted(phi: Tensor, x: Tensor) -> Tensor:
        calls.append(x)
        return forward(phi, x)

    net.forward = counted  # type: ignore[method-assign]
    batch = Batch.stack([setting.support(e) for e in episodes(records(spec, 1))])
    task_gradients(setting, net, OpenSession(), "support")(theta.expand(2, -1), batch)
    assert len(calls) == passes
