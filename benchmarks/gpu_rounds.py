"""Rounds of random tasks that the GPU benchmark times, and its clock."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from metaward.client.inner import ALGORITHMS, Algorithm, Setting
from metaward.client.inner.at_once import AtOnce, Batched, OneByOne
from metaward.client.inner.company import side_by_side
from metaward.client.inner.graphs import Graphs
from metaward.client.models.conv import Conv
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import OpenSession

WAYS, SHOTS, QUERIES, TASKS, STEPS = 5, 5, 15, 4, 5
SPEC = TaskSpec(CLASSIFICATION, (1, 28, 28), WAYS, WAYS, False)
CONV4 = Conv(width=64)
Figures = dict[str, Any]


# ------------------------------------------------------------------------------ tasks and ways


def episode(rng: np.random.Generator, dtype: type = np.float32) -> Episode:
    """A task of random images."""

    def part(n: int) -> tuple[Any, Any, Any]:
        x = rng.standard_normal((WAYS * n, *SPEC.input_shape), np.float32)
        return x.astype(dtype), np.repeat(np.arange(WAYS), n), np.arange(WAYS * n)

    (sx, sy, s), (qx, qy, q) = part(SHOTS), part(QUERIES)
    return Episode(sx, sy, qx, qy, np.arange(WAYS), s, q)


def hospitals(number: int, dtype: type = np.float32) -> list[list[Episode]]:
    """The round's tasks of each hospital."""
    rng = np.random.default_rng(0)
    return [[episode(rng, dtype) for _ in range(TASKS)] for _ in range(number)]


def learner(name: str) -> Algorithm:
    """A learner of five steps."""
    return ALGORITHMS[name](lr=0.1, steps=STEPS)  # type: ignore[call-arg]


def a_round(setting: Setting, how: Algorithm, theta: Tensor, tasks: list[list[Episode]]) -> Tensor:
    """The updates (hospitals, dim) of one round, as the in-process engine has them computed."""

    def update(own: list[Episode]) -> Tensor:
        return how.update(setting, theta, own, OpenSession(), np.random.default_rng(0)).delta

    jobs, found, beside = (
        [partial(update, own) for own in tasks],
        list[Tensor](),
        setting.at_once.most(len(theta)),
    )
    for start in range(0, len(jobs), beside):
        some = jobs[start : start + beside]
        found += side_by_side(some) if len(some) > 1 else [some[0]()]
    return torch.stack(found)


# ------------------------------------------------------------------------------ measuring


def seconds(work: Callable[[], object], device: str, repeats: int = 2) -> list[float]:
    """Each repeat's time; the device has finished before a clock is read. One more warms up.

    On a CPU there is one repeat, because that only tries the script.
    """
    times = []
    for _ in range(repeats + 1 if device != "cpu" else 2):
        began = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return times[1:]


def peak_memory(device: str) -> float | None:
    """MB that tensors took at most since the last call; None on a CPU."""
    if device == "cpu":
        return None
    found = torch.cuda.max_memory_allocated() / 1e6
    torch.cuda.reset_peak_memory_stats()
    return round(found, 1)


def ceilings(device: str) -> Figures:
    """Products of large matrices in TFLOP/s, and copies in TB/s, bytes read and written."""
    n = 8192 if device != "cpu" else 512
    found: Figures = {}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        times = seconds(lambda a=a, b=b: a @ b, device, 10)  # type: ignore[misc]
        found[name] = round(2 * n**3 / statistics.median(times) / 1e12, 2)
    torch.backends.cuda.matmul.allow_tf32 = False
    x = torch.randn(n, n, 4, device=device)
    y = torch.empty_like(x)
    copies = seconds(lambda: y.copy_(x), device, 10)
    found["copy"] = round(2 * x.numel() * 4 / statistics.median(copies) / 1e12, 3)
    return found


def flops(name: str) -> int:
    """Floating-point operations of one task, counted by torch."""
    setting = Setting(CONV4, SPEC)
    theta, counter = learner(name).initial(setting, 0), FlopCounterMode(display=False)
    with counter:
        a_round(setting, learner(name), theta, [hospitals(1)[0][:1]])
    return int(counter.get_total_flops())


def ways(device: str, chunk: int = 64) -> dict[str, AtOnce]:
    """The ways of computing a round."""
    found: dict[str, AtOnce] = {"loop": OneByOne(), "batched": Batched(chunk)}
    return found | ({"graph": Batched(chunk, graphs=True)} if device != "cpu" else {})


def timed_round(
    device: str,
    name: str,
    way: str,
    at_once: AtOnce,
    tasks: list[list[Episode]],
    work: int,
) -> Figures:
    """One line of the table."""
    setting, how = Setting(CONV4, SPEC, device, at_once), learner(name)
    theta = how.initial(setting, 0).to(device)
    peak_memory(device)
    times = seconds(lambda: a_round(setting, how, theta, tasks), device)
    best = statistics.median(times)
    return {
        "learner": name,
        "hospitals": len(tasks),
        "way": way,
        "chunk": at_once.most(len(theta)),
        "seconds": times,
        "hospitals_per_second": round(len(tasks) / best, 1),
        "tflops": round(work * TASKS * len(tasks) / best / 1e12, 3),
        "peak_mb": peak_memory(device),
    }


# ------------------------------------------------------------------------------ memory of graphs


class Apart(Graphs):
    """Graphs that have a memory each."""

    def memory(self) -> None:
        """Its own."""
        return


def graph_memory(device: str) -> list[Figures]:
    """MB that are reserved once a round of 64, 32 .. 1 tasks was captured, or of 1, 2 .. 64.

    With one memory for all seven graphs, and with one for each. What no graph needs is given back
    before it is read.
    """
    sizes = [2**i for i in range(7)]
    found = []
    for order, tasks in (("largest first", sizes[::-1]), ("smallest first", sizes)):
        for memory, graphs in (("one", Graphs()), ("each", Apart())):
            setting = Setting(CONV4, SPEC, device, Batched(64, device != "cpu", graphs))
            how, own = learner("fomaml"), [task for some in hospitals(16) for task in some]
            theta = how.initial(setting, 0).to(device)
            before = reserved(device)
            for number in tasks if device != "cpu" else tasks[:1]:
                a_round(setting, how, theta, [own[:number]])
            held = reserved(device) - before
            found.append({"order": order, "memory": memory, "reserved_mb": round(held / 1e6, 1)})
            print(found[-1], flush=True)
            del setting, graphs
            gc.collect()
    return found


def reserved(device: str) -> int:
    """Bytes that torch holds of the GPU, apart from what it only keeps for later."""
    if device == "cpu":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved()
