"""What a GPU does with a federation's inner loops: one command, some six minutes.

First, correctness: updates on the GPU against those of the CPU in float64, one task after the other
against batched and captured, and private gradients against their oracle. Nothing is timed where
one of them is wrong. Then, on random records of Omniglot's size (Conv-4, 64 channels, 5 classes, 25
support and 75 query records, 4 tasks a hospital, 5 inner steps):

- rounds of several numbers of hospitals, by each way of computing them, and the memory they take;
- the share of the peak that they reach; the peak is a product of large matrices, measured here;
- the private sums of records, of Conv-4 and of the adapter of the default run;
- rounds whose sums are noised, one task after the other and all tasks of a hospital at once;
- the memory of several CUDA graphs, with one memory for all of them and with one for each;
- with --runs whole runs by the command, on the GPU and on the CPU of the same machine;
- with --flower a run in Flower's engine with a quarter of the GPU for each hospital, beside the
  same run in one process (it needs Ray).

    python benchmarks/gpu.py [--device cuda] [--hospitals 16 100 1000] [--runs] [--flower] \\
        [--parts NAME ...] [--out FILE]

Every part is written as soon as it is measured, so a run that is cut short leaves what it had. With
--parts FILE keeps the parts that are not named; ``calls`` in it says which machine gave which.
On a machine without a GPU, ``--device cpu --hospitals 2`` tries the script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_private import private, private_correctness, private_error, private_rounds
from gpu_rounds import (
    SPEC,
    Figures,
    a_round,
    ceilings,
    flops,
    graph_memory,
    hospitals,
    learner,
    seconds,
    timed_round,
    ways,
)
from gpu_runs import engines, runs
from torch import Tensor
from torch.nn import functional

from metaward.client.inner import Setting
from metaward.client.inner.at_once import Batched
from metaward.client.models.conv import Conv

# ------------------------------------------------------------------------------ the parts


def correctness(device: str) -> Figures:
    """The largest relative difference to the CPU's loop in float64, for each learner and way."""
    found, small = {}, Conv(width=16)
    tasks = [own[:2] for own in hospitals(2, np.float64)]
    for name in ("reptile", "fomaml", "maml", "proto_maml"):
        plain = Setting(small, SPEC)
        theta = learner(name).initial(plain, 0).double()
        expected = a_round(plain, learner(name), theta, tasks)
        for way, at_once in ways(device, 8).items():
            got = a_round(
                Setting(small, SPEC, device, at_once), learner(name), theta.to(device), tasks
            )
            error = float((got.cpu() - expected).norm() / expected.norm())
            found[f"{name}, {way}"] = error
            if not error < 1e-9:
                raise SystemExit(f"{name}, {way}: differs by {error:.3g} from the CPU's loop")
    found["private gradients"] = private_error(device)
    return found


def rounds(device: str, numbers: Sequence[int], names: Sequence[str]) -> list[Figures]:
    """Seconds of a round, by learner, number of hospitals and way; convolutions may use TF32."""
    torch.backends.cudnn.allow_tf32 = True  # torch's own default
    found = []
    for name in names:
        work = flops(name)
        for number in numbers:
            tasks = hospitals(number)
            for way, at_once in ways(device).items():
                if (way == "loop" or name != names[0]) and number > 100:
                    continue  # linear in the hospitals, and minutes long
                found.append(timed_round(device, name, way, at_once, tasks, work))
                print(found[-1], flush=True)
    return found


def chunks(device: str) -> list[Figures]:
    """The same round by several numbers of tasks at once, with and without TF32."""
    tasks = hospitals(64 if device != "cpu" else 1)
    found, work = [], flops("fomaml")
    for tf32 in (False, True):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        for chunk in (16, 64, 256) if device != "cpu" else (4,):
            at_once = Batched(chunk, graphs=device != "cpu")
            line = timed_round(device, "fomaml", "graph", at_once, tasks, work)
            found.append(line | {"tf32": tf32})
            print(found[-1], flush=True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return found


def grouped(x: Tensor, w: Tensor) -> Tensor:
    """A convolution."""
    return functional.conv2d(x, w, padding=1)


def product(x: Tensor, w: Tensor) -> Tensor:
    """The same as a product of matrices of unfolded images."""
    columns = functional.unfold(x, 3, padding=1)
    return (w.flatten(1) @ columns).reshape(len(x), len(w), *x.shape[-2:])


def convolutions(device: str) -> list[Figures]:
    """One layer of Conv-4, forward and backward, with weights of each task's own.

    As groups of one convolution, which is what vmap makes of it, or as products of matrices of
    unfolded images. Each is the median of a layer's milliseconds for 64 tasks of 25 images.
    """
    tasks, n, width = (64, 25, 64) if device != "cpu" else (2, 5, 8)
    draw = torch.Generator().manual_seed(0)
    found = []
    for channels, side in ((1, 28), (width, 14), (width, 7)):
        x = torch.randn(tasks, n, channels, side, side, generator=draw).to(device)
        w = torch.randn(tasks, width, channels, 3, 3, generator=draw).to(device)
        w.requires_grad_()
        x.requires_grad_(channels > 1)

        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
            for layer in (grouped, product):

                def both(
                    layer: Callable[[Tensor, Tensor], Tensor] = layer, x: Tensor = x, w: Tensor = w
                ) -> None:
                    out = torch.func.vmap(layer)(x, w)
                    wanted = [t for t in (x, w) if t.requires_grad]
                    torch.autograd.grad(out.square().sum(), wanted)

                took = 1000 * statistics.median(seconds(both, device, 10))
                line = {"channels": channels, "side": side, "way": layer.__name__, "tf32": tf32}
                found.append(line | {"ms": round(took, 3)})
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return found


# ------------------------------------------------------------------------------ the command


def machine(device: str) -> Figures:
    """What was measured on."""
    gpu = torch.cuda.get_device_name(0) if device != "cpu" else None
    return {
        "gpu": gpu,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure part after part, and write after each."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--device", default="cuda")
    options.add_argument("--hospitals", type=int, nargs="+", default=[16, 100, 1000])
    options.add_argument("--learners", nargs="+", default=["fomaml", "maml"])
    options.add_argument("--runs", action="store_true", help="whole runs by the command as well")
    options.add_argument("--flower", action="store_true", help="the engine of Flower as well")
    options.add_argument("--parts", nargs="+", help="only these")
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    torch.set_num_threads(1)
    device, found = asked.device, Figures()
    parts: dict[str, Callable[[], Any]] = {
        "correctness": lambda: correctness(device),
        "ceilings": lambda: ceilings(device),
        "rounds": lambda: rounds(device, asked.hospitals, asked.learners),
        "chunks": lambda: chunks(device),
        "convolutions": lambda: convolutions(device),
        "private": lambda: private(device),
        "private_correctness": lambda: private_correctness(device),
        "private_rounds": lambda: private_rounds(device),
        "graph_memory": lambda: graph_memory(device),
        **({"runs": lambda: runs(device)} if asked.runs else {}),
        **({"engines": lambda: engines(device)} if asked.flower else {}),
    }
    if unknown := {*(asked.parts or ())} - parts.keys():
        options.error(f"--parts: {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    if asked.parts and asked.out and asked.out.exists():
        found = json.loads(asked.out.read_text(encoding="utf-8"))
    call = machine(device) | {"parts": []}
    found.setdefault("calls", []).append(call)
    for name in asked.parts or parts:
        began = time.perf_counter()
        found[name] = parts[name]()
        call["parts"].append(name)
        print(name, f"{time.perf_counter() - began:.1f} s", flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
