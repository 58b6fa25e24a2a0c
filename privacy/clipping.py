"""Sums over records in which no protected unit moves the result by more than the clip norm.

A unit is one record, or all records of one patient. Its vectors are summed, the sum is shortened
to norm ``clip`` where longer (Abadi et al. 2016: Deep Learning with Differential Privacy), and the
units are added up. "No more than clip" is meant literally, in the numbers that the machine has:

- each record is computed alone by ``torch.func.vmap``, so no layer can mix two records, and the
  shapes depend on the public slots only, so a record's value cannot change another's rounding;
- each clipped vector is rounded to multiples of a power of two that is coarse enough for the sum to
  be exact in float64: neighbouring sums then differ by one unit's vector and by nothing else, in
  whatever order they were added;
- vectors are shortened, in float64, by as much more as this rounding and the norm's can add.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from metaward.privacy.noise import check_clip
from metaward.privacy.session import Contribution, TaskContribution

_BLOCK = 2**17  # float64 values that stay in a core's cache while they are clipped
_GPU_BLOCK = 2**26  # on a GPU: 512 MB; many small blocks would only wait for their launches


def clipped_sum(
    contribution: Contribution,
    x: Tensor,
    y: Tensor,
    group: Tensor,
    groups: int,
    clip: float,
    weights: Tensor | None = None,
    chunk: int = 64,
) -> Tensor:
    """Sum (d,) float64 over the units of their vectors, each of norm at most ``clip``.

    Args:
        contribution: one record's vector; one that is not finite counts as zero.
        x: records (n, ...).
        y: their labels (n, ...).
        group: (n,) int64, the unit in [0, groups) that each record belongs to.
        groups: how many units there are; public.
        clip: the norm, in the contribution's own unit.
        weights: (n,) of 0 and 1; a record of weight 0 counts as zero. A secret draw is given here,
            not by leaving records out: that would change shapes, hence the others' last bits.
        chunk: records computed at a time. Memory grows with it: some 12 bytes * chunk * d, and
            the network's activations. ``rows(d)`` keeps the first part below 200 MB.

    Raises:
        ValueError: where an argument does not fit the others.
    """
    keep = _check(x, y, group, groups, weights, chunk)
    step = resolution(clip, groups)
    vectors = _vectors(contribution, x, y, group, groups, keep, chunk)
    return _total(([some] for some in vectors), clip, step)


def unit_vectors(
    contribution: Contribution, x: Tensor, y: Tensor, group: Tensor, groups: int, chunk: int = 64
) -> Iterator[Tensor]:
    """The vectors (k, d) of the units, some at a time, before they are clipped.

    Arguments and errors are those of ``clipped_sum``.
    """
    _check(x, y, group, groups, None, chunk)
    return _vectors(contribution, x, y, group, groups, None, chunk)


def task_vectors(
    contribution: TaskContribution, given: Sequence[Tensor], x: Tensor, y: Tensor, chunk: int
) -> Iterator[Tensor]:
    """The vectors (n, d) of each task's records, before they are clipped; ``chunk`` tasks at once.

    ``contribution`` takes the tensors of its task in ``given``, each (tasks, ...), and one record
    of ``x`` (tasks, n, ...) and ``y`` (tasks, n, ...). Each record is computed alone.
    """
    each = vmap(vmap(contribution, in_dims=(*[None] * len(given), 0, 0)))
    for parts in zip(*(torch.split(tensor, chunk) for tensor in (*given, x, y)), strict=True):
        with torch.no_grad():  # what is differentiated inside still is
            vectors = each(*parts)
        yield from vectors


def clipped_units(pieces: Sequence[Tensor], slots: Tensor, clip: float, step: float) -> Tensor:
    """Sum (d,) float64 over units of their records' vectors (k, d), each unit's clipped.

    ``pieces`` are columns of the vectors, (k, d1), (k, d2), ... in their order. ``slots`` (k,)
    int64 numbers the unit of each record from 0; all records of a unit must be here. A vector that
    is not finite counts as zero. ``step`` is the ``resolution`` for all units of the sum to which
    this one is added, exactly.
    """
    units = int(slots.max()) + 1
    if units == len(slots):  # each record is a unit
        return _total(iter([pieces]), clip, step)
    own = torch.cat([piece.to(torch.float64, copy=True) for piece in pieces], dim=1)
    _norms(own)  # a record that is not finite must not take its unit along
    sums = own.new_zeros(units, own.shape[1]).index_add_(0, slots, own)
    return _total(iter([[sums]]), clip, step)


def sum_clipped(vectors: Tensor, clip: float) -> Tensor:
    """Sum (d,) float64 of the rows of ``vectors`` (units, d), each clipped to norm ``clip``.

    For units that are vectors already, such as the updates of tasks. A row that is not finite
    counts as zero.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors have shape {tuple(vectors.shape)}; give (units, d)")
    step = resolution(clip, len(vectors))
    return _total(iter([[vectors.detach()]]), clip, step)


