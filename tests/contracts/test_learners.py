"""What every network and every learner must keep."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metaward.client.inner import ALGORITHMS, Setting
from metaward.client.models import MODELS, Architecture, Mlp, fed_shape, network
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import UNITS, OpenSession, Rehearsal
from tests.client.models.flat import Flat
from tests.contracts.requests import NEED_LINEAR

# ------------------------------------------------------------------------------ MODELS

SHAPES = [(1, 28, 28), (3, 28, 28), (12, 100), (13,), (1,)]


def fits(cls: type[Any], shape: tuple[int, ...]) -> bool:
    try:
        return bool(fed_shape(cls(), shape)) and bool(cls().features(fed_shape(cls(), shape)))
    except ValueError:
        return False


@pytest.mark.parametrize("shape", SHAPES)
def test_some_model_takes_every_shape(shape: tuple[int, ...]) -> None:
    assert any(fits(cls, shape) for cls in MODELS.values())


@pytest.mark.parametrize(
    ("name", "shape"), [(n, s) for n, cls in MODELS.items() for s in SHAPES if fits(cls, s)]
)
def test_model(name: str, shape: tuple[int, ...]) -> None:
    """Body and features agree, and no record touches another's output."""
    architecture = MODELS[name]()
    shape = fed_shape(architecture, shape)
    spec = TaskSpec(CLASSIFICATION, shape, 4, 9, False)
    net, body = network(architecture, spec, 4), network(architecture, spec, 0)
    phi = net.initial(0).double()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    assert body.forward(phi[: body.dim], x).shape == (3, architecture.features(shape))
    outputs = net.forward(phi, x)
    assert outputs.shape == (3, 4)
    alone = torch.cat([net.forward(phi, record[None]) for record in x])
    torch.testing.assert_close(outputs, alone, rtol=1e-10, atol=1e-10)
    assert torch.equal(net.initial(3), net.initial(3))


# -------------------------------------------------------------------------- ALGORITHMS

SPECS = {
    "classification": TaskSpec(CLASSIFICATION, (6,), 3, 7, False),
    "canonical": TaskSpec(CLASSIFICATION, (6,), 3, 3, True),
    "regression": TaskSpec(REGRESSION, (1,), 1, 0, False),
}
NEED_CLASSES = {"proto_maml", "proto_anil", "embedding", "metric"}


def network_for(name: str) -> Architecture:
    return Flat() if name in NEED_LINEAR else Mlp((5,))


def episode(spec: TaskSpec, seed: int) -> Episode:
    rng = np.random.default_rng(seed)

    def half(n: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        x = rng.normal(size=(n * 3, *spec.input_shape)).astype(np.float32)
        y = np.repeat(np.arange(3), n) if spec.kind.classes else x[:, :1] * 2
        return x, y

    classes = np.arange(3) if spec.kind.classes else np.zeros(0, np.int64)
    (sx, sy), (qx, qy) = half(2), half(4)
    return Episode(sx, sy, qx, qy, classes, np.arange(6), np.arange(6, 18))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm(name: str, kind: str) -> None:
    """Update and predictor have their shapes, nothing given is written to, all is repeatable."""
    algorithm, spec = ALGORITHMS[name](), SPECS[kind]
    if name in NEED_CLASSES and kind == "regression":
        with pytest.raises(ValueError, match="choose"):
            algorithm.check(spec, UNITS["none"])
        return
    algorithm.check(spec, UNITS["none"])
    setting = Setting(network_for(name), spec)
    algorithm.check_network(setting)
    theta = algorithm.initial(setting, 4)
    assert torch.equal(theta, algorithm.initial(setting, 4))
    layers = algorithm.layers(setting)
    assert sum(layer.size for layer in layers if not layer.local) == len(theta)
    assert len({layer.name for layer in layers}) == len(layers)
    assert theta.dim() == 1
    assert theta.dtype == torch.float32
    episodes = [episode(spec, n) for n in range(2)]
    kept, before = theta.clone(), pickle.dumps(episodes)
    updates = [
        algorithm.update(setting, theta, episodes, OpenSession(), np.random.default_rng([1, 2]))
        for _ in range(2)
    ]
    for update in updates:
        assert update.delta.shape == theta.shape
        assert update.loss.shape == ()
        assert torch.isfinite(update.delta).all()
        assert not update.delta.requires_grad
        assert not update.loss.requires_grad
        assert torch.equal(update.delta, updates[0].delta)
    x = setting.query(episodes[0]).x
    for steps in (0, algorithm.adapt_steps):
        predict = algorithm.adapt(setting, theta, setting.support(episodes[0]), steps)
        with torch.no_grad():
            outputs = predict(x)
        assert outputs.shape == (len(x), spec.outputs)
        assert torch.isfinite(outputs).all()
    assert torch.equal(theta, kept)
    assert pickle.dumps(episodes) == before


SESSIONS = {
    "raw": OpenSession(),
    "summed": OpenSession(raw=False),
    "head": OpenSession(raw=False, trained=frozenset({"head"})),
}


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"centroid", "metric"}))
def test_only_what_is_trained_moves(name: str, session: OpenSession) -> None:
    """Neither gradient nor decay moves a frame, or a group that the mechanism leaves alone."""
    learner = replace(ALGORITHMS[name](), l2=0.5)  # type: ignore[type-var]
    setting = Setting(Flat(), SPECS["classification"])
    theta = learner.initial(setting, 4) + 0.1  # no coordinate is zero, where decay would show none
    episodes = [episode(setting.spec, n) for n in range(2)]
    update = learner.update(setting, theta, episodes, session, np.random.default_rng(1))
    layers = [layer for layer in learner.layers(setting) if not layer.local]
    pieces = torch.split(update.delta, [layer.size for layer in layers])
    assert "frame" in {layer.group for layer in layers}
    for layer, piece in zip(layers, pieces, strict=True):
        assert bool(piece.any()) == (layer.group in session.trained), layer.name


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_records_are_reached_through_the_session_alone(name: str, kind: str) -> None:
    """Where every sum must be noised, one that answers zeros leaves nothing of a record's value.

    Labels stay: how many records a class has in a task is public.
    """
    algorithm, spec = ALGORITHMS[name](), SPECS[kind]
    try:
        algorithm.check(spec, UNITS["record"])
    except ValueError:
        assert name in NEED_CLASSES
        assert kind == "regression"
        return
    setting = Setting(network_for(name), spec)
    algorithm.check_network(setting)
    theta = algorithm.initial(setting, 4)
    found = []
    for seed in (1, 2):
        session, episodes = Rehearsal(), [episode(spec, seed), episode(spec, seed + 5)]
        rng = np.random.default_rng([1, 2])
        found.append((algorithm.update(setting, theta, episodes, session, rng), session.uses))
    (one, uses), (other, again) = found
    assert torch.equal(one.delta, other.delta)
    torch.testing.assert_close(one.loss, other.loss, rtol=0, atol=0, equal_nan=True)
    assert uses == again, "a price that depends on values would tell them"
    assert uses or name == "centroid"
