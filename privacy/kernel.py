"""What a network's own code for gradients must provide, where it has any."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Kernel(Protocol):
    """Gradients of an ``Objective`` at a flat vector, by code that is faster than autograd's.

    Both methods take phi (dim,), records x (n, ...) and labels y (n, ...), and give what autograd
    gives, to rounding. Nothing that they give has a graph.
    """

    def slope(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (dim,) of the mean loss, and the mean loss, a scalar."""
        ...

    def record_gradients(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The gradient (n, dim) of each record's loss, computed from this record alone.

        Clipping relies on it: other values of one record must not change any bit of another's
        gradient, so no sum over records may be on the way. A record whose gradient has no value
        gets NaN or infinity somewhere in its row, and nowhere else.
        """
        ...
