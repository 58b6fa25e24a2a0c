"""Algorithms through the real private session: the same mathematics, and no other way to a record.

With noise 0 and clip norms that nothing reaches, what a mechanism gives is the plain mean up to the
grid that clipped vectors are rounded to: so the whole update must be the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.embedding import Embedding
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.metric import Metric
from metaward.client.inner.proto_maml import ProtoMaml, with_prototypes
from metaward.privacy import Opening, OpenSession, Rehearsal, Session
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Batch, Contributions, Kind, Losses, ParameterGroup
from tests.mechanisms import protecting
from tests.privacy.attacked import CASES, LEARNERS, admits, episodes, pairs, records, start

HUGE = {"mlp": 64.0, "curve": 64.0, "conv": 1024.0}
"""No record's vector is as long; clipped vectors are rounded to about 1e-15 of it."""

CLOSE = {case: clip * 2e-14 for case, clip in HUGE.items()}
"""1e-12, and for images 2e-11: a few roundings, which Proto-MAML's way back multiplies."""


def paths(*units: str, cases: Sequence[str] = tuple(CASES)) -> list[tuple[str, str, str]]:
    return [(u, n, c) for c in cases for u, n in pairs(*units, spec=CASES[c][1])]


def silent(
    unit: str, learner: Algorithm, case: str, clip: float | None = None, **options: object
) -> tuple[Tensor, Tensor]:
    """theta, and the update through the real session without noise."""
    architecture, spec = CASES[case]
    setting, hospital = Setting(architecture, spec), records(spec, 1)
    mechanism = protecting(unit, clip_norm=clip or HUGE[case], **options)
    theta, tasks = start(setting, learner), episodes(hospital)

    def rehearse() -> list:
        rehearsal = Rehearsal(mechanism.trained)
        learner.update(setting, theta.float(), tasks, rehearsal, np.random.default_rng(5))
        return rehearsal.uses

    rows = [[*t.support_rows.tolist(), *t.query_rows.tolist()] for t in tasks]
    uses = mechanism.uses(rehearse, rows)
    sigma = {use.kind: 0.0 for use in uses}
    opening = Opening(uses, sigma, mechanism.unit.owners(hospital), SeededNoise(0))
    session = mechanism.session(opening)
    update = learner.update(setting, theta, tasks, session, np.random.default_rng(5)).delta
    if unit == "hospital":
        update = torch.from_numpy(mechanism.release("a", 1, update, update[0], None).update)
        update = update.double()
    return theta, update


def plain(learner: Algorithm, case: str, session: object = None) -> Tensor:
    architecture, spec = CASES[case]
    setting, tasks = Setting(architecture, spec), episodes(records(spec, 1))
    theta = start(setting, learner)
    return learner.update(
        setting, theta, tasks, session or OpenSession(), np.random.default_rng(5)
    ).delta


@pytest.mark.parametrize(("unit", "name", "case"), paths("record", "patient", "task"))
def test_without_noise_and_clipping_the_update_is_the_plain_one(
    unit: str, name: str, case: str
) -> None:
    """MAML's adjoint recursion and Proto-MAML's way back against autograd, among others."""
    learner = LEARNERS[name]
    _, found = silent(unit, learner, case)
    expected = plain(learner, case)
    assert expected.norm() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE[case])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("learner", [Maml(lr=0.3), ProtoMaml(lr=0.3)], ids=["maml", "proto_maml"])
@pytest.mark.parametrize("case", ["mlp", "conv"])
def test_more_steps(case: str, learner: Maml, steps: int) -> None:
    learner = replace(learner, steps=steps)
    _, found = silent("record", learner, case)
    torch.testing.assert_close(found, plain(learner, case), rtol=0, atol=CLOSE[case])


def test_the_agreement_is_no_accident() -> None:
    """First-order MAML through the same session is far from the exact one."""
    _, first = silent("record", Fomaml(lr=0.3, steps=3), "mlp")
    assert (first - plain(Maml(lr=0.3, steps=3), "mlp")).abs().max() > 1e-3


