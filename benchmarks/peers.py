"""Our meta-gradients beside other libraries', as ratios measured in one run.

Conv-4, a hospital's round: 4 tasks of 5 ways, 5 inner steps, 25 support and 75 query images of 28
pixels, one thread, process CPU time. Ways take turns, so that a machine whose speed drifts slows
all of them; the speed is relative to the loop that tutorials write, the median of the turns'
ratios. Every way's meta-gradient is compared with the tutorial's before, in float64: five steps
on noise make much of a last bit.

- tutorial: `deepcopy` and SGD (first order), or a loop with ``create_graph`` (exact)
- higher, torchopt: the same loops with these libraries, which are left out where not installed
- metaward: ``client.inner.maml``; `recursion` is exact MAML with ``backward: recursion``

The memory of exact MAML is by how much a fresh process grows at most during one update.

    pip install torchopt
    python benchmarks/peers.py [--width 64] [--repeats 7] [--out benchmarks/results/peers.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import platform
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import as_written
from torch import Tensor, nn
from torch.nn import functional
from turns import in_turn

from metaward.client.inner import Setting
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.models.conv import Conv
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import OpenSession

WAYS, SUPPORT, QUERY, TASKS, STEPS, LR = 5, 25, 75, 4, 5, 0.05
SPEC = TaskSpec(CLASSIFICATION, (1, 28, 28), WAYS, WAYS, False)
ORDERS = ("first", "exact")
PEERS = ("higher", "torchopt")
MEMORY = {"graph": 5, "recursion": 10}
"""Ways back of exact MAML, and the inner steps at which their memory is compared."""
Meta = Callable[[Tensor, Sequence[Episode]], Tensor]
"""(theta (dim,), tasks) -> the mean meta-gradient (dim,)."""


class Peers:
    """The same meta-gradient by the loops of others, on one torch module."""

    def __init__(self, width: int, order: str) -> None:
        body = Conv(width=width)
        head = nn.Linear(body.features(SPEC.input_shape), WAYS)
        self.module = nn.Sequential(as_written(body.body(SPEC.input_shape)), head)
        self.exact = order == "exact"

    def each(self, one: Callable[[nn.Module, list[Tensor]], Sequence[Tensor]]) -> Meta:
        """The mean over tasks of what ``one`` gives at theta."""

        def meta(theta: Tensor, tasks: Sequence[Episode]) -> Tensor:
            nn.utils.vector_to_parameters(theta, self.module.parameters())
            found = [torch.cat([g.flatten() for g in one(self.module, of(t))]) for t in tasks]
            return torch.stack(found).mean(dim=0)

        return meta

    def tutorial(self, module: nn.Module, task: list[Tensor]) -> Sequence[Tensor]:
        """A loop as tutorials write it."""
        return self._graph(module, task) if self.exact else self._copied(module, task)

    def _copied(self, module: nn.Module, task: list[Tensor]) -> Sequence[Tensor]:
        sx, sy, qx, qy = task
        fast = deepcopy(module)
        optimizer = torch.optim.SGD(fast.parameters(), lr=LR)
        for _ in range(STEPS):
            optimizer.zero_grad()
            functional.cross_entropy(fast(sx), sy).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return torch.autograd.grad(functional.cross_entropy(fast(qx), qy), list(fast.parameters()))

    def _graph(self, module: nn.Module, task: list[Tensor]) -> Sequence[Tensor]:
        sx, sy, qx, qy = task
        start: dict[str, Tensor] = dict(module.named_parameters())
        fast = start
        for _ in range(STEPS):
            loss = functional.cross_entropy(torch.func.functional_call(module, fast, sx), sy)
            slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: p - LR * g for (name, p), g in zip(fast.items(), slopes, strict=True)}
        loss = functional.cross_entropy(torch.func.functional_call(module, fast, qx), qy)
        return torch.autograd.grad(loss, list(start.values()))

    def higher(self, module: nn.Module, task: list[Tensor]) -> Sequence[Tensor]:
        """Grefenstette et al. 2019: Generalized Inner Loop Meta-Learning."""
        sx, sy, qx, qy = task
        with warnings.catch_warnings(action="ignore"):
            library = importlib.import_module("higher")
        optimizer = torch.optim.SGD(module.parameters(), lr=LR)
        given = {"copy_initial_weights": False, "track_higher_grads": self.exact}
        with library.innerloop_ctx(module, optimizer, **given) as (fast, inner):
            for _ in range(STEPS):
                inner.step(functional.cross_entropy(fast(sx), sy))
            loss = functional.cross_entropy(fast(qx), qy)
            to = module.parameters() if self.exact else fast.parameters()
            found: Sequence[Tensor] = torch.autograd.grad(loss, list(to))
        return found

    def torchopt(self, module: nn.Module, task: list[Tensor]) -> Sequence[Tensor]:
        """Ren et al. 2022: TorchOpt; its differentiable SGD, exact only."""
        sx, sy, qx, qy = task
        library = importlib.import_module("torchopt")
        inner, start = library.MetaSGD(module, lr=LR), library.extract_state_dict(module)
        begun = list(module.parameters())
        for _ in range(STEPS):
            inner.step(functional.cross_entropy(module(sx), sy))
        found = torch.autograd.grad(functional.cross_entropy(module(qx), qy), begun)
        library.recover_state_dict(module, start)
        return found


def of(task: Episode) -> list[Tensor]:
    """Support and query as tensors."""
    given = (task.support_x, task.support_y, task.query_x, task.query_y)
    return [torch.from_numpy(array) for array in given]


def ours(width: int, learner: Fomaml | Maml) -> Meta:
    """metaward's own."""
    setting, rng = Setting(Conv(width=width), SPEC), np.random.default_rng(0)

    def meta(theta: Tensor, tasks: Sequence[Episode]) -> Tensor:
        return -learner.update(setting, theta, tasks, OpenSession(), rng).delta

    return meta


