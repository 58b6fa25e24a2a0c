"""Clipped sums of gradients of linear layers, without the gradient of any record.

The gradient of a linear layer's weights for one record is a sum over its positions of products
g x^T, of the error g that comes back to the layer's output and the input x. So its norm follows
from products of errors and of inputs (Goodfellow 2015: Efficient Per-Example Gradient
Computations), over all pairs of positions (Lee, Kifer 2021: Scaling up Differentially Private Deep
Learning with Fast Per-Example Gradient Clipping; Li, Tramer, Liang, Hashimoto 2022: Large Language
Models Can Be Strong Differentially Private Learners, who call it ghost clipping). The sum over
records of the clipped gradients is one product of matrices: the errors, each times its record's
factor, and the inputs. Opacus's own version needs a second backward pass for that sum; here the
first one's errors are kept.

What is given up is the exact sum of ``privacy.clipping``: a product of matrices in float64 rounds.
The guarantee stays literal, because every record's factor leaves room for all rounding together.
With u = 2^-53, n records of at most T positions, and the mass m = sum over t of |g_t| |x_t| of a
record's layers:

- A computed squared norm is below the true one by at most (T^2 + in + out + 16) u m^2 (Higham 2002:
  Accuracy and Stability of Numerical Algorithms, section 3.1), which is added to it before its root
  is taken; so a factor c = room / norm never lets more than ``room`` through.
- A coordinate of the sum is a sum of at most n T products, of absolute values that add up to at
  most n times the largest c m. Factors are so small that c m <= MASS * clip. Then the sum is
  wrong by no more than E = (n T + n + 64) u * n * MASS * clip in norm, whatever the records are.
- Inputs and errors are float32 numbers, whose squares and products neither vanish nor overflow in
  float64; a record with a number that is not finite counts as zero.
- ``room`` is clip - 2 E, less sixteen roundings: two sums that differ in one unit differ by at most
  room + 2 E <= clip. Where E would take more than a hundredth of the clip norm, ``fits`` says no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from metaward.privacy.listening import Calls, all_apart, errors_of, listening, trained_layers

UNIT_ROUNDOFF = 2.0**-53
MASS = 64.0
"""How far a record's terms may cancel in its gradient before its factor is made smaller for it."""
ROUNDINGS = 64


@runtime_checkable
class Direct(Protocol):
    """A layer with few parameters, which knows the gradient of each record by itself."""

    def record_gradients(self, x: Tensor, g: Tensor) -> list[Tensor]:
        """For inputs and errors (n, positions, ...) of its calls, a gradient (n, values) for each
        of its parameters, in their order."""
        ...


def takes(module: nn.Module) -> bool:
    """Whether every trained parameter belongs to one linear layer, or to one ``Direct`` one."""
    layers = trained_layers(module)
    return all_apart(layers) and all(
        type(one) is nn.Linear or isinstance(one, Direct) for one in layers
    )


def positions(module: nn.Module, x: Tensor) -> int:
    """The most positions of a record of ``x`` (n, ...) in any trained layer; its shape says so.

    0 where what a layer took or gave is overwritten by what comes after it, which works in place.
    """
    with torch.no_grad(), listening(module) as calls:
        module(x[:1])
    if any(one.overwritten() for one in calls):
        return 0
    return max((_joined(one.outputs).shape[1] for one in calls if one.outputs), default=0)


def fits(records: int, positions: int) -> bool:
    """Whether rounding takes less than a hundredth of the clip norm; public numbers only."""
    return positions > 0 and wrong_by(records, positions) < 0.01


def wrong_by(records: int, positions: int) -> float:
    """The most by which a sum of clipped gradients is wrong, in clip norms: E / clip."""
    terms = records * positions + records + ROUNDINGS
    return terms * UNIT_ROUNDOFF * records * MASS


# ------------------------------------------------------------------------- one layer's records


class LayerRecords(Protocol):
    """What the records of one batch do to one layer's parameters; everything is float64."""

    def sizes(self) -> tuple[Tensor, Tensor]:
        """Upper bounds of the squared norms of the records' gradients, and their masses: (n,)."""
        ...

    def total(self, factors: Tensor) -> Tensor:
        """The sum (values,) of the records' gradients times their ``factors`` (n,)."""
        ...

    def forget(self, wrong: Tensor) -> None:
        """Make zeros of the records for which ``wrong`` (n,) is true."""
        ...


