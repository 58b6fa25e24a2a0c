"""Private sums on a GPU: those of a CPU, and no unit moves them by more than the clip norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.inner import Setting
from metaward.privacy import Batch, Opening, Session
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import use
from tests.mechanisms import protecting
from tests.privacy.attacked import CASES

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)
RECORDS = 1500


def batch(case: str, device: str) -> Batch:
    spec, draw = CASES[case][1], torch.Generator().manual_seed(1)
    x = torch.randn(RECORDS, *spec.input_shape, generator=draw, dtype=torch.float64)
    y = torch.arange(RECORDS) % 3 if spec.kind.classes else x.sum(dim=1, keepdim=True)
    return Batch(x.to(device), y.to(device), np.arange(RECORDS))


def gradient(case: str, device: str, unit: str, clip: float) -> Tensor:
    setting, mechanism = Setting(*CASES[case], device), protecting(unit, clip_norm=clip)
    net, records = setting.network(setting.spec.outputs), batch(case, device)
    theta = net.initial(3).double().to(device)
    owners = np.arange(RECORDS) // (1 if unit == "record" else 2)
    opening = Opening([use("support", records)], {"support": 0.0}, owners, SeededNoise(0))
    mask = net.mask(mechanism.trained, setting.device)
    pairs = [(theta, records)]
    session = mechanism.session(opening)
    return session.gradient(setting.objective(net), pairs, "support", mask)[0].cpu()


@pytest.mark.parametrize("clip", [1e-3, 64.0])
@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.parametrize("case", CASES)
def test_clipped_sums_are_those_of_a_cpu(case: str, unit: str, clip: float) -> None:
    found, expected = (gradient(case, where, unit, clip) for where in ("cuda", "cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * clip)
    assert expected.abs().max() > 1e-6


@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.parametrize("case", CASES)
def test_sums_of_several_tasks_are_those_of_a_cpu(case: str, unit: str) -> None:
    """With the noise of each task, as one task after the other has it on a CPU."""
    owners = np.arange(RECORDS) // (1 if unit == "record" else 2)
    mechanism = protecting(unit, clip_norm=0.05)

    def gradients(device: str) -> Tensor:
        setting, x = Setting(*CASES[case], device), batch(case, device)
        tasks = Batch(*(part[:600].reshape(6, 100, *part.shape[1:]) for part in x))
        net = setting.network(setting.spec.outputs)
        phi = net.initial(3).double() * torch.linspace(0.5, 1.5, 6)[:, None].double()
        uses = [use("support", task) for task in tasks.unstack()]
        session = mechanism.session(Opening(uses, {"support": 0.7}, owners, SeededNoise(2)))
        mask = net.mask(mechanism.trained, setting.device)
        how = Session.gradients if device == "cpu" else type(session).gradients
        return how(session, setting.objective(net), phi.to(device), tasks, "support", mask)[0].cpu()

    torch.testing.assert_close(gradients("cuda"), gradients("cpu"), rtol=1e-9, atol=1e-12)


def test_a_unit_moves_the_sum_by_its_own_vector_and_by_nothing_else() -> None:
    """To the last bit: neighbouring sums differ by one clipped vector, in any order of the rest."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(5000, 40, generator=draw).cuda() * 3
    y, group = torch.zeros(5000, device="cuda"), torch.arange(5000, device="cuda")

    def total(weights: Tensor, order: Tensor) -> Tensor:
        at, kept = x[order], weights[order]
        return clipped_sum(lambda x, y: x, at, y, group, 5000, 0.5, kept, chunk=512).cpu()

    plain, order = torch.ones(5000, device="cuda"), torch.arange(5000, device="cuda")
    shuffled = torch.randperm(5000, generator=draw).cuda()
    without = plain.clone()
    without[17] = 0
    whole, alone = total(plain, order), total(1 - without, order)
    assert torch.equal(whole, total(plain, shuffled))
    assert torch.equal(whole - total(without, order), alone)
    assert 0.4999 < float(alone.norm()) <= 0.5
