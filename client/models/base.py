"""A network seen as a function of one flat vector.

Outside this folder parameters are one float32 vector: clipping, noise, means, medians and
Reptile's step are then one-liners on ``(dim,)`` or ``(hospitals, dim)``. Networks use GroupNorm,
so there are no buffers: the vector is the whole state, and no record changes another's output.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from math import prod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metaward.client.models.check import check_body, check_looks
from metaward.client.models.drawing import drawing
from metaward.client.tasks.base import TaskSpec
from metaward.privacy.session import ParameterGroup


class Architecture(Protocol):
    """One entry of ``MODELS``: a frozen dataclass whose fields are its yaml options."""

    def __hash__(self) -> int:
        return object.__hash__(self)

    @property
    def own_start(self) -> bool:
        """Whether a body's parameters start with the values of its own code, loaded or drawn.

        Otherwise they are drawn by ``Network.initial``.
        """
        ...

    def front(self, input_shape: tuple[int, ...]) -> nn.Module | None:
        """A fixed first part, (batch, *input_shape) -> (batch, ...), computed once a record.

        It has no parameters. None: there is none, and the body takes the records themselves.
        ``ValueError`` where the input does not fit.
        """
        return None

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """The layers from the front's output up to the features: (batch, ...) -> (batch, features).

        ``input_shape`` is the shape of what the front gives for a record.

        What torch draws in it becomes a function of a seed. A parameter with ``requires_grad``
        False, or a tensor that is a plain attribute, is a constant: neither sent nor trained.
        """
        ...

    def features(self, input_shape: tuple[int, ...]) -> int:
        """How many features the body gives; ``ValueError`` where the input does not fit."""
        ...


@lru_cache
def fed_shape(architecture: Architecture, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what the body takes for a record: the front's output, or the record itself."""
    front = architecture.front(input_shape)
    if front is None:
        return input_shape
    with torch.no_grad():
        return tuple(front(torch.zeros(1, *input_shape)).shape[1:])


MOST_PARAMETERS = 1 << 27
"""512 MiB as float32."""
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
"""Layers whose gains and offsets are the group ``norm``."""


class Mix(nn.Linear):
    """A square linear layer (size, size) without bias that starts as the identity."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size, bias=False)


class Frame(nn.Linear):
    """Coordinates (size, size) in which a body sees its input: the identity at first.

    They are part of theta, and no gradient changes them; see ``Network.split``. A run may
    learn them in its first round (``client.warm_up``).
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, size, bias=False)
        nn.init.eye_(self.weight)


