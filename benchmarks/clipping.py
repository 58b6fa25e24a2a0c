"""What per-record gradients and their clipping cost, as ratios measured in one run.

The Conv network (depth 4, 28 x 28 images, 5 ways), the gradients of n records at one vector,
clipped and summed. Variants take turns, so that a machine whose speed drifts slows all of them; one
thread; process CPU time. ``speed`` is relative to Opacus's hooks (higher is faster), the median of
the turns' ratios.
Before timing, all are compared in float64: in float32 a single tie in a max-pool that falls the
other way moves a record's gradient by 1e-3.

- ours: ``privacy.clipping.clipped_sum``, that is vmap(grad) and exact float64 clipping
- opacus: ``GradSampleModule`` and ``DPOptimizer`` on a module wrapped once, without noise
- loop: one autograd call per record, clipped and added as it comes
- grouped: output gradients of one backward pass, then each layer's weight gradients of all records
  by one grouped convolution; float32 clipping by contraction. It is not in the product: this
  benchmark decides whether it should be
- plain: the mean gradient without privacy, the floor

    python benchmarks/clipping.py [--repeats 9] [--out benchmarks/results/clipping.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.overrides import TorchFunctionMode

from metaward.client.models import Network, network
from metaward.client.models.conv import Conv
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.session import gradient

SPEC = TaskSpec(CLASSIFICATION, (1, 28, 28), 5, 5, True)
CLIP = 0.5


class Tape(TorchFunctionMode):
    """Notes the calls of layers with parameters, and makes their outputs the leaves of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, functional.linear, functional.group_norm):
            out = out if out.requires_grad else out.requires_grad_()
            self.calls.append((func, args, kwargs or {}, out))
        return out


def weight_gradients(func: Any, args: Any, kwargs: Any, g: Tensor) -> Tensor:
    """The gradients of one layer's weights and biases for each record (n, values)."""
    x, n = args[0].detach(), len(g)
    if func is functional.linear:
        return torch.cat([torch.einsum("no,ni->noi", g, x).flatten(1), g], 1)
    bias = g.flatten(2).sum(2)
    if func is functional.group_norm:
        normal = functional.group_norm(x, args[1], eps=kwargs.get("eps", args[-1]))
        return torch.cat([(normal * g).flatten(2).sum(2), bias], 1)
    w, _, stride, padding, dilation, groups = args[1:]
    many = w.expand(n, *w.shape).reshape(-1, *w.shape[1:])
    x, folded = x.reshape(1, -1, *x.shape[2:]), g.reshape(1, -1, *g.shape[2:])
    backward = torch.ops.aten.convolution_backward
    options = (stride, padding, dilation, False, [0, 0], n * groups, [False, True, False])
    return torch.cat([backward(folded, x, many, None, *options)[1].view(n, -1), bias], 1)


def grouped(net: Network, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Clipped sum by the captured outputs' gradients."""
    with Tape() as tape:
        loss = functional.cross_entropy(net.forward(phi, x), y, reduction="sum")
    slopes = torch.autograd.grad(loss, [call[3] for call in tape.calls])
    parts = [weight_gradients(*call[:3], g) for call, g in zip(tape.calls, slopes, strict=True)]
    norms = torch.stack([part.norm(dim=1) for part in parts]).norm(dim=0)
    scale = (CLIP / norms).clamp(max=1.0)
    return torch.cat([scale @ part for part in parts])


def opacus(net: Network, phi: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Opacus's step on a network that is wrapped once, as its users have it."""
    module = deepcopy(net.module).to_empty(device="cpu").to(phi.dtype)
    vector_to_parameters(phi.clone(), module.parameters())
    wrapped = GradSampleModule(module, loss_reduction="sum")
    sgd = torch.optim.SGD(wrapped.parameters(), lr=0.0)
    optimizer = DPOptimizer(sgd, noise_multiplier=0.0, max_grad_norm=CLIP, expected_batch_size=1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
        optimizer.step()
        return parameters_to_vector([p.grad for p in module.parameters() if p.grad is not None])

    return step


def variants(net: Network, phi: Tensor, x: Tensor, y: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What is measured, by name."""
    n, hooks = len(x), opacus(net, phi)
    one = gradient(lambda p, x, y: functional.cross_entropy(net.forward(p, x), y, reduction="none"))

    def mean(x: Tensor, y: Tensor) -> Tensor:
        leaf = phi.clone().requires_grad_()
        return torch.autograd.grad(functional.cross_entropy(net.forward(leaf, x), y), leaf)[0]

    def loop() -> Tensor:
        total = torch.zeros_like(phi)
        for j in range(n):
            g = mean(x[j : j + 1], y[j : j + 1])
            total += g * (CLIP / g.norm()).clamp(max=1.0)
        return total

    return {
        "ours": lambda: clipped_sum(lambda x, y: one(phi, x, y), x, y, torch.arange(n), n, CLIP),
        "opacus": lambda: hooks(x, y),
        "loop": loop,
        "grouped": lambda: sum(
            (grouped(net, phi, *part) for part in zip(x.split(64), y.split(64), strict=True)),
            torch.zeros_like(phi),
        ),
        "plain": lambda: mean(x, y),
    }


def check(runs: dict[str, Callable[[], Tensor]]) -> None:
    """All clipped sums must be the loop's."""
    sums = {name: run() for name, run in runs.items() if name != "plain"}
    for name, found in sums.items():
        error = float((found - sums["loop"]).norm() / sums["loop"].norm())
        assert error < 1e-5, f"{name} is off by {error}"


def measure(width: int, n: int, repeats: int) -> dict[str, Any]:
    """Median CPU seconds of each variant, and speeds relative to Opacus."""
    net = network(Conv(width=width), SPEC, 5)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 1, 28, 28, generator=generator)
    y = torch.randint(0, 5, (n,), generator=generator)
    check(variants(net, net.initial(0).double(), x.double(), y))
    runs = variants(net, net.initial(0), x, y)
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    speed = {
        name: round(
            statistics.median(a / b for a, b in zip(seconds["opacus"], values, strict=True)), 2
        )
        for name, values in seconds.items()
    }
    return {"width": width, "n": n, "parameters": net.dim, "speed": speed, "seconds": medians}


def main() -> None:
    """Measure and print; ``--out`` also writes the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    figures = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "runs": [measure(w, n, chosen.repeats) for w in (16, 64) for n in (45, 270)],
    }
    print(json.dumps(figures, indent=1))
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
