"""What one clipped sum of an adapter's gradients costs, as ratios measured in one run.

2,000 records, one thread, process CPU time. Ways take turns, so that a machine whose speed drifts
slows all of them; ``speed`` is relative to per-record gradients by Opacus's hooks, the median of
the turns' ratios.

- ghost: ``privacy.ghost``, what the default run does
- hooks: Opacus's hooks and exact clipping, what it did before, and still does for convolutions
- vmap: ``privacy.clipping.clipped_sum`` with ``torch.func``

``vectors`` are records of one position below a linear head; ``sequences`` those of the default run,
a record and the means of six classes. The sums of all ways are compared before.

    python benchmarks/ghost.py [--repeats 9] [--out benchmarks/results/ghost.json]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from turns import in_turn

from metaward.client.inner.proto_anil import ProtoAnil
from metaward.client.inner.setting import Setting
from metaward.client.models.adapter import Adapter
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import Batch, Opening, Session, optimizer
from metaward.privacy.mechanisms.noisy_sums import NoisySums
from metaward.privacy.mechanisms.sums import Sums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Session as Plain
from metaward.privacy.session import use
from metaward.privacy.units import UNITS

RECORDS, WAYS, CLASSES = 2000, 3, 6
Gradient = Callable[[Session], Tensor]


class ByVmap(NoisySums):
    """A session that asks no network for its layers."""

    gradient = Plain.gradient


def session(way: str) -> Session:
    """A session of one gradient over all records, each a unit of its own, without noise."""
    mechanism = Sums(UNITS["record"], epsilon=8.0, delta=1e-5, clip_norm=1.0)
    records = Batch(torch.zeros(RECORDS, 1), torch.zeros(RECORDS), np.arange(RECORDS))
    opening = Opening([use("query", records)], {"query": 0.0}, np.arange(RECORDS), SeededNoise(0))
    return ByVmap(mechanism, opening) if way == "vmap" else mechanism.session(opening)


def gradients(setting: Setting) -> dict[str, Gradient]:
    """The gradients to be taken, by what a record is."""
    draw = torch.Generator().manual_seed(0)
    shape = setting.spec.input_shape
    x, means = (torch.randn(n, *shape, generator=draw) for n in (RECORDS, CLASSES))
    moved = 0.01 * torch.randn(CLASSES * (shape[0] + 1), generator=draw)
    net, how = setting.network(WAYS), ProtoAnil()
    theta, body = net.initial(0), how.initial(setting, 0)
    mask = net.mask({"body", "norm", "head"})
    few, many = (Batch(x, torch.arange(RECORDS) % n, np.arange(RECORDS)) for n in (WAYS, CLASSES))

    def vectors(to: Session) -> Tensor:
        return to.gradient(setting.objective(net), [(theta, few)], "query", mask)[0]

    def sequences(to: Session) -> Tensor:
        return how._outer(setting, body, means, many, moved, to)[0]

    return {"vectors": vectors, "sequences": sequences}


def taken(way: str, gradient: Gradient) -> Tensor:
    """The gradient, this way."""
    choose = optimizer._by_ghost
    if way == "hooks":
        optimizer._by_ghost = lambda *_: 0.0
    try:
        return gradient(session(way))
    finally:
        optimizer._by_ghost = choose


def measured(gradient: Gradient, repeats: int) -> dict[str, Any]:
    """All ways in turn."""
    ways = {way: partial(taken, way, gradient) for way in ("ghost", "hooks", "vmap")}
    return in_turn(ways, "hooks", repeats, limit=1e-4)


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ghost.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = TaskSpec(CLASSIFICATION, (1, 28, 28), WAYS, CLASSES, False)
    setting = Setting(Adapter(orientations=4, grid=1), spec)
    found: dict[str, Any] = {"torch": torch.__version__, "python": platform.python_version()}
    found["records"] = RECORDS
    for name, gradient in gradients(setting).items():
        found[name] = measured(gradient, options.repeats)
        print(name, found[name]["speed"], flush=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
