"""Private sums that the GPU benchmark times: over one hospital's records, and in whole rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from gpu_rounds import (
    CONV4,
    SPEC,
    WAYS,
    Figures,
    hospitals,
    learner,
    peak_memory,
    seconds,
)
from together import apart, noised
from torch import Tensor

from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.at_once import AtOnce, Batched, OneByOne
from metaward.client.models.adapter import Adapter
from metaward.client.models.base import Architecture
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import Batch, Opening, Rehearsal, Session
from metaward.privacy.mechanisms.sums import Sums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import use
from metaward.privacy.units import UNITS


def private_session(rows: int, noise: float) -> Session:
    """A session of one gradient over so many records, each a unit of its own."""
    mechanism = Sums(UNITS["record"], epsilon=8.0, delta=1e-5, clip_norm=1.0)
    records = Batch(torch.zeros(rows, 1), torch.zeros(rows), np.arange(rows))
    asked = [use("query", records)]
    return mechanism.session(Opening(asked, {"query": noise}, np.arange(rows), SeededNoise(0)))


def private_gradient(
    device: str, architecture: Architecture, shape: tuple[int, ...], n: int, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """One sum of clipped gradients over n records, without noise: the part that takes time."""
    spec = TaskSpec(CLASSIFICATION, shape, WAYS, WAYS, False)
    setting = Setting(architecture, spec, device)
    net, draw = setting.network(WAYS), torch.Generator().manual_seed(0)
    x = torch.randn(n, *setting.spec.input_shape, generator=draw).to(device, dtype)
    batch = Batch(x, torch.arange(n, device=device) % WAYS, np.arange(n))
    theta = net.initial(0).to(device, dtype)
    mask = net.mask({"body", "norm", "head"}).to(device)

    def once() -> Tensor:
        session = private_session(n, 0.0)
        return session.gradient(setting.objective(net), [(theta, batch)], "query", mask)[0]

    return once


def private_error(device: str) -> float:
    """Clipped sums on the device against the CPU's, in float64."""
    one, other = (
        private_gradient(where, CONV4, (1, 28, 28), 32, torch.float64)().cpu()
        for where in (device, "cpu")
    )
    error = float((one - other).norm() / other.norm())
    if not error < 1e-9:
        raise SystemExit(f"private gradients differ by {error:.3g} from the CPU's")
    return error


def private(device: str) -> list[Figures]:
    """Seconds of one private sum over a hospital's records, on the device and on this CPU."""
    found = []
    for name, architecture, n in (("conv4", CONV4, 512), ("adapter", Adapter(), 2000)):
        for where in dict.fromkeys((device, "cpu")):
            size = n if device != "cpu" else 32
            work = private_gradient(where, architecture, (1, 28, 28), size, torch.float32)
            peak_memory(device)
            times = seconds(work, where)
            line = {"network": name, "device": where, "records": size, "seconds": times}
            found.append(line | {"peak_mb": peak_memory(where)})
            print(found[-1], flush=True)
    return found


# ------------------------------------------------------------------------------ rounds


def private_round(
    setting: Setting, how: Algorithm, theta: Tensor, tasks: Sequence[Sequence[Episode]]
) -> Tensor:
    """The updates (hospitals, dim) of a round whose sums are noised, one hospital after another."""
    mechanism, found = Sums(UNITS["record"]), []
    for own in map(apart, tasks):
        rehearsal = Rehearsal()
        how.update(setting, theta.float(), own, rehearsal, np.random.default_rng(0))
        session = mechanism.session(noised(rehearsal.uses)())
        found.append(how.update(setting, theta, own, session, np.random.default_rng(0)).delta)
    return torch.stack(found)


def private_ways() -> dict[str, AtOnce]:
    """The ways of computing a hospital's noised sums; in no graph, as noise comes from the CPU."""
    return {"loop": OneByOne(), "batched": Batched()}


def private_correctness(device: str) -> Figures:
    """The largest relative difference to the CPU's loop in float64, for each learner and way."""
    found, small = {}, Conv(width=16)
    tasks = [own[:3] for own in hospitals(1, np.float64)]
    for name in ("reptile", "fomaml", "maml", "proto_maml"):
        plain = Setting(small, SPEC)
        theta = learner(name).initial(plain, 0).double()
        expected = private_round(plain, learner(name), theta, tasks)
        for way, at_once in private_ways().items():
            setting = Setting(small, SPEC, device, at_once)
            got = private_round(setting, learner(name), theta.to(device), tasks).cpu()
            error = float((got - expected).norm() / expected.norm())
            found[f"{name}, {way}"] = error
            if not error < 1e-9:
                raise SystemExit(f"private {name}, {way}: differs by {error:.3g} from the CPU")
    return found


def private_rounds(device: str) -> list[Figures]:
    """Seconds of rounds whose sums are noised, by network, learner and way."""
    found, tasks = [], hospitals(4 if device != "cpu" else 1)
    for network, architecture in (("conv4", CONV4), ("mlp", Mlp((64, 64)))):
        for name in ("fomaml", "maml") if device != "cpu" else ("fomaml",):
            for way, at_once in private_ways().items():
                setting, how = Setting(architecture, SPEC, device, at_once), learner(name)
                theta = how.initial(setting, 0).to(device)
                peak_memory(device)

                work = partial(private_round, setting, how, theta, tasks)
                times = seconds(work, device)
                line = {"network": network, "learner": name, "way": way, "seconds": times}
                rate = round(len(tasks) / statistics.median(times), 2)
                found.append(line | {"hospitals_per_second": rate, "peak_mb": peak_memory(device)})
                print(found[-1], flush=True)
    return found
