"""A loss that did not come with metaward: computed for each record alone, and tried beforehand.

A loss that mixes the records of a batch would break every guarantee for a record, and no error
would show it: one record would move the gradients of all others, and clipping bounds only its own.
So it never sees two records at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from metaward.client.losses.base import Loss
from metaward.client.tasks.base import TaskSpec

RECORDS = 12


@dataclass(frozen=True)
class Alone(Loss):
    """``loss``, computed for one record at a time by ``torch.func.vmap``."""

    loss: Loss

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        found: Tensor = vmap(self._one)(outputs, labels)
        return found

    def _one(self, output: Tensor, label: Tensor) -> Tensor:
        return self.loss(output[None], label[None])[0]

    def check(self, spec: TaskSpec) -> None:
        """``ValueError`` if it cannot be computed and differentiated on made-up records of such
        tasks, or if what it says of a record depends on the others."""
        self.loss.check(spec)
        labels = torch.from_numpy(spec.kind.random(spec, RECORDS, np.random.default_rng(0)))
        shape = spec.kind.certain(spec, labels).shape
        outputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        together = _tried("on a batch", lambda: self.loss(outputs, labels))
        if not isinstance(together, Tensor) or together.shape != (RECORDS,):
            raise ValueError(
                f"for {RECORDS} records it gives {_shape(together)}; give one loss for each, "
                f"({RECORDS},), as torch's losses do with reduction='none'"
            )
        alone = _tried("for a record alone", lambda: self(outputs, labels))
        if not torch.isfinite(alone).all():
            raise ValueError(f"for made-up records it gives {alone.tolist()}, not finite numbers")
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
            raise ValueError(
                "the loss of a record depends on the others of its batch, so that no clipping "
                "could protect it; use nothing but its own outputs and label"
            )
        slopes = _tried("in its gradient", lambda: vmap(grad(self._one))(outputs, labels))
        if not torch.isfinite(slopes).all() or not slopes.any():
            raise ValueError(
                "its gradient on made-up records is zero everywhere or not finite; nothing could "
                "be learned by it"
            )


def _tried(where: str, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"it fails {where}: {type(error).__name__}: {reason}") from error


def _shape(found: object) -> str:
    return str(tuple(found.shape)) if isinstance(found, Tensor) else type(found).__name__