@dataclass
class LinearRecords:
    """A linear layer: inputs ``x`` (n, T, in), errors ``g`` (n, T, out)."""

    layer: nn.Linear
    x: Tensor
    g: Tensor

    def sizes(self) -> tuple[Tensor, Tensor]:
        """From all pairs of positions; a bias is the weight of an input that is 1."""
        weights, bias = self._parts()
        errors, inputs = self.g @ self.g.mT, self.x @ self.x.mT
        pairs = errors * (inputs * weights + bias)
        lengths = inputs.diagonal(dim1=1, dim2=2).sqrt() * weights + bias
        masses = (errors.diagonal(dim1=1, dim2=2).sqrt() * lengths).sum(dim=1)
        positions, values = self.x.shape[1], self.x.shape[2] + self.g.shape[2]
        lost = (positions**2 + values + 16) * UNIT_ROUNDOFF
        return pairs.sum(dim=(1, 2)) + lost * masses.square(), masses

    def total(self, factors: Tensor) -> Tensor:
        """One product of matrices."""
        weights, bias = self._parts()
        scaled = (self.g * factors[:, None, None]).flatten(0, 1)
        found = [(scaled.mT @ self.x.flatten(0, 1)).flatten()] if weights else []
        return torch.cat([*found, scaled.sum(dim=0)] if bias else found)

    def forget(self, wrong: Tensor) -> None:
        """Their inputs and errors."""
        self.x[wrong] = self.g[wrong] = 0

    def _parts(self) -> tuple[bool, bool]:
        """Whether the weights and whether the bias are trained."""
        bias = self.layer.bias
        return self.layer.weight.requires_grad, bias is not None and bias.requires_grad


@dataclass
class OwnGradients:
    """A ``Direct`` layer: the records' gradients (n, values) themselves."""

    vectors: Tensor

    def sizes(self) -> tuple[Tensor, Tensor]:
        """A record's only term is its gradient."""
        squares = self.vectors.square().sum(dim=1)
        return squares * (1 + self.vectors.shape[1] * UNIT_ROUNDOFF), squares.sqrt()

    def total(self, factors: Tensor) -> Tensor:
        """One product of a vector and a matrix."""
        return factors @ self.vectors

    def forget(self, wrong: Tensor) -> None:
        """Their gradients."""
        self.vectors[wrong] = 0


def layers_of(calls: Sequence[Calls], losses: Tensor) -> list[LayerRecords]:
    """Each layer's records, after one backward pass from the records' ``losses`` (n,)."""
    return [
        _layer(one.layer, _joined(one.inputs), _joined(errors))
        for one, errors in zip(calls, errors_of(calls, losses), strict=True)
    ]


def _layer(layer: nn.Module, x: Tensor, g: Tensor) -> LayerRecords:
    if isinstance(layer, nn.Linear):
        return LinearRecords(layer, x, g)
    assert isinstance(layer, Direct)
    parameters = layer.parameters(recurse=False)
    found = zip(parameters, layer.record_gradients(x, g), strict=True)
    return OwnGradients(torch.cat([vectors for p, vectors in found if p.requires_grad], dim=1))


def _joined(calls: Sequence[Tensor]) -> Tensor:
    """The values of all calls of a layer (n, positions, size) as a copy in float64."""
    parts = [one.detach().reshape(len(one), -1, one.shape[-1]) for one in calls]
    every = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return every.to(torch.float64, copy=True)


# ----------------------------------------------------------------------------------- the sum


def factors(layers: Sequence[LayerRecords], clip: float, wrong: float) -> Tensor:
    """What each record's gradient (n,) is multiplied with, so that it lets at most ``clip`` (1 - 2
    ``wrong``) through, less some roundings, and its terms do not weigh more than the sum allows.

    A record whose gradient has no finite norm counts as zero.
    """
    room = clip * (1 - 2 * wrong - 16 * UNIT_ROUNDOFF)
    squares, masses = map(sum, zip(*(one.sizes() for one in layers), strict=True))
    assert isinstance(squares, Tensor)
    assert isinstance(masses, Tensor)
    if not bool((usable := squares.isfinite() & masses.isfinite()).all()):
        for one in layers:
            one.forget(~usable)
    found = torch.minimum(room / squares.sqrt(), MASS * clip / masses).clamp(max=1.0)
    return torch.where(usable, found, 0.0)


def total(layers: Sequence[LayerRecords], weights: Tensor) -> Tensor:
    """Sum (d,) float64 of the records' gradients times their weights (n,), layer after layer."""
    return torch.cat([one.total(weights) for one in layers])
