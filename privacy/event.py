"""What happens to private records, as an accountant prices it; what is charged, and to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Event:
    """``count`` noisy sums, in each of which a unit's contribution stood once, clipped.

    ``noise_multiplier`` is the standard deviation of the noise over the sensitivity of the sum to
    that unit being nulled (0: no noise, so no finite epsilon). ``sampling_rate`` is the probability
    of a fresh, secret, independent (Poisson) draw before each sum; 1: no draw, no amplification.
    """

    noise_multiplier: float
    count: int
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise_multiplier < float("inf"):
            raise ValueError(f"noise_multiplier = {self.noise_multiplier} is not in [0, inf)")
        if self.count < 1:
            raise ValueError(f"count = {self.count} is below 1")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate = {self.sampling_rate} is not in (0, 1]")


@dataclass(frozen=True)
class Charge:
    """The same events for each of ``keys``: identities whose budgets they spend.

    A key is a short text such as ``record:phantom-01/image-7``, ``content:<sha256 hex>`` or
    ``patient:208``; a ledger keeps only keyed hashes of them.
    """

    keys: tuple[str, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Budget:
    """The cap on what any one key may ever spend: ``epsilon`` at ``delta``."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Mark:
    """A point of a hospital's ledger: which one, the number of its last entry, and that one's hash.

    Replies carry it, so that a ledger that was set back is noticed; it says nothing about records.
    """

    ledger: str
    sequence: int
    head: str


def merged(charges: Sequence[Charge]) -> Mapping[str, tuple[Event, ...]]:
    """Events of each key over several charges, in order."""
    found: dict[str, list[Event]] = {}
    for charge in charges:
        for key in charge.keys:
            found.setdefault(key, []).extend(charge.events)
    return {key: tuple(events) for key, events in found.items()}