@pytest.mark.parametrize(("unit", "name", "case"), paths("hospital", cases=["mlp"]))
def test_a_hospitals_update_below_the_clip_norm_leaves_as_it_is(
    unit: str, name: str, case: str
) -> None:
    learner = LEARNERS[name]
    _, found = silent(unit, learner, case)
    torch.testing.assert_close(found, plain(learner, case).float().double(), rtol=0, atol=0)


@pytest.mark.parametrize(("unit", "name"), [*pairs("record"), *pairs("patient"), *pairs("task")])
def test_with_a_clip_norm_that_bites_it_is_not_the_plain_one(unit: str, name: str) -> None:
    _, found = silent(unit, LEARNERS[name], "mlp", clip=1e-2)
    assert (found - plain(LEARNERS[name], "mlp")).abs().max() > 1e-3


# --------------------------------------------------------------------------------- masks


@dataclass
class Masked(OpenSession):
    """Plain means, with some coordinates trained only."""

    raw: bool = False
    trained: frozenset[ParameterGroup] = frozenset({"norm", "head"})


@pytest.mark.parametrize("train", [("norm", "head"), ("head",), ("norm",), ("body",)])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_mask_moves_its_coordinates_only(name: str, train: tuple[ParameterGroup, ...]) -> None:
    architecture, spec = CASES["conv"]
    learner = LEARNERS[name]
    learner = replace(learner, l2=0.0) if hasattr(learner, "l2") else learner
    theta, found = silent("record", learner, "conv", train=train)
    outputs = spec.vocabulary if isinstance(learner, Embedding) else spec.outputs
    mask = Setting(architecture, spec).network(outputs).mask(train)[: len(theta)]
    if isinstance(learner, Metric):  # the covariance stands for the body
        mask = torch.full((len(theta),), "body" in train)
    assert (found[~mask] == 0).all()
    if mask.any():
        assert (found[mask] != 0).float().mean() > 0.5
    expected = plain(learner, "conv", Masked(trained=frozenset(train)))
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE["conv"])


def test_masked_maml_is_the_derivative_by_what_is_trained() -> None:
    """By autograd, with the coordinates that stay as constants of the inner loop."""
    architecture, spec = CASES["conv"]
    setting, tasks = Setting(architecture, spec), episodes(records(spec, 1))
    learner, net = Maml(lr=0.3, steps=2), setting.network(3)
    theta, found = silent("record", learner, "conv", train=("norm", "head"))
    mask = net.mask({"norm", "head"})

    def outer(at: Tensor, task: object) -> Tensor:
        phi, support, query = at, setting.support(task), setting.query(task)
        for _ in range(2):
            loss = setting.objective(net)(phi, support.x, support.y).mean()
            phi = phi - 0.3 * torch.autograd.grad(loss, phi, create_graph=True)[0] * mask
        return setting.objective(net)(phi, query.x, query.y).mean()

    at = theta.clone().requires_grad_()
    loss = torch.stack([outer(at, task) for task in tasks]).mean()
    (expected,) = torch.autograd.grad(loss, at)
    torch.testing.assert_close(-found, expected * mask, rtol=0, atol=CLOSE["conv"])


def test_masked_proto_maml_is_the_derivative_by_what_is_trained() -> None:
    """First-order in the steps, exact in the start; the head is built anew and always trained."""
    architecture, spec = CASES["conv"]
    setting, tasks = Setting(architecture, spec), episodes(records(spec, 1))
    learner, net = ProtoMaml(lr=0.3, steps=0), setting.network(3)
    theta, found = silent("record", learner, "conv", train=("norm",))
    at = theta.clone().requires_grad_()

    def outer(task: object) -> Tensor:
        phi, query = with_prototypes(setting, at, setting.support(task)), setting.query(task)
        return setting.objective(net)(phi, query.x, query.y).mean()

    (expected,) = torch.autograd.grad(torch.stack([outer(t) for t in tasks]).mean(), at)
    mask = setting.network(0).mask({"norm"})
    torch.testing.assert_close(-found, expected * mask, rtol=0, atol=CLOSE["conv"])