def resolution(clip: float, units: int) -> float:
    """The power of two of whose multiples clipped vectors are made.

    Any sum of ``units`` vectors of norm ``clip`` then has coordinates below 2^53 steps: exact.
    """
    check_clip(clip)
    return math.ldexp(1.0, math.frexp(clip * max(units, 1))[1] - 53)


def rows(d: int, gpu: bool = False) -> int:
    """How many vectors of length ``d`` to hold at a time: 64, fewer where d is above 2^18.

    On a GPU 512, and fewer where d is above 2^17. The sums are exact, so they are the same.
    """
    most, values = (512, 2**26) if gpu else (64, 2**24)
    return max(1, min(most, values // max(d, 1)))


def _check(
    x: Tensor, y: Tensor, group: Tensor, groups: int, weights: Tensor | None, chunk: int
) -> Tensor | None:
    """Which records count (n,) bool, None for all; ``ValueError`` where arguments do not fit."""
    n = len(x)
    if n == 0 or len(y) != n or group.shape != (n,) or group.dtype != torch.int64:
        raise ValueError(
            f"{n} records, {len(y)} labels, group {group.dtype} of shape {tuple(group.shape)}; "
            "give at least one record, and a label and an int64 group number for each"
        )
    if int(group.min()) < 0 or int(group.max()) >= groups:
        raise ValueError(
            f"group holds numbers from {int(group.min())} to {int(group.max())}; "
            f"with groups = {groups} they must be in [0, {groups})"
        )
    if chunk < 1:
        raise ValueError(f"chunk = {chunk} is below 1")
    if weights is None:
        return None
    if weights.shape != (n,) or not bool(((weights == 0) | (weights == 1)).all()):
        raise ValueError(f"weights must be {n} values that are 0 or 1; other weights are not DP")
    return weights.to(torch.bool)


def _vectors(
    contribution: Contribution,
    x: Tensor,
    y: Tensor,
    group: Tensor,
    groups: int,
    keep: Tensor | None,
    chunk: int,
) -> Iterator[Tensor]:
    """The units' vectors, some (k, d) at a time."""
    records = _records(contribution, x, y, keep, torch.argsort(group, stable=True), chunk)
    alone = bool((group.bincount(minlength=groups) <= 1).all())
    return (vectors for _, vectors in records) if alone else _units(records, group)


def _records(
    contribution: Contribution, x: Tensor, y: Tensor, keep: Tensor | None, order: Tensor, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """(numbers (k,), vectors (k, d)), ``chunk`` at a time; zeros for records that do not count."""
    each = vmap(contribution)
    for part in torch.split(order, chunk):
        with torch.no_grad():  # what is differentiated inside still is
            vectors = each(x[part], y[part])
        if vectors.ndim != 2 or not vectors.is_floating_point():
            raise ValueError(
                f"contribution gave {vectors.dtype} of shape {tuple(vectors.shape[1:])} a record; "
                "it must give one flat vector (d,) of real numbers"
            )
        yield part, vectors if keep is None else vectors.masked_fill(~keep[part].unsqueeze(1), 0)


def _units(records: Iterator[tuple[Tensor, Tensor]], group: Tensor) -> Iterator[Tensor]:
    """Each unit's sum, some (k, d) at a time; the last unit of a part may go on in the next."""
    number, last = -1, None
    for part, vectors in records:
        numbers, slot = torch.unique_consecutive(group[part], return_inverse=True)
        own = vectors.to(torch.float64, copy=True)
        _norms(own)  # a record that is not finite must not take its unit along
        sums = own.new_zeros(len(numbers), own.shape[1]).index_add_(0, slot, own)
        if last is not None and int(numbers[0]) == number:
            sums[0] += last[0]
        elif last is not None:
            yield last
        yield sums[:-1]
        number, last = int(numbers[-1]), sums[-1:]
    assert last is not None
    yield last


def _total(units: Iterator[Sequence[Tensor]], clip: float, step: float) -> Tensor:
    """Sum (d,) of rows, each clipped and rounded to multiples of ``step``; some rows at a time, as
    pieces (k, d1), (k, d2), ... of their columns.

    A norm in float64 is wrong by (d / 2 + 4) * 2^-53 of itself at most, in whatever order its
    squares were added (Higham 2002: Accuracy and Stability of Numerical Algorithms, section 3.1),
    and also where it is the norm of the pieces' norms; the scale and the product by a few more;
    rounding moves a vector by step * sqrt(d) / 2.
    """
    total = torch.zeros((), dtype=torch.float64)
    for pieces in units:
        d = sum(piece.shape[1] for piece in pieces)
        room = clip * (1 - (d + 16) * 2.0**-53) - step * math.sqrt(d) / 2
        held = _memory(pieces)
        norms = _joint([_held_norms(piece, held) for piece in pieces])
        scale = (room / norms).clamp(max=1.0) / step
        scale = scale.masked_fill(norms == 0, 0)
        total = torch.cat([_rounded(piece, scale, held) for piece in pieces]) + total
    return total * step


def _memory(pieces: Sequence[Tensor]) -> Tensor:
    """Memory (values,) float64 for a block of any piece: at least a row of it."""
    first = pieces[0]
    size = max(_GPU_BLOCK if first.is_cuda else _BLOCK, *(piece.shape[1] for piece in pieces))
    most = max(piece.numel() for piece in pieces)
    return first.new_empty(min(size, most), dtype=torch.float64)


def _joint(norms: Sequence[Tensor]) -> Tensor:
    """The norms (k,) of rows from those of their pieces; 0 where a piece has no finite one."""
    if len(norms) == 1:
        found = norms[0]
    else:
        found = torch.linalg.vector_norm(torch.stack(list(norms)), dim=0)
    return found.masked_fill(~found.isfinite(), 0)


def _held_norms(vectors: Tensor, held: Tensor) -> Tensor:
    """The norms (k,) of the rows (k, d), by blocks of them in ``held`` (values,)."""
    blocks = torch.split(vectors, max(1, len(held) // max(vectors.shape[1], 1)))
    copies = (held[: block.numel()].view(block.shape).copy_(block) for block in blocks)
    return torch.cat([torch.linalg.vector_norm(own, dim=1) for own in copies])


def _rounded(vectors: Tensor, scale: Tensor, held: Tensor) -> Tensor:
    """Sum (d,) float64 of the rows (k, d) times ``scale`` (k,), rounded to whole numbers, of some
    columns at a time, which stay in ``held`` (values,). A row of scale 0 counts as zero."""
    nothing, parts = scale == 0, []
    some = vectors.is_cuda or bool(nothing.any())
    for block in torch.split(vectors, max(1, len(held) // (2 * max(len(vectors), 1))), dim=1):
        own = held[: block.numel()].view(block.shape).copy_(block)
        if some:
            own.masked_fill_(nothing.unsqueeze(1), 0)
        parts.append(own.mul_(scale.unsqueeze(1)).round_().sum(dim=0))
    return torch.cat(parts)


def _norms(vectors: Tensor) -> Tensor:
    """Norms (k,) of the rows (k, d) float64; rows without a finite norm are set to zero."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    wrong = ~norms.isfinite()
    if vectors.is_cuda or bool(wrong.any()):  # a GPU would wait for the answer
        vectors[wrong] = 0
    return norms.masked_fill(wrong, 0)
