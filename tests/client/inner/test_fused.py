"""``fused`` is the loop with other code for gradients, and a line says where it is not."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.at_once import AtOnce, Fused, OneByOne, TasksAtOnce
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.inner.reptile import Reptile
from metaward.client.judging import judge
from metaward.client.models.conv import Conv
from metaward.client.models.fused import building
from metaward.client.models.mlp import Mlp
from metaward.privacy import Opening, OpenSession, Rehearsal
from metaward.privacy.noise import SeededNoise
from tests.client.models.fused.compilers import needs_compiler
from tests.mechanisms import protecting
from tests.privacy.attacked import FLAT, IMAGE, episodes, records

CONV = Conv(16, 2, 4)
LEARNERS: dict[str, Algorithm] = {
    "reptile": Reptile(lr=0.1, steps=3, l2=0.1),
    "reptile in batches": Reptile(lr=0.1, steps=3, batch=5),
    "fomaml": Fomaml(lr=0.1, steps=3),
    "fomaml, local rate": Fomaml(lr=0.1, steps=2, local_lr=0.2),
    "maml": Maml(lr=0.1, steps=2),
    "proto_maml": ProtoMaml(lr=0.1, steps=2),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)


def update(name: str, at_once: AtOnce, unit: str, dtype: torch.dtype, **options: object) -> Tensor:
    """One update, in the open or with noised sums."""
    learner, setting = LEARNERS[name], Setting(CONV, IMAGE, at_once=at_once)
    theta, hospital = learner.initial(setting, 3).to(dtype), records(IMAGE, 1)
    hospital = replace(hospital, x=hospital.x.astype(str(dtype).removeprefix("torch.")))
    session: object = OpenSession()

    def once(theta: Tensor, session: object) -> Tensor:
        rng = np.random.default_rng(5)
        return learner.update(setting, theta, episodes(hospital), session, rng).delta  # type: ignore[arg-type]

    if unit != "open":
        once(theta.float(), rehearsal := Rehearsal())
        mechanism = protecting(unit, clip_norm=0.05, **options)
        sigma = {use.kind: 0.7 for use in rehearsal.uses}
        owners = mechanism.unit.owners(hospital)
        session = mechanism.session(Opening(rehearsal.uses, sigma, owners, SeededNoise(4)))
    return once(theta, session)


@needs_compiler
@pytest.mark.parametrize("unit", ["open", "record", "patient"])
@every_learner
def test_updates_are_those_of_the_loop(name: str, unit: str) -> None:
    """With noised sums the noise is the same, too."""
    for dtype, close in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        found, expected = (update(name, at_once, unit, dtype) for at_once in (Fused(), OneByOne()))
        assert float((found - expected).norm()) < close * float(expected.norm())


@needs_compiler
@pytest.mark.parametrize("train", [("head",), ("norm", "head"), ("norm",)])
def test_coordinates_that_are_not_trained_stay(train: tuple[str, ...]) -> None:
    found, expected = (
        update("reptile", at_once, "record", torch.float64, train=train)
        for at_once in (Fused(), OneByOne())
    )
    assert torch.equal(found == 0, expected == 0)
    assert float((found - expected).norm()) < 1e-11 * float(expected.norm())


@needs_compiler
def test_a_secret_draw_of_units_is_the_same() -> None:
    found, expected = (
        update("fomaml", at_once, "record", torch.float64, sampling_rate=0.5)
        for at_once in (Fused(), OneByOne())
    )
    assert float((found - expected).norm()) < 1e-11 * float(expected.norm())


@needs_compiler
def test_an_unseen_hospital_adapts_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    from metaward.client.models.fused import FusedKernel

    calls, slope = list[int](), FusedKernel.slope

    def counted(self: FusedKernel, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return slope(self, phi, x, y)

    monkeypatch.setattr(FusedKernel, "slope", counted)
    learner, found = LEARNERS["fomaml"], []
    for at_once in (OneByOne(), Fused()):
        setting = Setting(CONV, IMAGE, at_once=at_once)
        theta = learner.initial(setting, 3).double()
        found.append(judge(setting, learner, theta, list(episodes(records(IMAGE, 1)))))
    np.testing.assert_allclose(np.array(found[0]), np.array(found[1]), atol=1e-9)
    assert calls


def test_the_choice() -> None:
    assert isinstance(TasksAtOnce("fused").on("cpu", torch.nn.Flatten()), Fused)
    assert (Fused().most(1), Fused().noised(1), TasksAtOnce("fused").beside("cpu")) == (1, 1, 1)
    assert not isinstance(TasksAtOnce("auto").on("cpu", torch.nn.Conv2d(1, 1, 3)), Fused)


@pytest.mark.parametrize(
    ("device", "architecture", "spec", "why"),
    [
        ("cuda:0", CONV, IMAGE, "the kernel is for a CPU"),
        ("cpu", Mlp((3,)), FLAT, "the kernel takes network conv"),
        ("cpu", Conv(16, 2, 4, "stride"), IMAGE, "the kernel takes network conv"),
        ("cpu", CONV, IMAGE, "there is no C++ compiler"),
    ],
)
def test_a_line_says_why_there_is_no_kernel(
    device: str,
    architecture: object,
    spec: object,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def missing() -> None:
        raise building.NoKernel("there is no C++ compiler")

    monkeypatch.setattr("metaward.client.models.fused.kernel.library", missing)
    setting = Setting(architecture, spec, at_once=Fused(device))  # type: ignore[arg-type]
    net = setting.network(3)
    with caplog.at_level(logging.WARNING, "metaward.hospital"):
        assert all(setting.objective(net).kernel is None for _ in range(3))
    (line,) = caplog.messages
    assert line.startswith("inner: fused computes as loop does: ")
    assert why in line
