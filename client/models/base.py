"""A network seen as a function of one flat vector.

Outside this folder parameters are one float32 vector: clipping, noise, means, medians and
Reptile's step are then one-liners on ``(dim,)`` or ``(hospitals, dim)``. Networks use GroupNorm,
so there are no buffers: the vector is the whole state, and no record touches another's output.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaward.client.tasks.base import TaskSpec
from metaward.privacy.session import ParameterGroup


class Architecture(Protocol):
    """One entry of ``MODELS``: a frozen dataclass whose fields are its yaml options."""

    def __hash__(self) -> int: ...

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """The layers up to the features: (batch, *input_shape) -> (batch, features)."""
        ...

    def features(self, input_shape: tuple[int, ...]) -> int:
        """How many features the body gives; ``ValueError`` where the input does not fit."""
        ...


MIXING = (nn.modules.batchnorm._BatchNorm,)  # also without running statistics, hence bufferless


class Mix(nn.Linear):
    """A square linear layer (size, size) without bias that starts as the identity."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size, bias=False)


class Layer(NamedTuple):
    """Coordinates in a row that belong together: their name, how many there are, their group.

    ``local``: every task makes its own, so they have gradients but are no part of theta.
    """

    name: str
    size: int
    group: ParameterGroup
    local: bool = False


class Network:
    """Body and optional linear head, evaluated at any flat parameter vector.

    ``outputs = 0`` leaves the head out: ``forward`` then gives the features, which is what
    prototypical, matching and Siamese networks compare. ``head`` is the slice of coordinates that
    belong to the head (the last ones), ``dim`` the length of the vector.
    """

    def __init__(self, body: nn.Module, features: int, outputs: int) -> None:
        layers: dict[str, nn.Module] = {"body": body}
        if outputs:
            layers["head"] = nn.Linear(features, outputs)
        self.module = nn.Sequential()
        for name, layer in layers.items():
            self.module.add_module(name, layer)
        mixing = [m for m in self.module.modules() if isinstance(m, MIXING)]
        if mixing or any(True for _ in self.module.buffers()):
            raise ValueError(
                "networks must neither hold buffers nor let records touch each other: use "
                "GroupNorm instead of BatchNorm"
            )
        self.outputs, self.features = outputs, features
        self.names = [name for name, _ in self.module.named_parameters()]
        self.shapes = [p.shape for p in self.module.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]
        self.dim = sum(self.sizes)
        head = sum(n for name, n in zip(self.names, self.sizes, strict=True) if name[:4] == "head")
        self.head = slice(self.dim - head, self.dim)

    def layers(self, local_head: bool = False) -> tuple[Layer, ...]:
        """The named parameters, in the vector's order; with a head of each task's own, or not."""
        norms = {n for n, m in self.module.named_modules() if isinstance(m, nn.GroupNorm)}

        def group(name: str) -> ParameterGroup:
            if name.startswith("head."):
                return "head"
            return "norm" if name.rpartition(".")[0] in norms else "body"

        return tuple(
            Layer(name, size, group(name), local_head and group(name) == "head")
            for name, size in zip(self.names, self.sizes, strict=True)
        )

    def mask(self, groups: Iterable[ParameterGroup]) -> Tensor:
        """Which coordinates (dim,) bool belong to ``groups``: body, norm (GroupNorm), head."""
        wanted = set(groups)
        pieces = [torch.full((layer.size,), layer.group in wanted) for layer in self.layers()]
        return torch.cat([torch.zeros(0, dtype=torch.bool), *pieces])

    def split(self, phi: Tensor) -> dict[str, Tensor]:
        """Views of the flat vector (dim,) as named parameters; differentiable."""
        pieces = zip(self.names, torch.split(phi, self.sizes), self.shapes, strict=True)
        return {name: piece.view(shape) for name, piece, shape in pieces}

    def forward(self, phi: Tensor, x: Tensor) -> Tensor:
        """Outputs (batch, outputs) of the network at ``phi`` (dim,) for ``x`` (batch, ...)."""
        out = functional_call(self.module, self.split(phi), (x,))
        assert isinstance(out, Tensor)
        return out

    def initial(self, seed: int) -> Tensor:
        """A fresh parameter vector (dim,) float32, a pure function of the seed.

        Weights are He-normal (He, Zhang, Ren, Sun 2015: Delving Deep into Rectifiers), the head's
        a tenth of that so that no label is favoured at the start; biases are 0, GroupNorm gains 1,
        and a ``Mix`` is the identity.
        """
        generator = torch.Generator().manual_seed(seed)
        same = {f"{n}.weight" for n, m in self.module.named_modules() if isinstance(m, Mix)}
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name in same:
                parts.append(torch.eye(shape[0]))
            elif len(shape) > 1:
                gain = 0.1 if name[:4] == "head" else 1.0
                scale = gain * (2.0 / shape[1:].numel()) ** 0.5
                parts.append(torch.randn(shape, generator=generator) * scale)
            else:
                parts.append(torch.full(shape, 1.0 if name.endswith("weight") else 0.0))
        return torch.cat([torch.zeros(0), *(part.reshape(-1) for part in parts)])


def network(architecture: Architecture, spec: TaskSpec, outputs: int) -> Network:
    """Put a registered architecture and a head for ``outputs`` together."""
    shape = spec.input_shape
    with torch.device("meta"):  # only shapes matter: no memory, and no global random state used
        return Network(architecture.body(shape), architecture.features(shape), outputs)