def ways(width: int, order: str) -> dict[str, Meta]:
    """Every way to the meta-gradient of this order."""
    peers = Peers(width, order)
    found = {"tutorial": peers.each(peers.tutorial), "higher": peers.each(peers.higher)}
    if order == "first":
        return {**found, "metaward": ours(width, Fomaml(lr=LR, steps=STEPS))}
    if importlib.util.find_spec("torchopt"):
        found["torchopt"] = peers.each(peers.torchopt)
    for way in ("graph", "recursion"):
        found[f"metaward, {way}"] = ours(width, Maml(lr=LR, steps=STEPS, backward=way))
    return found


def tasks() -> list[Episode]:
    """Made-up tasks."""
    draw = np.random.default_rng(1)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = draw.normal(size=(n, *SPEC.input_shape)).astype(np.float32)
        return x, np.arange(n) % WAYS

    return [
        Episode(*part(SUPPORT), *part(QUERY), np.arange(WAYS), np.arange(SUPPORT), np.arange(QUERY))
        for _ in range(TASKS)
    ]


def in_float64(task: Episode) -> dict[str, Any]:
    """Its records."""
    given = {"support_x": task.support_x, "query_x": task.query_x}
    return {name: x.astype(np.float64) for name, x in given.items()}


def measured(width: int, order: str, repeats: int) -> dict[str, Any]:
    """All ways in turn."""
    theta = Setting(Conv(width=width), SPEC).network(WAYS).initial(0)
    given, found = tasks(), ways(width, order)
    wide = [replace(t, **in_float64(t)) for t in given]
    every = {name: partial(meta, theta, given) for name, meta in found.items()}
    precise = {name: partial(meta, theta.double(), wide) for name, meta in found.items()}
    return in_turn(every, "tutorial", repeats, 1e-9, precise)


def grown(way: str, steps: int, width: int) -> float:
    """By how many MB this process grows at most in one update."""
    torch.set_num_threads(1)
    theta = Setting(Conv(width=width), SPEC).network(WAYS).initial(0)
    given = tasks()
    ours(width, Fomaml(lr=LR, steps=1))(theta, given)  # what every way needs
    Path("/proc/self/clear_refs").write_text("5")  # the largest size is counted anew
    before = size("VmRSS")
    ours(width, Maml(lr=LR, steps=steps, backward=way))(theta, given)  # type: ignore[arg-type]
    return size("VmHWM") - before


def size(key: str) -> float:
    """MB of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def memory(width: int) -> dict[str, float]:
    """MB that exact MAML takes beyond first order, each in a process of its own."""
    found = {}
    for way in MEMORY:
        for steps in sorted(set(MEMORY.values())):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[f"{way}, {steps} steps"] = round(pool.apply(grown, (way, steps, width)), 1)
    return found


def installed(name: str) -> str:
    """The version of a library, or that it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    found |= {"width": options.width, "peers": {name: installed(name) for name in PEERS}}
    for order in ORDERS:
        found[order] = measured(options.width, order, options.repeats)
        print(order, found[order]["speed"], flush=True)
    found["memory_mb"] = memory(options.width)
    print(found["memory_mb"])
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
