"""What the compiled kernel of the Conv family is worth, as ratios measured in one run.

Conv4-64 on images of 28 x 28 pixels, 5-way, 25 support and 75 query images, one thread, process CPU
time. Ways take turns, so that a machine whose speed drifts slows all of them; ``speed`` is relative
to the first way of a table, the median of the turns' ratios. Results are compared before.

First order, FOMAML over four tasks of five steps:

- tutorial: a copy of the module for each task and ``torch.optim.SGD``, as tutorials write it; this
  module has the layers in the order of papers, ReLU before the pool, and images in torch's order
- loop: ``server.inner: loop``
- fused: ``server.inner: fused``

Private, one clipped sum of the records' gradients with exact clipping and without noise:

- hooks: Opacus's hooks, with its own way to the gradients of convolutions
- layers: ``privacy.record_gradients``, what noised sums of a run do
- fused: the kernel
- opacus: Opacus's hooks and optimizer, whose clipping is in float32 and not exact

    python benchmarks/fused.py [--repeats 15] [--out benchmarks/results/fused.json]
"""

from __future__ import annotations

import argparse
import json
import platform
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from plain import as_written
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from turns import Way, in_turn

from metaward.client.inner.at_once import AtOnce, Fused, OneByOne
from metaward.client.inner.maml import Fomaml
from metaward.client.inner.setting import Setting
from metaward.client.models.conv import Conv
from metaward.client.models.fused import building
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import Batch, Objective, OpenSession, optimizer, record_gradients
from metaward.privacy.noise import SeededNoise

WAYS, SHOTS, QUERIES, TASKS, STEPS, RATE = 5, 5, 15, 4, 5, 0.05
SPEC = TaskSpec(CLASSIFICATION, (1, 28, 28), WAYS, WAYS, True)
NETWORK = Conv(width=64, depth=4, groups=8)


def task(seed: int) -> Episode:
    """A made-up task: classes are blobs of their own, under noise."""
    draw = np.random.default_rng(seed)
    looks = draw.normal(size=(WAYS, *SPEC.input_shape))

    def part(each: int, first: int) -> tuple[Any, Any, Any]:
        y = np.arange(WAYS * each) % WAYS
        x = (looks[y] + draw.normal(size=(len(y), *SPEC.input_shape))).astype(np.float32)
        return x, y, first + np.arange(len(y))

    (sx, sy, rows), (qx, qy, more) = part(SHOTS, 0), part(QUERIES, WAYS * SHOTS)
    return Episode(sx, sy, qx, qy, np.arange(WAYS), rows, more)


def module(setting: Setting, theta: Tensor) -> nn.Module:
    """The network as tutorials write it, with the parameters theta (dim,)."""
    found = deepcopy(setting.network(WAYS).module).to_empty(device="cpu")
    found.set_submodule("body", as_written(found.get_submodule("body")))
    vector_to_parameters(theta, found.parameters())
    return found


# ---------------------------------------------------------------------------- first order


def tutorial(setting: Setting, theta: Tensor, tasks: list[Episode]) -> Tensor:
    """The mean over the tasks of minus the query gradient at phi_T, with a module for each task."""
    start, total = module(setting, theta), torch.zeros_like(theta)
    for episode in tasks:
        own = deepcopy(start)
        descent = torch.optim.SGD(own.parameters(), RATE)
        for _ in range(STEPS):
            x, y, _ = setting.support(episode)
            descent.zero_grad()
            backward(functional.cross_entropy(own(x), y))
            descent.step()
        x, y, _ = setting.query(episode)
        descent.zero_grad()
        backward(functional.cross_entropy(own(x), y))
        total -= slopes(own) / len(tasks)
    return total


def backward(loss: Tensor) -> None:
    """Torch's own, which has no types."""
    loss.backward()  # type: ignore[no-untyped-call]


def slopes(own: nn.Module) -> Tensor:
    """The gradients of all parameters as one vector."""
    return parameters_to_vector([p.grad for p in own.parameters() if p.grad is not None])


def first_order() -> dict[str, Way]:
    """An update over all tasks, each way."""
    tasks = [task(seed) for seed in range(TASKS)]
    learner = Fomaml(lr=RATE, steps=STEPS)
    plain = Setting(NETWORK, SPEC)
    theta = plain.network(WAYS).initial(1)

    def by(at_once: AtOnce) -> Way:
        setting = Setting(NETWORK, SPEC, at_once=at_once)
        draw = np.random.default_rng(0)
        return lambda: learner.update(setting, theta, tasks, OpenSession(), draw).delta

    return {
        "tutorial": lambda: tutorial(plain, theta, tasks),
        "loop": by(OneByOne()),
        "fused": by(Fused()),
    }


# -------------------------------------------------------------------------------- private


def private(records: int) -> dict[str, Way]:
    """One clipped sum over some records, each way."""
    setting, fused = Setting(NETWORK, SPEC), Setting(NETWORK, SPEC, at_once=Fused())
    net = setting.network(WAYS)
    theta, mask = net.initial(1), net.mask({"body", "norm", "head"})
    batch = setting.query(task(0))
    batch = Batch(batch.x[:records], batch.y[:records], batch.rows[:records])
    place = optimizer.RecordsAt(theta, batch, torch.arange(records), None)
    nothing = torch.zeros(net.dim, dtype=torch.float64)

    def exact(objective: Objective) -> Tensor:
        source = SeededNoise(0)
        return optimizer.noisy_gradients(
            objective, [place], mask, 1.0, 0.0, source, records, nothing
        )

    def hooked() -> Tensor:
        with (
            patch.object(record_gradients, "takes", lambda *_: False),
            patch.object(optimizer, "Hooked", opacus_hooks),
        ):
            plain = module(setting, theta)
            return exact(Objective(plain, net.forward, SPEC.kind.losses))

    return {
        "hooks": hooked,
        "layers": lambda: exact(setting.objective(net)),
        "fused": lambda: exact(fused.objective(fused.network(WAYS))),
        "opacus": lambda: by_opacus(module(setting, theta), batch),
    }


def opacus_hooks(own: nn.Module) -> nn.Module:
    """Opacus's hooks as they come."""
    found: nn.Module = GradSampleModule(own, loss_reduction="sum")
    return found


def by_opacus(own: nn.Module, batch: Batch) -> Tensor:
    """The sum by Opacus alone."""
    wrapped = opacus_hooks(own)
    descent = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        expected_batch_size=1,
    )
    x = batch.x.clone().requires_grad_()
    backward(functional.cross_entropy(wrapped(x), batch.y, reduction="sum"))
    descent.step()
    return slopes(wrapped).double()


# ------------------------------------------------------------------------------ measuring


def machine() -> dict[str, Any]:
    """What it was measured on."""
    lines = building._processor().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": (names or [platform.machine()])[0],
        "compiler": Path(building._compiler()).name,
        "options": list(building.OPTIONS),
    }


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fused.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = machine()
    tables = {
        "first order": first_order(),
        "private, 25": private(25),
        "private, 75": private(75),
    }
    for name, ways in tables.items():
        # a float32 pool may choose another of two equal pixels, hence the limit
        found[name] = in_turn(ways, next(iter(ways)), options.repeats, limit=0.05)
        print(name, found[name]["speed"], flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