class Layer(NamedTuple):
    """Consecutive coordinates that belong together: their name, their number, their group.

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

    def __init__(
        self,
        body: nn.Module,
        features: int,
        outputs: int,
        start: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """``start`` (seed -> body) has the first values of the parameters; None draws them."""
        check_looks(body)
        layers: dict[str, nn.Module] = {"body": body}
        if outputs:
            with drawing():
                layers["head"] = nn.Linear(features, outputs, device="meta")  # for its shapes
        self.module = nn.Sequential()
        for name, layer in layers.items():
            self.module.add_module(name, layer)
        _forget(self.module)
        self.outputs, self.features, self._start = outputs, features, start
        self._masks: dict[tuple[frozenset[ParameterGroup], str], Tensor] = {}
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.names = list(trained)
        self.shapes = [p.shape for p in trained.values()]
        self.sizes = [shape.numel() for shape in self.shapes]
        self.held = {layer.name for layer in self.layers() if layer.group == "frame"}
        self.dim = sum(self.sizes)
        head = sum(n for name, n in zip(self.names, self.sizes, strict=True) if name[:4] == "head")
        self.head = slice(self.dim - head, self.dim)

    def layers(self, local_head: bool = False) -> tuple[Layer, ...]:
        """The named parameters in the vector's order; ``local_head``: each task makes the head."""
        modules = dict(self.module.named_modules())

        def group(name: str) -> ParameterGroup:
            layer = modules[name.rpartition(".")[0]]
            if name.startswith("head."):
                return "head"
            if isinstance(layer, Frame):
                return "frame"
            return "norm" if isinstance(layer, NORMS) else "body"

        return tuple(
            Layer(name, size, group(name), local_head and group(name) == "head")
            for name, size in zip(self.names, self.sizes, strict=True)
        )

    def mask(self, groups: Iterable[ParameterGroup], device: torch.device | str = "cpu") -> Tensor:
        """Which coordinates (dim,) bool belong to ``groups``; copied to a device once."""
        wanted = frozenset(groups)
        known = self._masks.get((wanted, str(device)))
        if known is None:
            pieces = [torch.full((layer.size,), layer.group in wanted) for layer in self.layers()]
            known = torch.cat([torch.zeros(0, dtype=torch.bool), *pieces]).to(device)
            self._masks[wanted, str(device)] = known
        return known

    def split(self, phi: Tensor) -> dict[str, Tensor]:
        """Views of the flat vector (dim,) as named parameters; differentiable but for a frame."""
        pieces = zip(self.names, torch.split(phi, self.sizes), self.shapes, strict=True)
        return {
            name: (piece.detach() if name in self.held else piece).view(shape)
            for name, piece, shape in pieces
        }

    def forward(self, phi: Tensor, x: Tensor) -> Tensor:
        """Outputs (batch, outputs) of the network at ``phi`` (dim,) for ``x`` (batch, ...).

        Several tasks at once, each at its own point: ``phi`` (tasks, dim), ``x`` (tasks, batch,
        ...), and outputs (tasks, batch, outputs).
        """
        if phi.ndim == 2:
            together: Tensor = vmap(self.forward)(phi, x)
            return together
        out = functional_call(self.module, self.split(phi), (x,))
        assert isinstance(out, Tensor)
        return out

    def initial(self, seed: int) -> Tensor:
        """A fresh parameter vector (dim,) float32, a pure function of the seed.

        Weights are He-normal (He, Zhang, Ren, Sun 2015: Delving Deep into Rectifiers), the head's
        a tenth of that so that no label is favoured at the start; biases are 0, GroupNorm gains 1,
        and a ``Mix`` is the identity. A body with a start of its own keeps it.
        """
        generator = torch.Generator().manual_seed(seed)
        same = {f"{n}.weight" for n, m in self.module.named_modules() if isinstance(m, Mix)}
        own = {} if self._start is None else dict(self._start(seed).named_parameters("body"))
        pieces = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name in own:
                pieces.append(own[name].detach().float())
            elif name in same:
                pieces.append(torch.eye(shape[0]))
            elif len(shape) > 1:
                gain = 0.1 if name[:4] == "head" else 1.0
                scale = gain * (2.0 / shape[1:].numel()) ** 0.5
                pieces.append(torch.randn(shape, generator=generator) * scale)
            else:
                pieces.append(torch.full(shape, 1.0 if name.endswith("weight") else 0.0))
        return torch.cat([torch.zeros(0), *(piece.reshape(-1) for piece in pieces)])

    def drawn(self) -> bool:
        """Whether the start depends on the seed, as a trained or a fixed one does not."""
        return not torch.equal(self.initial(0), self.initial(1))


def _forget(module: nn.Module) -> None:
    """Drop the values of trained parameters: they come from the vector, so only shapes matter."""
    shapes = {p: nn.Parameter(p.to("meta")) for p in module.parameters() if p.requires_grad}
    for layer in module.modules():
        for name, p in layer._parameters.items():
            layer._parameters[name] = shapes.get(p, p) if p is not None else None


def network(
    architecture: Architecture, spec: TaskSpec, outputs: int, device: torch.device | None = None
) -> Network:
    """The network of an architecture and a head for ``outputs``, its constants on ``device``.

    ``spec`` has the shape that the body takes (``fed_shape``). ``ValueError`` for a body that
    cannot be trained or protected record by record (``check_body``).
    """
    shape = spec.input_shape
    _check(architecture, shape)
    start = partial(build, architecture, shape) if architecture.own_start else None
    body = build(architecture, shape).to(device)
    return Network(body, architecture.features(shape), outputs, start)


def check_architecture(architecture: Architecture, input_shape: tuple[int, ...]) -> None:
    """``ValueError``, worded for the yaml key, for a network that does not fit such records, or
    whose body ``check_body`` refuses."""
    _check(architecture, fed_shape(architecture, input_shape))


@lru_cache
def _check(architecture: Architecture, shape: tuple[int, ...]) -> None:
    size = sum(map(prod, shapes_of(architecture, shape).values()))
    if size > MOST_PARAMETERS:
        raise ValueError(
            f"network: {size} parameters for records of shape {shape}, and at most "
            f"{MOST_PARAMETERS} are built; choose smaller options"
        )
    check_body(build(architecture, shape), architecture.features(shape), shape)


def shapes_of(architecture: Architecture, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of each of the body's parameters, found without memory for them: a message that
    asks for a network must not fill a hospital's. Empty where the body is code of one's own that
    cannot run without values."""
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            body = build(architecture, shape)
    except Exception:  # whatever it is, it is met again where the body is built
        return {}
    return {name: tuple(parameter.shape) for name, parameter in body.named_parameters()}


def build(architecture: Architecture, input_shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """The body; its code draws from ``seed``, and torch's global generator is left as it was."""
    with drawing(seed):
        return architecture.body(input_shape)
