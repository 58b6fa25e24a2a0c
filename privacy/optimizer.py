"""Gradients of records by Opacus, clipped and noised by an optimizer of its kind with exact sums.

Opacus (Yousefpour et al. 2021: Opacus: User-Friendly Differential Privacy Library in PyTorch)
computes the gradient of every record of a batch in one backward pass, by hooks at each layer. Its
``DPOptimizer`` then clips, adds noise and divides. It does so in float32 with noise drawn by torch,
takes each record for a unit, and returns NaN where one record's gradient is not finite. Here these
steps are those of ``privacy.clipping`` and ``privacy.noise``, whose guarantees hold for the numbers
that a machine computes with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from metaward.privacy.clipping import clipped_units, resolution, rows
from metaward.privacy.noise import Noise, noisy
from metaward.privacy.session import Batch, Objective


@dataclass(frozen=True)
class RecordsAt:
    """Records of one task, and where their gradients are taken.

    ``phi`` (dim,) has the parameters. ``group`` (n,) int64 numbers each record's unit from 0 within
    the task. ``drawn`` (n,) bool says which records a secret draw takes; None: all of them.
    """

    phi: Tensor
    batch: Batch
    group: Tensor
    drawn: Tensor | None


class ExactOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimizer with exact sums over whole units, and noise that is added once.

    Its step is that of Opacus. It clips and accumulates for each part of the records, of which all
    but the last are announced by ``signal_skip_step``; then it adds noise. ``slots`` (k,) numbers
    the unit of each record of the next part; a unit's records are all in one part. ``drawn`` (k,)
    has False where a record counts as zero.

    ``total`` (d,) float64 is the clipped sum, in the order of the trained parameters, and with the
    noise after a step that was not skipped. Guarantee for one unit being nulled: the clipped sum
    moves by ``max_grad_norm`` at most, so the noised one is (1 / noise_multiplier)-GDP. It is not
    divided, and no parameter is moved: both are left to the caller.
    """

    def __init__(
        self, module: nn.Module, clip: float, noise_multiplier: float, units: int, noise: Noise
    ) -> None:
        trained = [p for p in module.parameters() if p.requires_grad]
        super().__init__(
            torch.optim.SGD(trained, lr=0.0),
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip,
            expected_batch_size=1,
        )
        self.source, self.resolution = noise, resolution(clip, units)
        self.total = torch.zeros(sum(p.numel() for p in trained), dtype=torch.float64)
        self.slots = torch.zeros(0, dtype=torch.int64)
        self.drawn: Tensor | None = None

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum over the units of this part, and forget the records' gradients."""
        vectors = torch.cat([g.flatten(start_dim=1) for g in self.grad_samples], dim=1)
        if self.drawn is not None:
            vectors = vectors.masked_fill(~self.drawn.unsqueeze(1), 0)
        part = clipped_units(vectors, self.slots, self.max_grad_norm, self.resolution)
        self.total = self.total.to(part.device) + part
        for p in self.params:
            p.grad = p.grad_sample = None

    def add_noise(self) -> None:
        """Noise on the grid, once for the sum over all parts."""
        known = self.total.cpu().numpy()
        noised = noisy(known, self.max_grad_norm, self.noise_multiplier, self.source)
        self.total = torch.from_numpy(noised)

    def scale_grad(self) -> None:
        """Nothing: who knows the public constant divides by it."""


def takes(objective: Objective) -> bool:
    """Whether Opacus can compute the gradients of this module's records."""
    trained = any(p.requires_grad for p in objective.module.parameters())
    return trained and not GradSampleModule.validate(objective.module, strict=False)


def noisy_gradients(
    objective: Objective,
    places: Sequence[RecordsAt],
    mask: Tensor,
    clip: float,
    noise_multiplier: float,
    noise: Noise,
    units: int,
    others: Tensor,
) -> Tensor:
    """Noised sum (d,) float64 over the units of all places of their records' clipped gradients.

    ``mask`` (dim,) bool chooses the d coordinates, whole parameters of the module. One noise is
    added for all places, of which no two have a unit in common. ``others`` (d,) float64 is the
    clipped sum over further units; ``units`` counts all of them.
    """
    own = _Copy(objective.module, places[0].phi, mask)
    module = GradSampleModule(own.module, loss_reduction="sum")
    optimizer = ExactOptimizer(module, clip, noise_multiplier, units, noise)
    optimizer.total = others
    most = rows(int(mask.sum()), gpu=mask.is_cuda)
    parts = [(place, part) for place in places for part in _parts(place.group, most)]
    for number, (place, part) in enumerate(parts):
        own.move(place.phi)
        x = place.batch.x[part].detach().clone()
        if x.is_floating_point():
            x.requires_grad_()  # without it torch warns about hooks whose input needs no gradient
        loss = objective.loss(module(x), place.batch.y[part]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.slots = torch.unique(place.group[part], return_inverse=True)[1]
        optimizer.drawn = None if place.drawn is None else place.drawn[part]
        optimizer.signal_skip_step(number < len(parts) - 1)
        optimizer.step()
    return optimizer.total


class _Copy:
    """A copy of a module on which Opacus can work; the parameters in ``mask`` are trained."""

    def __init__(self, module: nn.Module, phi: Tensor, mask: Tensor) -> None:
        self.module = deepcopy(module).train()
        at, made = 0, dict[nn.Parameter, nn.Parameter]()
        for layer in self.module.modules():
            for name, p in layer._parameters.items():
                if p is None or not p.requires_grad:
                    continue
                if p not in made:
                    made[p] = nn.Parameter(phi.new_empty(p.shape), requires_grad=bool(mask[at]))
                    at += p.numel()
                layer._parameters[name] = made[p]
        self.parameters = list(made.values())

    def move(self, phi: Tensor) -> None:
        """Give the parameters the values of the flat vector (dim,)."""
        pieces = torch.split(phi, [p.numel() for p in self.parameters])
        with torch.no_grad():
            for p, piece in zip(self.parameters, pieces, strict=True):
                p.copy_(piece.view_as(p))


def _parts(group: Tensor, most: int) -> Iterator[Tensor]:
    """Indices of records, some ``most`` at a time, so that a unit's are never divided."""
    order = torch.argsort(group, stable=True)
    ends = torch.cumsum(torch.bincount(group), dim=0).tolist()
    start = end = 0
    for following in ends:
        if following - start > most and end > start:
            yield order[start:end]
            start = end
        end = following
    yield order[start:end]
