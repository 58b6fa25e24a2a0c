"""The session of mechanism ``sums``: noisy sums of what was charged, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaward.errors import RunError
from metaward.privacy.clipping import clipped_sum, clipped_units, resolution, rows, task_vectors
from metaward.privacy.mechanisms.base import Mechanism, Opening
from metaward.privacy.noise import noisy
from metaward.privacy.session import (
    Batch,
    Contributions,
    Kind,
    Losses,
    MeanGradient,
    Objective,
    Points,
    Session,
    TaskContribution,
    gradient,
    use,
)


class Overdraft(RunError):
    """An algorithm asked for a sum that was not charged; nothing was computed."""


def _units(groups: Sequence[Tensor]) -> int:
    """How many units there are, each numbered from 0 in its group."""
    return sum(int(group.max()) + 1 for group in groups)


@dataclass
class NoisySums(Session):
    """Records whose sums are clipped per unit and noised, as ``mechanism`` says.

    Nothing is given out but sums that were charged.
    """

    mechanism: Mechanism
    opening: Opening

    def __post_init__(self) -> None:
        self.trained, self.left = self.mechanism.trained, Counter(self.opening.uses)

    def gradient(
        self,
        losses: Losses,
        at: Points,
        kind: Kind,
        mask: Tensor,
        beside: Contributions = (),
    ) -> MeanGradient:
        """Noisy mean gradient (dim,), by Opacus where it can take the network's gradients."""
        from metaward.privacy import optimizer  # Opacus takes seconds to import

        if not isinstance(losses, Objective) or not optimizer.takes(losses):
            return super().gradient(losses, at, kind, mask, beside)
        batches = [batch for _, batch in [*at, *beside]]
        groups = self._spend(kind, batches)
        units, d = _units(groups), int(mask.sum())
        places = [
            optimizer.RecordsAt(phi.detach(), batch, group, self._drawn(group))
            for (phi, batch), group in zip(at, groups[: len(at)], strict=True)
        ]
        others = self._sum(beside, groups[len(at) :], kind, units, d)
        clip, sigma = self.mechanism.clip_of(kind), self.opening.noise_multipliers[kind]
        noise = self.opening.noise
        total = optimizer.noisy_gradients(losses, places, mask, clip, sigma, noise, units, others)
        found = torch.zeros_like(at[0][0])
        found[mask] = self._over_records(total, batches).to(found)
        return found, torch.full((), float("nan"), device=found.device)

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """Noisy mean (dim,): clipped sums and one noise over the public constant q * n."""
        groups = self._spend(kind, [batch for _, batch in contributions])
        total = self._sum(contributions, groups, kind, _units(groups), dim)
        return self._noised(total.cpu(), kind, [batch for _, batch in contributions])

    def gradients(
        self, losses: Losses, phi: Tensor, tasks: Batch, kind: Kind, mask: Tensor
    ) -> MeanGradient:
        """All tasks in one pass, each record's gradient computed alone."""
        chosen, one = mask.nonzero().squeeze(1), gradient(losses)
        if not self._fit(tasks, len(chosen)):
            return super().gradients(losses, phi, tasks, kind, mask)

        def contribution(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return one(phi, x, y)[chosen]

        found = torch.zeros_like(phi)
        means = self.means(contribution, [phi.detach()], tasks, kind, len(chosen))
        found[:, chosen] = means.to(found)
        return found, torch.full((len(phi),), float("nan"), device=found.device)

    def means(
        self,
        contribution: TaskContribution,
        given: Sequence[Tensor],
        tasks: Batch,
        kind: Kind,
        dim: int,
    ) -> Tensor:
        """All tasks in one pass, each record's vector computed alone."""
        chunk = self._fit(tasks, dim)
        if not chunk:
            return super().means(contribution, given, tasks, kind, dim)
        batches, clip = tasks.unstack(), self.mechanism.clip_of(kind)
        groups = [self._spend(kind, [batch])[0] for batch in batches]
        vectors = task_vectors(contribution, given, tasks.x, tasks.y, chunk)
        totals = torch.stack(
            [
                clipped_units([own], group, clip, resolution(clip, _units([group])))
                for own, group in zip(vectors, groups, strict=True)
            ]
        )
        pairs = zip(totals.cpu(), batches, strict=True)
        return torch.stack([self._noised(total, kind, [batch]) for total, batch in pairs])

    def _fit(self, tasks: Batch, dim: int) -> int:
        """How many tasks' vectors of length ``dim`` are held at once; 0: one task after the other.

        That is so for tasks of many records; where units are drawn, because a task's draw and its
        noise come from the source one after the other; and where a class changes what one sum is.
        """
        own = type(self)
        changed = (own.mean, own.gradient) != (NoisySums.mean, NoisySums.gradient)
        count, records = tasks.rows.shape
        fit = min(count, rows(dim, gpu=tasks.x.is_cuda) // records)
        return 0 if fit < 2 or changed or self.mechanism.sampling_rate < 1 else fit

    def _noised(self, total: Tensor, kind: Kind, batches: Sequence[Batch]) -> Tensor:
        """A clipped sum (dim,) with its noise, over the public constant; as the records are."""
        clip, sigma = self.mechanism.clip_of(kind), self.opening.noise_multipliers[kind]
        noised = torch.from_numpy(noisy(total.numpy(), clip, sigma, self.opening.noise))
        x = batches[0].x
        mean = self._over_records(noised, batches)
        return mean.to(x.device, x.dtype if x.is_floating_point() else torch.float32)

    def _sum(
        self,
        contributions: Contributions,
        groups: Sequence[Tensor],
        kind: Kind,
        units: int,
        dim: int,
    ) -> Tensor:
        """Sum (dim,) float64 over all units of their clipped vectors, without noise."""
        total = torch.zeros(dim, dtype=torch.float64)
        clip = self.mechanism.clip_of(kind)
        for (one, (x, y, _)), group in zip(contributions, groups, strict=True):
            # as coarse as for all units together, so that adding the tasks' sums is exact as well
            drawn = self._drawn(group)
            chunk = rows(dim, gpu=x.is_cuda)
            part = clipped_sum(one, x, y, group, units, clip, drawn, chunk)
            total = total.to(part.device) + part
        return total

    def _spend(self, kind: Kind, batches: Sequence[Batch]) -> list[Tensor]:
        """The unit (n,) of each batch's records, numbered from 0 in each; what was charged is used.

        ``Overdraft`` where the sum was not charged, ``ValueError`` where batches share a unit.
        """
        wanted = use(kind, *batches)
        if self.left[wanted] < 1:
            raise Overdraft(f"a {kind} sum over {len(wanted.rows)} records was not charged")
        self.left[wanted] -= 1
        here = [np.unique(self.opening.units[b.rows], return_inverse=True) for b in batches]
        names = np.concatenate([names for names, _ in here])
        if len(np.unique(names)) < len(names):
            raise ValueError(f"a {self.mechanism.unit.name} is in two tasks of one {kind} sum")
        pairs = zip(here, batches, strict=True)
        return [torch.from_numpy(group.astype(np.int64)).to(b.x.device) for (_, group), b in pairs]

    def _over_records(self, total: Tensor, batches: Sequence[Batch]) -> Tensor:
        """A sum over the public constant q * n."""
        return total / (self.mechanism.sampling_rate * sum(len(b.rows) for b in batches))

    def _drawn(self, group: Tensor) -> Tensor | None:
        """Which records (n,) bool a secret draw of their units takes; None where there is none."""
        q = self.mechanism.sampling_rate
        if q == 1:
            return None
        taken = self.opening.noise.uniform(int(group.max()) + 1) < q
        return torch.from_numpy(taken).to(group.device)[group]
