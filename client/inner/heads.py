"""A linear head alone, and gradient steps on it while the features stay as they are."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from metaward.client.inner.setting import Setting
from metaward.client.inner.steps import descend
from metaward.client.models import Network
from metaward.privacy import Batch, Session


def joined(weights: Tensor, biases: Tensor) -> Tensor:
    """A head of ``weights`` (N, features) and ``biases`` (N,) as one vector; of each task one."""
    return torch.cat([weights.flatten(-2), biases], dim=-1)


def parted(head: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The weights (N, features) and biases (N,) of such a vector; of each task its own."""
    return head[..., :-classes].view(*head.shape[:-1], classes, -1), head[..., -classes:]


def head_steps(
    setting: Setting, start: Tensor, seen: Batch, classes: int, steps: int, lr: float, to: Session
) -> Tensor:
    """The head (N * (features + 1),) after ``steps`` full-batch steps of rate ``lr``.

    ``seen`` has the records' features (n, features) as x; the gradients are those of session
    ``to``, one sum over all records in each step.
    """
    net = _head(seen.x.shape[-1], classes)
    objective, mask = setting.objective(net), net.mask({"head"}, setting.device)

    def gradient(phi: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return to.gradient(objective, [(phi, batch)], "support", mask)

    return descend(gradient, start, [seen] * steps, lr)[0]


@lru_cache(maxsize=16)
def _head(features: int, classes: int) -> Network:
    """A linear head alone."""
    return Network(nn.Identity(), features, classes)
