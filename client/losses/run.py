"""The tasks of a run with the loss that it has chosen for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metaward.client.losses.alone import Alone
from metaward.client.losses.base import Loss, Weighted
from metaward.client.losses.registry import LOSSES
from metaward.client.losses.weights import Pairs, factors
from metaward.client.tasks.base import TaskSpec


def with_loss(spec: TaskSpec, loss: Loss | None, weights: str | Pairs) -> TaskSpec:
    """The same tasks with this loss (None: that of their kind), its records weighted by class.

    ``ValueError``, with the way out, where weights cannot be given to their labels.
    """
    own = spec.kind.losses if loss is None else careful(loss)
    given = factors(spec, weights)
    losses = own if given is None else Weighted(own, given)
    if losses is spec.kind.losses:
        return spec
    lowest, highest = spec.kind.loss_range
    if isinstance(own, Alone):  # nobody knows whether it can be negative
        lowest = -highest
    most = max(given or (1.0,))
    bounds = (lowest * most, highest * most)
    return replace(spec, kind=replace(spec.kind, losses=losses, loss_range=bounds))


def careful(loss: Loss) -> Loss:
    """The loss itself if it comes with metaward, else one that sees each record alone."""
    return loss if type(loss) in LOSSES.values() else Alone(loss)


def faults(spec: TaskSpec, loss: Loss | None, weights: str | Pairs) -> Iterator[tuple[str, str]]:
    """``loss`` or ``class_weights``, and why it does not suit such tasks."""
    try:
        if loss is not None:
            careful(loss).check(spec)
    except ValueError as error:
        yield "loss", f": {error}"
    try:
        factors(spec, weights)
    except ValueError as error:
        yield "class_weights", f": {error}"