# ----------------------------------------------------------------------------- side doors


@dataclass
class Deaf:
    """A session whose answers know nothing of the records; it keeps what each record contributes.

    ``contributions`` lists, sum by sum, each row's vector.
    """

    trained: frozenset[ParameterGroup] = frozenset({"body", "norm", "head"})
    raw: bool = False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(8))
    contributions: list[dict[int, Tensor]] = field(default_factory=list)

    def gradient(
        self, losses: Losses, at: Sequence[tuple[Tensor, Batch]], kind: Kind, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        def slope(phi: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
            def one(x: Tensor, y: Tensor) -> Tensor:
                point = phi.detach().requires_grad_()
                return torch.autograd.grad(losses(point, x[None], y[None]).sum(), point)[0] * mask

            return one

        return self.mean([(slope(phi), b) for phi, b in at], kind, len(mask)), torch.zeros(())

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        found = {
            row: one(x, y).detach()
            for one, batch in contributions
            for row, x, y in zip(batch.rows.tolist(), batch.x, batch.y, strict=True)
        }
        self.contributions.append(found)
        return torch.from_numpy(self.rng.normal(size=dim)) * 0.1

    gradients, means = Session.gradients, Session.means

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(directions)).mean(dim=0)


def deaf(name: str, case: str, keep: int | None) -> tuple[Tensor, Deaf]:
    """The update of a hospital whose records are others, but for row ``keep`` (None: its own).

    Which labels a task has stays as it was: counts are declared public.
    """
    architecture, spec = CASES[case]
    setting, hospital, learner = Setting(architecture, spec), records(spec, 1), LEARNERS[name]
    if keep is not None:
        mine = hospital.x[keep].copy(), hospital.y[keep].copy()
        hospital.x[:] = np.random.default_rng(9).normal(size=hospital.x.shape)
        for t in range(4):
            hospital.y[t * 6 : t * 6 + 6] = np.roll(hospital.y[t * 6 : t * 6 + 6], 1, axis=0)
        hospital.x[keep], hospital.y[keep] = mine
        other = keep - keep % 6 + (keep + 1) % 6  # had rolled into it what now is missing
        if spec.kind.classes:
            hospital.y[other], hospital.y[keep] = _balance(hospital.y, keep, other)
    session = Deaf()
    theta = start(setting, learner)
    delta = learner.update(
        setting, theta, episodes(hospital), session, np.random.default_rng(5)
    ).delta
    return delta, session


def _balance(y: np.ndarray, keep: int, other: int) -> tuple[int, int]:
    """The label that makes every class stand twice among the six again."""
    six = y[keep - keep % 6 : keep - keep % 6 + 6]
    rest = [int(v) for i, v in enumerate(six) if keep - keep % 6 + i not in (other, keep)]
    missing = [c for c in range(3) for _ in range(2 - rest.count(c))]
    missing.remove(int(y[keep]))
    return missing[0], int(y[keep])


SIDE = [(name, case) for case in CASES for _, name in pairs("record", spec=CASES[case][1])]


@pytest.mark.parametrize(("name", "case"), SIDE)
def test_records_are_reached_through_the_session_alone(name: str, case: str) -> None:
    """Given the session's answers the update is the same for other records, to the last bit, and a
    record's contribution is its own: all the others changed, it stays."""
    assert admits(protecting("record"), LEARNERS[name], CASES[case][1])
    before, one = deaf(name, case, None)
    for keep in (0, 7, 17):
        after, two = deaf(name, case, keep)
        assert torch.equal(before, after)
        assert len(one.contributions) == len(two.contributions) > 0
        stood = 0
        for mine, other in zip(one.contributions, two.contributions, strict=True):
            assert mine.keys() == other.keys()
            if keep in mine:
                stood += 1
                torch.testing.assert_close(mine[keep], other[keep], rtol=0, atol=1e-12)
            assert all(not torch.equal(mine[row], other[row]) for row in mine if row != keep)
        assert stood or name == "reptile in batches"
