"""Gradients of records by Opacus, clipped and noised by an optimizer of its kind with exact sums.

Opacus (Yousefpour et al. 2021: Opacus: User-Friendly Differential Privacy Library in PyTorch)
computes the gradient of every record of a batch in one backward pass, by hooks at each layer. Its
``DPOptimizer`` then clips, adds noise and divides. It does so in float32 with noise drawn by torch,
takes each record for a unit, and returns NaN where one record's gradient is not finite. Here these
steps are those of ``privacy.clipping`` and ``privacy.noise``, whose guarantees hold for the numbers
that a machine computes with.

There are three other ways to such a noised sum. Where all trained layers are linear and each record
is a unit, the clipped sum comes from ``privacy.ghost``, which needs no record's gradient. Where the
network has a ``Kernel``, that gives the records' gradients in place of the hooks; and where all
layers are common ones, ``privacy.record_gradients`` calls Opacus's rules for them without hooks.
The guarantee of the optimizer holds for whatever vectors it is given, as long as each depends on
one record alone, which a kernel promises as the hooks do; so all have the same guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from metaward.privacy import ghost, record_gradients
from metaward.privacy.clipping import clipped_units, resolution, rows
from metaward.privacy.kernel import Kernel
from metaward.privacy.listening import listening
from metaward.privacy.noise import Noise, noisy
from metaward.privacy.record_gradients import Hooked
from metaward.privacy.session import Batch, Objective

GHOST_RECORDS = 1024
"""Records whose inputs and errors are held at a time, where none of their gradients is."""


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
        pieces = [g.flatten(start_dim=1) for g in self.grad_samples]
        if self.drawn is not None:
            pieces = [piece.masked_fill(~self.drawn.unsqueeze(1), 0) for piece in pieces]
        part = clipped_units(pieces, self.slots, self.max_grad_norm, self.resolution)
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
    return trained and not Hooked.validate(objective.module, strict=False)


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
    most = rows(int(mask.sum()), gpu=mask.is_cuda)
    if objective.kernel is not None:
        flat = nn.ParameterList([places[0].phi[mask]])
        optimizer = ExactOptimizer(flat, clip, noise_multiplier, units, noise)
        leave = partial(_by_kernel, objective.kernel, flat[0], mask)
        return _taken(optimizer, others, places, most, leave)
    own = _Copy(objective.module, places[0].phi, mask)
    optimizer = ExactOptimizer(own.module, clip, noise_multiplier, units, noise)
    wrong = _by_ghost(own.module, places, units)
    if wrong:
        optimizer.total = others.cpu() + _ghost_sum(objective, own, places, clip, wrong).cpu()
        optimizer.add_noise()
        return optimizer.total
    if record_gradients.takes(own.module, places[0].batch.x):
        return _taken(optimizer, others, places, most, partial(_by_layers, objective, own))
    leave = partial(_by_hooks, objective, own, Hooked(own.module))
    return _taken(optimizer, others, places, most, leave)


def _taken(
    optimizer: ExactOptimizer,
    others: Tensor,
    places: Sequence[RecordsAt],
    most: int,
    leave: Callable[[RecordsAt, Tensor], None],
) -> Tensor:
    """The noised sum; ``leave`` puts the gradients of ``most`` records at the parameters."""
    optimizer.total = others
    parts = [(place, part) for place in places for part in _parts(place.group, most)]
    for number, (place, part) in enumerate(parts):
        leave(place, part)
        optimizer.slots = torch.unique(place.group[part], return_inverse=True)[1]
        optimizer.drawn = None if place.drawn is None else place.drawn[part]
        optimizer.signal_skip_step(number < len(parts) - 1)
        optimizer.step()
    return optimizer.total


def _by_hooks(
    objective: Objective, own: _Copy, hooked: nn.Module, place: RecordsAt, part: Tensor
) -> None:
    own.move(place.phi)
    x = place.batch.x[part].detach().clone()
    if x.is_floating_point():
        x.requires_grad_()  # without it torch warns about hooks whose input needs no gradient
    loss = objective.loss(hooked(x), place.batch.y[part]).sum()
    loss.backward()  # type: ignore[no-untyped-call]


def _by_layers(objective: Objective, own: _Copy, place: RecordsAt, part: Tensor) -> None:
    own.move(place.phi)
    x, y = place.batch.x[part].detach(), place.batch.y[part]
    found = record_gradients.of_layers(own.module, lambda: objective.loss(own.module(x), y))
    for p, vectors in found.items():
        p.grad_sample = vectors  # type: ignore[attr-defined]


def _by_kernel(
    kernel: Kernel, trained: nn.Parameter, mask: Tensor, place: RecordsAt, part: Tensor
) -> None:
    """All trained coordinates are one parameter here, with gradients (n, d)."""
    x, y = place.batch.x[part].detach(), place.batch.y[part]
    vectors = kernel.record_gradients(place.phi, x, y)
    trained.grad_sample = vectors if bool(mask.all()) else vectors[:, mask]  # type: ignore[attr-defined]


def _by_ghost(module: nn.Module, places: Sequence[RecordsAt], units: int) -> float:
    """By how much the sum would be wrong that needs no record's gradient; 0 where there is none.

    There is one where each record is a unit, and all trained layers are linear.
    """
    alone = all(int(place.group.max()) + 1 == len(place.group) for place in places)
    if not alone or not ghost.takes(module):
        return 0.0
    positions = ghost.positions(module, places[0].batch.x)
    return ghost.wrong_by(units, positions) if ghost.fits(units, positions) else 0.0


def _ghost_sum(
    objective: Objective, own: _Copy, places: Sequence[RecordsAt], clip: float, wrong: float
) -> Tensor:
    """Sum (d,) float64 over the records of all places of their clipped gradients."""
    found = torch.zeros((), dtype=torch.float64)
    for place in places:
        own.move(place.phi)
        for part in torch.split(torch.arange(len(place.group)), GHOST_RECORDS):
            with listening(own.module) as calls:
                losses = objective.loss(own.module(place.batch.x[part]), place.batch.y[part])
            layers = ghost.layers_of(calls, losses)
            factors = ghost.factors(layers, clip, wrong)
            if place.drawn is not None:
                factors = factors * place.drawn[part]
            found = found.to(factors.device) + ghost.total(layers, factors)
    return found


class _Copy:
    """A copy of a module on which Opacus can work; the parameters in ``mask`` are trained.

    Activations do not work in place in it: they would overwrite what hooks have seen.
    """

    def __init__(self, module: nn.Module, phi: Tensor, mask: Tensor) -> None:
        self.module = deepcopy(module).train()
        at, made = 0, dict[nn.Parameter, nn.Parameter]()
        for layer in self.module.modules():
            if getattr(layer, "inplace", False):
                layer.inplace = False  # type: ignore[assignment]
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
