"""What the tests of private adaptation share: a ward of made-up records, terms, two worlds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

import metaward as mw
from metaward.client.adaptation import Adaptation
from metaward.client.inner import Setting
from metaward.client.inner.fitted import Fitted
from metaward.privacy import UNITS, Batch, Sums
from metaward.privacy.noise import Noise, SystemNoise
from metaward.privacy.noise import noisy as add_noise
from tests.privacy.lockstep import Sum, noising

CLASSES, EACH = 3, 8
LEARNERS = ("metric", "proto_maml", "proto_anil", "reptile", "fomaml", "maml", "embedding", "local")
UNIT_NAMES = ("record", "patient")
SHAPE = (1, 16, 16)


def small(name: str) -> mw.Run:
    """A run of this learner on made-up files, whose networks are small."""
    adapter = {"network": "adapter", "rank": 2, "orientations": 2}
    network = adapter if name == "proto_anil" else {"network": "conv", "width": 8, "depth": 1}
    return mw.load(
        overrides={
            "client.tasks": {"source": "folder", "train": ["a"], "unseen": ["b"]}
            | {"classes": ["p", "q", "r"], "shape": list(SHAPE), "ways": CLASSES},
            "client.inner": {"algorithm": name},
            "client.model": network,
            "client.warm_up": None,
            "privacy": {"mechanism": "none"},
            "client.schedule": "random",
        }
    )


def task(name: str, mechanism: Sums, steps: int = 2) -> tuple[Adaptation, Batch]:
    """The learner's adaptation to made-up records of three classes, and these records."""
    run, rng = small(name), np.random.default_rng(4)
    setting = Setting(run.client.model, run.client.tasks.spec())
    y = np.arange(CLASSES * EACH) % CLASSES
    x = rng.normal(size=(len(y), *SHAPE)) + y[:, None, None, None]
    prepared = torch.from_numpy(setting.prepare(x.astype(np.float32)))
    theta = run.client.inner.initial(setting, 0)
    if name == "metric":  # a covariance that is not the identity
        theta = theta * 2
    support = Batch(prepared, torch.from_numpy(y), np.arange(len(y)))
    return Adaptation(mechanism, run.client.inner, setting, theta, steps), support


def owners(mechanism: Sums) -> NDArray[Any]:
    """Who owns the made-up records: nobody twice, or four of them each patient."""
    rows = np.arange(CLASSES * EACH)
    return rows if mechanism.unit is UNITS["record"] else rows // 4


def without(support: Batch, gone: NDArray[Any]) -> Batch:
    """The records with empty places: what is not finite counts as zero in every sum."""
    x = support.x.clone()
    x[torch.from_numpy(gone)] = torch.nan
    return support._replace(x=x)


def tensors(predictor: Any) -> list[torch.Tensor]:
    """All that a published model holds of its predictor."""
    assert isinstance(predictor, Fitted)
    parts = [predictor.theta, predictor.weights, predictor.biases]
    return parts if predictor.mix is None else [*parts, predictor.mix]


@dataclass
class Onlooker:
    """Sees each sum that secret noise is added to; ``given`` another world's noisy sums, if any.

    Sums with seeded noise, of models that are only judged, go by.
    """

    given: list[NDArray[np.float64]] | None = None
    sums: list[Sum] = field(default_factory=list)
    noised: list[NDArray[np.float64]] = field(default_factory=list)

    def noisy(self, total: Any, clip: float, sigma: float, noise: Noise) -> NDArray[np.float64]:
        """In the place of ``privacy.noise.noisy``."""
        if not noise.secret:
            return add_noise(total, clip, sigma, noise)
        self.sums.append(Sum(np.array(total, np.float64), clip, sigma))
        if self.given is None:
            self.noised.append(add_noise(total, clip, sigma, noise))
        else:
            self.noised.append(self.given[len(self.sums) - 1])
        return self.noised[-1].copy()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Everywhere that noise is added."""
        with ExitStack() as stack:
            for module in noising():
                stack.enter_context(mock.patch.object(module, "noisy", self.noisy))
            yield


def moved(a: Onlooker, b: Onlooker) -> float:
    """The squares of how far each sum moved, in standard deviations of its noise, added up."""
    assert len(a.sums) == len(b.sums) > 0
    pairs = zip(a.sums, b.sums, strict=True)
    far = (np.linalg.norm(one.total - other.total) / (one.sigma * one.clip) for one, other in pairs)
    return float(sum(distance**2 for distance in far))


def fit(asked: Adaptation, support: Batch, seen: Onlooker) -> Any:
    """The private adaptation, with secret noise, under these eyes."""
    price = asked.price(support)
    with seen.watching():
        session = asked.session(price, owners(asked.mechanism), SystemNoise())  # type: ignore[arg-type]
        return asked.adapted(support, session)


def sums(unit: str = "record", **options: Any) -> Sums:
    """A mechanism whose clip norms are so small that every vector is clipped."""
    small_norms = {"clip_norm": 2.0**-10, "clip_features": 2.0**-8, "clip_centre": 2.0**-8}
    return replace(Sums(unit=UNITS[unit], epsilon=2.0, **small_norms), **options)


def ledger_at(folder: Path, call: Any, hospital: str = "west") -> Path:
    """A new ledger, made as a hospital makes it."""
    path = folder / "ledger.sqlite"
    assert call("ledger", "init", path, "--hospital", hospital) == 0
    return path
