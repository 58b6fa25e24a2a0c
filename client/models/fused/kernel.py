"""The kernel of one network: which networks have one, and the calls of its library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from metaward.client.losses.classes import CrossEntropy
from metaward.client.models.base import Network
from metaward.client.models.conv import Blocks, Conv
from metaward.client.models.fused.building import NoKernel, library
from metaward.client.tasks.kinds import cross_entropy

WIDTHS = (16, 32, 48, 64)
CHANNELS = 3
"""The most channels of an input."""
LAYERS = {
    nn.Sequential,
    Blocks,
    nn.Conv2d,
    nn.GroupNorm,
    nn.ReLU,
    nn.MaxPool2d,
    nn.Flatten,
    nn.Linear,
}
FUNCTIONS = {torch.float32: "metaward_gradients_32", torch.float64: "metaward_gradients_64"}


@dataclass(frozen=True)
class FusedKernel:
    """Gradients of a Conv network with cross-entropy, by compiled code that needs no autograd.

    Records are computed one by one, each in the same order of operations, so that no bit of a
    record's gradient depends on another record. Equal ones of a max-pool and the slope of ReLU at 0
    are torch's. float32 and float64 on the CPU.
    """

    width: int
    depth: int
    groups: int
    channels: int
    outputs: int
    features: int
    eps: float

    def slope(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (dim,) of the mean loss at phi (dim,), and the mean loss.

        ``ValueError`` for other shapes or types than the network's, ``IndexError`` for labels.
        """
        total, losses = self._call(phi, x, y, phi.new_zeros(len(phi)))
        return total.div_(len(x)), losses.mean()

    def record_gradients(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The gradient (n, dim) of each record's loss; errors are those of ``slope``."""
        return self._call(phi, x, y, phi.new_empty(len(x), len(phi)))[0]

    def _call(self, phi: Tensor, x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Fill ``out``: with a row for each record, or with their sum. The losses (n,)."""
        self._check(phi, x, y)
        phi, x, y = phi.contiguous(), x.to(phi).contiguous(), y.contiguous()
        losses, high, wide = phi.new_empty(len(x)), *x.shape[2:]
        sizes = self.depth, self.width, self.groups, self.channels, high, wide, self.outputs
        shape = (ctypes.c_int64 * len(sizes))(*sizes)
        places = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (phi, x, y)]
        found = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (out, losses)]
        call: Callable[..., int] = getattr(library(), FUNCTIONS[phi.dtype])
        count, rows = ctypes.c_int64(len(x)), ctypes.c_int(out.ndim == 2)
        failed = call(shape, ctypes.c_double(self.eps), *places, count, rows, *found)
        if failed == 1:
            raise IndexError(f"labels must be in [0, {self.outputs})")
        if failed:
            raise MemoryError(f"no memory for the gradients of {len(x)} records")
        return out, losses

    def _check(self, phi: Tensor, x: Tensor, y: Tensor) -> None:
        fits = x.ndim == 4 and x.shape[1] == self.channels and y.shape == x.shape[:1]
        left = [axis >> self.depth for axis in x.shape[2:]]
        if not fits or self.width * prod(left) != self.features or phi.shape != (self.dim,):
            shapes = [tuple(tensor.shape) for tensor in (phi, x, y)]
            raise ValueError(f"phi, x, y of shapes {shapes} do not suit {self}")
        if phi.dtype not in FUNCTIONS or y.dtype != torch.int64 or phi.device.type != "cpu":
            raise ValueError(f"phi is {phi.dtype} on {phi.device}, and labels are {y.dtype}")

    @property
    def dim(self) -> int:
        """Coordinates of phi."""
        blocks = 9 * self.width * (self.channels + self.width * (self.depth - 1))
        return blocks + 3 * self.width * self.depth + (self.features + 1) * self.outputs


def fused_kernel(net: Network, losses: Callable[[Tensor, Tensor], Tensor]) -> FusedKernel:
    """The kernel of a network with its loss; ``NoKernel``, with the reason, where there is none.

    It takes what ``Conv`` builds for images of 1 to 3 channels, of a width in ``WIDTHS`` and halved
    by pools, with a linear head, and the cross-entropy of the tasks' kind.
    """
    if not (losses is cross_entropy or losses == CrossEntropy()):
        raise NoKernel("the kernel computes cross-entropy, without weights or smoothing")
    kernel = _of_layers(net)
    if kernel is None:
        raise NoKernel(
            f"the kernel takes network conv with halve: pool, a width in {WIDTHS} and a head, for "
            f"images of 1 to {CHANNELS} channels"
        )
    library()
    return kernel


def _of_layers(net: Network) -> FusedKernel | None:
    """The kernel with the sizes of the network's layers; None where they are not those of Conv."""
    layers = list(net.module.modules())
    convolutions = [layer for layer in layers if type(layer) is nn.Conv2d]
    norms = [layer for layer in layers if type(layer) is nn.GroupNorm]
    known = all(type(layer) in LAYERS for layer in layers)
    if not (known and convolutions and norms and net.outputs) or net.held:
        return None
    first, depth = convolutions[0], len(convolutions)
    width, channels, groups = first.out_channels, first.in_channels, norms[0].num_groups
    if width not in WIDTHS or channels > CHANNELS or width % groups:
        return None
    with torch.device("meta"):
        same = Conv(width, depth, groups).body((channels, 1 << depth, 1 << depth))
    if repr(net.module.get_submodule("body")) != repr(same):
        return None
    found = FusedKernel(
        width, depth, groups, channels, net.outputs, net.features, float(norms[0].eps)
    )
    return found if found.dim == net.dim else None
