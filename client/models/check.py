"""Checks that a network allows a record to be clipped alone, by looking at it and by trying it.

A layer that mixes the records of a batch breaks every guarantee for records, and no error would
show it. So the layers of a body are inspected when it is built, and the body is then tried on
made-up records: no hospital's data are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from metaward.client.models.drawing import drawing
from metaward.privacy.mixing import mixing

MOVES = 1e-4
"""By this share of its size a record's output may differ in another batch, by rounding."""

RECORDS = 3

Found = TypeVar("Found")


def check_body(body: nn.Module, features: int, input_shape: tuple[int, ...]) -> None:
    """``ValueError``, with the way out, if it cannot be trained or protected record by record.

    ``features`` is how many features it should give for a record of ``input_shape``.
    """
    check_looks(body)
    x = _made_up(input_shape)
    with drawing():  # a layer that draws must not move what others draw
        outputs = _tried("forward", lambda: body(x))
        if not isinstance(outputs, Tensor) or outputs.shape != (RECORDS, features):
            shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"network: {RECORDS} records of shape {input_shape} give {shape}; "
                f"a body gives (records, features) = {(RECORDS, features)}"
            )
        _check_repeatable(body, x, outputs)
        _check_alone(body, x)
        _check_gradients(body, outputs)


def check_looks(body: nn.Module) -> None:
    """``ValueError`` for faults that show without a trial: buffers, and layers that mix records,
    draw at random or are unknown to torch."""
    for fault in _seen(body):
        raise ValueError(f"network: {fault}")


def _seen(body: nn.Module) -> Iterator[str]:
    """The faults that show without a trial, each with the way out."""
    for name, layer in body.named_modules():
        where = f"layer {name or 'body'!r} is a {type(layer).__name__}, which"
        if isinstance(layer, _BatchNorm):
            yield (
                f"{where} mixes the records of a batch; use GroupNorm instead of BatchNorm (one "
                "that was trained already can be folded: torch.nn.utils.fuse_conv_bn_eval)"
            )
        if isinstance(layer, _DropoutNd) and layer.p > 0:
            yield f"{where} draws at random in every pass; leave it out or set p to 0"
        for key in _unregistered(layer):
            yield (
                f"attribute {f'{name}.{key}'.lstrip('.')!r} holds layers or parameters that torch "
                "does not know of, so they would never be trained; put them into a "
                "torch.nn.ModuleList, ModuleDict or ParameterList"
            )
    buffers = ", ".join(name for name, _ in body.named_buffers())
    if buffers:
        yield (
            f"buffers ({buffers}) are no part of theta; hold a constant as a plain attribute "
            "(self.x = tensor), what is learned as a torch.nn.Parameter, and where they are "
            "running statistics use GroupNorm instead of BatchNorm"
        )


def _unregistered(layer: nn.Module) -> Iterator[str]:
    """Attributes that hold layers or parameters where torch does not look for them."""
    known = {"_parameters", "_buffers", "_modules"}
    yield from (key for key, value in vars(layer).items() if key not in known and _learns(value))


def _learns(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_learns, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_learns, value))
    return isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad)


def _made_up(input_shape: tuple[int, ...]) -> Tensor:
    """Records (RECORDS, *input_shape) of normal noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(RECORDS, prod(input_shape), generator=generator).view(-1, *input_shape)


def _tried(what: str, run: Callable[[], Found]) -> Found:
    try:
        return run()
    except Exception as error:
        text = f"network: {what} fails on made-up records: {type(error).__name__}: {error}"
        raise ValueError(text) from error


def _check_repeatable(body: nn.Module, x: Tensor, outputs: Tensor) -> None:
    """The same records give the same features, again and in evaluation mode."""
    with torch.no_grad():
        again, evaluated = body(x), deepcopy(body).eval()(x)
    if not (torch.equal(again, outputs) and torch.allclose(evaluated, outputs, MOVES, MOVES)):
        raise ValueError(
            "network: the same records give other features in another pass, or in evaluation mode; "
            "leave out what draws at random (dropout) or keeps count"
        )


def _check_alone(body: nn.Module, x: Tensor) -> None:
    """A record's features do not depend on the rest of the batch, and the body works in vmap."""
    with torch.no_grad():
        alone = vmap(lambda record: body(record.unsqueeze(0)).squeeze(0))
        _tried("each record alone (torch.func.vmap)", lambda: alone(x))
    moved = mixing(body, x)
    if not moved <= MOVES:
        raise ValueError(
            f"network: other records in the batch move a record's features by {moved:.3g} of their "
            "size; use what works on each record alone, such as GroupNorm"
        )


def _check_gradients(body: nn.Module, outputs: Tensor) -> None:
    """Every parameter has a gradient."""
    own = {name: p for name, p in body.named_parameters() if p.requires_grad}
    if not own:
        return
    slopes: Sequence[Tensor | None] = [None] * len(own)
    if outputs.requires_grad:
        slopes = torch.autograd.grad(outputs.sum(), list(own.values()), allow_unused=True)
    idle = [name for name, slope in zip(own, slopes, strict=True) if slope is None]
    if idle:
        raise ValueError(
            f"network: the features do not depend on {', '.join(idle)}, which would be sent and "
            "noised for nothing; leave it out, or freeze it with requires_grad_(False)"
        )
