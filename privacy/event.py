"""Events: what is done with private records, as an accountant prices it, and who is charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # importing it takes half a second, which not every command needs
    from dp_accounting import DpEvent


@dataclass(frozen=True)
class Event:
    """``count`` releases of one kind, as ``dp_accounting`` describes that kind to an accountant.

    Any description of that library will do; one that no accountant supports is refused when it is
    priced. Neighbours differ in that one unit is nulled, so a ``noise_multiplier`` is the scale of
    the noise over the sensitivity of the result to that. Numbers become Python's own types and
    lists become tuples, so that equal events have equal texts and hashes. ``ValueError`` for a
    number that is negative or not finite, a count below 1, and a description that is not the
    library's own.
    """

    dp_event: DpEvent
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count = {self.count} is below 1")
        object.__setattr__(self, "dp_event", from_plain(to_plain(self.dp_event)))
        object.__setattr__(self, "count", int(self.count))

    @property
    def noise_multiplier(self) -> float | None:
        """The noise multiplier of the innermost mechanism; None where it has none."""
        return getattr(undrawn(self.dp_event), "noise_multiplier", None)

    @property
    def sampling_rate(self) -> float:
        """The probability of the secret Poisson draw before each release; 1: no draw."""
        return getattr(self.dp_event, "sampling_probability", 1.0)


Events = tuple[Event, ...]


def gaussian(noise_multiplier: float, count: int, sampling_rate: float = 1.0) -> Event:
    """``count`` sums with Gaussian noise, each with a unit's contribution in it once, clipped.

    ``noise_multiplier`` is the standard deviation of the noise over the sensitivity of the sum (0:
    no noise, so no finite epsilon). ``sampling_rate`` is the probability of a fresh, secret,
    independent (Poisson) draw before each sum; 1: no draw, no amplification.
    """
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent

    once = GaussianDpEvent(noise_multiplier)
    return Event(once if sampling_rate == 1 else PoissonSampledDpEvent(sampling_rate, once), count)


def undrawn(dp_event: DpEvent) -> DpEvent:
    """The innermost of nested descriptions: what happens to a unit that was drawn."""
    while hasattr(dp_event, "event"):
        dp_event = dp_event.event
    return dp_event


def counted(events: Iterable[Event]) -> Events:
    """The events in one fixed order, equal ones merged by adding their counts.

    So the price does not depend, by even one bit, on their order or on how they were split.
    """
    counts: Counter[DpEvent] = Counter()
    for event in events:
        counts[event.dp_event] += event.count
    return tuple(Event(kind, counts[kind]) for kind in sorted(counts, key=repr))


# ------------------------------------------------------------------ as a ledger writes it down


def to_plain(dp_event: DpEvent) -> dict[str, Any]:
    """A description as plain data: the name of its type, and its fields."""
    import dp_accounting.dp_event as library

    kind = type(dp_event)
    if getattr(library, kind.__name__, None) is not kind:
        raise ValueError(f"{kind.__name__} is no event of dp_accounting, so no accountant knows it")
    fields = {name: getattr(dp_event, name) for name in getattr(kind, "__match_args__", ())}
    types = kind.__annotations__
    return {"type": kind.__name__} | {k: _plain(k, v, types[k]) for k, v in fields.items()}


def from_plain(plain: Mapping[str, Any]) -> DpEvent:
    """The inverse of ``to_plain``; ``ValueError`` or ``TypeError`` where it cannot be one."""
    import dp_accounting.dp_event as library

    kind = getattr(library, str(plain.get("type")), None)
    if not isinstance(kind, type) or not issubclass(kind, library.DpEvent):
        raise ValueError(f"{plain.get('type')!r} is no event of dp_accounting")
    return kind(**{name: _value(value) for name, value in plain.items() if name != "type"})


def _plain(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(name, item, None) for item in value]
    if hasattr(value, "__match_args__"):
        return to_plain(value)
    if name == "sampling_probability" and not 0 < value <= 1:
        raise ValueError(f"sampling_rate = {value} is not in (0, 1]")
    if not 0 <= value < inf:
        raise ValueError(f"{name} = {value} is not in [0, inf)")
    return float(value) if kind is float or isinstance(value, float) else int(value)


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_value, value))
    return from_plain(value) if isinstance(value, dict) else value


# ------------------------------------------------------------------------------- what is charged

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Charge:
    """The same events for each of ``keys``, the identities whose budgets they spend.

    A key is a short text such as ``record:phantom-01/image-7``, ``content:<sha256 hex>`` or
    ``patient:208``; a ledger keeps only keyed hashes of them.
    """

    keys: tuple[str, ...]
    events: Events


@dataclass(frozen=True)
class Protection:
    """How records were protected: the names of a mechanism and of a unit."""

    mechanism: str
    unit: str


@dataclass(frozen=True)
class Budget:
    """The cap on what any one key may ever spend: ``epsilon`` at ``delta``."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Mark:
    """A point of a hospital's ledger: the ledger's id, the number of an entry, and its hash.

    Replies carry it, so that a ledger that was set back is noticed; it says nothing about records.
    """

    ledger: str
    sequence: int
    head: str


def different(values: Iterable[Value]) -> Collection[Value]:
    """Each object once; equal ones that are not the same object stay beside each other.

    Where thousands of units share a few objects, it spares all but these few hashes.
    """
    return {id(value): value for value in values}.values()


def add(spent: dict[Key, Events], keys: Iterable[Key], events: Events) -> None:
    """Add the events to what each of the keys has spent; equal spends become one object."""
    before = {key: spent.get(key, ()) for key in keys}
    one: dict[Events, Events] = {}
    after: dict[int, Events] = {}
    for old in different(before.values()):
        new = counted(old + events)
        after[id(old)] = one.setdefault(new, new)
    spent |= {key: after[id(old)] for key, old in before.items()}


def merged(charges: Iterable[Charge]) -> Mapping[str, Events]:
    """The events of each key over several charges, equal ones merged."""
    paid: dict[str, Events] = {}
    for charge in charges:
        add(paid, charge.keys, charge.events)
    return paid
