"""What a mechanism must provide: it protects a hospital's records and carries its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaward.privacy.event import Budget, Mark
from metaward.privacy.noise import Noise
from metaward.privacy.release import Release, Scores, Values
from metaward.privacy.session import ParameterGroup, Session, Use

Unit = Literal["none", "record", "patient", "task", "hospital"]
Vectors = NDArray[np.float32]
Combine = Callable[[Vectors], Vectors]
Rehearse = Callable[[], list[Use]]


@dataclass(frozen=True)
class Opening:
    """What a session is opened with, after the charge.

    ``uses`` are the only ones it will serve; ``noise_multipliers`` has one for each kind in them;
    ``units`` (n,) numbers the protected unit behind each of the hospital's rows.
    """

    uses: Sequence[Use]
    noise_multipliers: Mapping[str, float]
    units: NDArray[Any]
    noise: Noise


class Mechanism(Protocol):
    """One entry of ``MECHANISMS``: a frozen dataclass whose fields are its yaml options."""

    @property
    def unit(self) -> Unit:
        """What the guarantee protects."""
        ...

    @property
    def claim(self) -> str:
        """The guarantee in one sentence, printed in every output."""
        ...

    @property
    def budget(self) -> Budget | None:
        """What the run may spend on any one unit; None where nothing is protected."""
        ...

    @property
    def clip(self) -> float | None:
        """The largest clip norm of any kind; None where nothing is clipped."""
        ...

    @property
    def sampling_rate(self) -> float:
        """Probability of the secret Poisson draw before each sum; 1: no draw."""
        ...

    @property
    def trained(self) -> frozenset[ParameterGroup]:
        """The coordinates that are trained, hence noised."""
        ...

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """Every sum that a request will take over records; ``tasks`` are the rows of its tasks."""
        ...

    def noise_multipliers(
        self, uses: Sequence[Use], tasks: Sequence[Sequence[int]], participations: int
    ) -> Mapping[str, float]:
        """The noise of each kind of ``uses``, for units that take part so many times."""
        ...

    def session(self, opening: Opening) -> Session:
        """Records, open for one request."""
        ...

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """Seal an update (dim,) for the way out, with the ledger's mark."""
        ...

    def scores(
        self, hospital: str, round: int, names: tuple[str, ...], before: Values, after: Values
    ) -> Scores:
        """Seal an unseen hospital's evaluation, (scores, episodes) each, for the way out.

        No epsilon covers it.
        """
        ...

    def at_server(
        self, updates: Vectors, combine: Combine, noise_multiplier: float, noise: Noise
    ) -> Vectors:
        """Updates (hospitals, dim) as one direction (dim,), by ``combine`` or by the mechanism."""
        ...


def everything(tasks: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """All rows of all tasks, each once."""
    return tuple(sorted({int(row) for rows in tasks for row in rows}))
