"""How far one unit really moves what is noised: measured for each unit, in each sum, in turn.

A neighbour lacks one unit: its contribution is zero. Every sum is taken for both neighbours at the
same phi, because that is what adaptive composition asks for: whatever was released before is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.charging import Plan, charges, plan
from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.at_once import Fused
from metaward.client.losses import Focal, Weighted
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.schedule import Share
from metaward.client.tasks.base import Hospital
from metaward.privacy import Mechanism, Opening, OpenSession, Session, Use
from metaward.privacy.accounting import gdp
from metaward.privacy.mechanisms.sums import Sums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Batch, Contributions, Kind, Losses, ParameterGroup, use
from tests.client.models.fused.compilers import needs_compiler
from tests.mechanisms import protecting
from tests.privacy import attacked
from tests.privacy.attacked import FLAT, LEARNERS, episodes, norm, pairs, records, start

CLIP = 1e-2
"""Small, so that all but the flattest records are cut to it."""

EXACT = 1e-9
"""What float64 networks leave open: sums themselves are exact."""

STEEP = Weighted(Focal(gamma=1.0), (1000.0, 1.0, 0.01, 1.0, 1.0, 1.0, 1.0))
"""A loss that would move a sum a thousand times as far, were its weights not clipped as well."""
CASES = {
    **attacked.CASES,
    "kernel": (Conv(16, 2, 4), attacked.IMAGE),
    "weighted": (Mlp((5,)), replace(FLAT, kind=replace(FLAT.kind, losses=STEEP))),
}

Sum = Callable[[Contributions], Tensor]


@dataclass
class Neighbours:
    """A session that takes each sum once with everybody, and once without each unit in turn.

    What the algorithm gets back has noise in it, as in a real run, so that it takes a real path.
    """

    mechanism: Sums
    who: np.ndarray
    moved: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    raw: bool = False
    noise: SeededNoise = field(default_factory=lambda: SeededNoise(1))

    @property
    def trained(self) -> frozenset[ParameterGroup]:
        return self.mechanism.trained

    def gradient(
        self, losses: Losses, at: Sequence[tuple[Tensor, Batch]], kind: Kind, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        def total(pairs: Sequence[tuple[Tensor, Batch]]) -> Tensor:
            session = self._quiet(kind, [batch for _, batch in pairs])
            return session.gradient(losses, pairs, kind, mask)[0] * _rows(pairs)

        return self._measure(total, at, kind), torch.zeros(())

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        def total(pairs: Contributions) -> Tensor:
            session = self._quiet(kind, [batch for _, batch in pairs])
            return session.mean(pairs, kind, dim) * _rows(pairs)

        return self._measure(total, contributions, kind)

    gradients, means = Session.gradients, Session.means

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(directions)).mean(dim=0)

    def _quiet(self, kind: Kind, batches: Sequence[Batch]) -> object:
        opening = Opening([use(kind, *batches)], {kind: 0.0}, self.who, self.noise)
        return self.mechanism.session(opening)

    def _measure(self, total: Callable[[Sequence], Tensor], pairs: Sequence, kind: Kind) -> Tensor:
        everybody, clip = total(pairs), self.mechanism.clip_of(kind)
        rows = np.concatenate([batch.rows for _, batch in pairs])
        for unit in np.unique(self.who[rows]):
            rest = [(a, without(b, self.who[b.rows] == unit)) for a, b in pairs]
            rest = [(a, b) for a, b in rest if len(b.rows)]
            moved = norm(everybody - total(rest)) if rest else norm(everybody)
            self.moved.setdefault(str(unit), []).append((kind, moved / clip))
        noise = torch.from_numpy(self.noise.gaussian(len(everybody)))
        return (everybody + noise * clip) / _rows(pairs)


def without(batch: Batch, gone: np.ndarray) -> Batch:
    keep = np.flatnonzero(~gone)
    return Batch(batch.x[keep], batch.y[keep], batch.rows[keep])


def _rows(pairs: Sequence[tuple[object, Batch]]) -> int:
    return sum(len(batch.rows) for _, batch in pairs)


def priced(
    mechanism: Mechanism, learner: Algorithm, setting: Setting, hospital: Hospital
) -> tuple[Plan, dict[str, float]]:
    """The plan of a round, and mu of each identity that is charged."""
    theta, share = start(setting, learner).float(), Share(episodes(hospital), 1)
    price = plan(mechanism, learner, setting, theta, share, np.random.default_rng(5))
    found = charges(mechanism, price, hospital)
    return price, {key: gdp.mu(charge.events) for charge in found for key in charge.keys}


def played(
    mechanism: Sums, learner: Algorithm, case: str, hospital: Hospital
) -> dict[str, list[tuple[str, float]]]:
    """(kind, norm over clip) of every sum that each unit stood in."""
    architecture, spec = CASES[case]
    setting = Setting(architecture, spec, at_once=Fused() if case == "kernel" else None)
    session = Neighbours(mechanism, mechanism.unit.owners(hospital))
    theta = start(setting, learner)
    learner.update(setting, theta, episodes(hospital), session, np.random.default_rng(5))
    return session.moved


def small(unit: str, **options: object) -> Sums:
    found = protecting(unit, clip_norm=CLIP, clip_features=CLIP / 3, clip_query=CLIP * 2, **options)
    assert isinstance(found, Sums)
    return found


CASES_OF = [
    pytest.param(unit, name, case, marks=needs_compiler if case == "kernel" else ())
    for case, (_, spec) in CASES.items()
    for unit, name in pairs("record", "patient", spec=spec)
    if case == "mlp" or name in ("reptile", "maml", "proto_maml", "embedding")
]


@pytest.mark.parametrize(("unit", "name", "case"), CASES_OF)
def test_no_unit_moves_a_sum_by_more_than_the_clip_norm_and_some_reach_it(
    unit: str, name: str, case: str
) -> None:
    architecture, spec = CASES[case]
    mechanism, hospital = small(unit), records(spec, 1)
    moved = played(mechanism, LEARNERS[name], case, hospital)
    price, mu = priced(mechanism, LEARNERS[name], Setting(architecture, spec), hospital)
    kinds = {kind for kind, _ in price.uses}
    for kind in kinds:
        found = [size for sums in moved.values() for k, size in sums if k == kind]
        assert max(found) <= 1 + EXACT, kind
        assert max(found) >= 0.99, f"{kind} sums do not reach the clip norm: nothing was tested"
    for who, sums in moved.items():
        spent = Counter(kind for kind, size in sums if size > EXACT)
        charged = charged_counts(mechanism, price, hospital, who)
        assert spent <= charged, who
        assert Counter(kind for kind, _ in sums) == charged, who
        measured = sum((size / price.noise[kind]) ** 2 for kind, size in sums) ** 0.5
        assert measured <= mu[f"{mechanism.unit.key}:{who}"] * (1 + EXACT), who
    tight = max(
        sum((size / price.noise[k]) ** 2 for k, size in sums) ** 0.5
        / mu[f"{mechanism.unit.key}:{who}"]
        for who, sums in moved.items()
    )
    assert tight > 0.9, "the claim is not loose"


def charged_counts(mechanism: Sums, price: Plan, hospital: Hospital, who: str) -> Counter[str]:
    """Sums of each kind that ``client.charging`` charges a unit for, read from its events.

    Noise multipliers are made to differ between kinds, so that an event tells its kind.
    """
    kinds = sorted({kind for kind, _ in price.uses})
    sums = [
        replace(one, noise_multiplier=1.0 + kinds.index(one.kind)) for one in price.description.sums
    ]
    marked = replace(price, description=replace(price.description, sums=tuple(sums)))
    found = [
        event
        for charge in charges(mechanism, marked, hospital)
        if f"{mechanism.unit.key}:{who}" in charge.keys
        for event in charge.events
    ]
    return Counter({kinds[int(event.noise_multiplier) - 1]: event.count for event in found})


@pytest.mark.parametrize("name", LEARNERS)
def test_everybody_who_is_touched_is_charged(name: str) -> None:
    """Also by content: a record keeps its budget under a new name."""
    mechanism, hospital = small("record"), records(FLAT, 1)
    moved = played(mechanism, LEARNERS[name], "mlp", hospital)
    _, mu = priced(mechanism, LEARNERS[name], Setting(*CASES["mlp"]), hospital)
    assert {f"record:{who}" for who in moved} == {key for key in mu if key.startswith("record")}
    assert len([key for key in mu if key.startswith("content")]) == len(moved) > 0


EVIL = (1e30, -1e30, np.nan, np.inf, -np.inf, 1e-300, 1e15)


@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.parametrize("name", ["reptile", "maml", "proto_maml", "embedding"])
def test_records_made_by_an_adversary_do_not_move_more(unit: str, name: str) -> None:
    hospital = records(FLAT, 1)
    for row, value in zip(range(1, 24, 3), [*EVIL, *EVIL], strict=False):
        hospital.x[row, row % 6] = value
    moved = played(small(unit), LEARNERS[name], "mlp", hospital)
    sizes = [size for sums in moved.values() for _, size in sums]
    assert np.isfinite(sizes).all()
    assert 0.99 <= max(sizes) <= 1 + EXACT
    if unit == "record":  # one that is not finite counts as zero; a patient has others besides
        assert any(size < EXACT for size in sizes)


@pytest.mark.parametrize("train", [("head",), ("norm", "head"), ("norm",)])
@pytest.mark.parametrize("name", ["reptile", "maml", "proto_maml"])
def test_with_masks(name: str, train: tuple[str, ...]) -> None:
    if (name, train) == ("proto_maml", ("head",)):
        train = ("norm", "head")  # its theta is the body alone: a head is none of it
    moved = played(
        small("record", train=train), LEARNERS[name], "conv", records(CASES["conv"][1], 1)
    )
    sizes = [size for sums in moved.values() for _, size in sums]
    assert 0.99 <= max(sizes) <= 1 + EXACT


@pytest.mark.parametrize(
    "network",
    ["mlp", "conv", pytest.param("kernel", marks=needs_compiler)],
    ids=["linear layers", "convolutions", "kernel"],
)
def test_the_measurement_sees_clipping_that_is_too_loose(
    monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    from metaward.privacy.clipping import clipped_units
    from metaward.privacy.ghost import LayerRecords, factors

    def loose(pieces: Sequence[Tensor], slots: Tensor, clip: float, step: float) -> Tensor:
        return clipped_units(pieces, slots, 1.02 * clip, step)

    def loose_factors(layers: Sequence[LayerRecords], clip: float, wrong: float) -> Tensor:
        return factors(layers, 1.02 * clip, wrong)

    monkeypatch.setattr("metaward.privacy.optimizer.clipped_units", loose)
    monkeypatch.setattr("metaward.privacy.ghost.factors", loose_factors)
    shape = FLAT if network == "mlp" else CASES[network][1]
    moved = played(small("record"), LEARNERS["reptile"], network, records(shape, 1))
    assert max(size for sums in moved.values() for _, size in sums) == pytest.approx(1.02)


# ------------------------------------------------------------------------- whole updates


@dataclass
class Directions(OpenSession):
    """Keeps what is combined."""

    kept: list[Tensor] = field(default_factory=list)

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        self.kept = list(directions)
        return super().combine(directions)


def directions(name: str, hospital: Hospital) -> Tensor:
    """Each task's direction (tasks, dim)."""
    setting, session, learner = Setting(*CASES["mlp"]), Directions(), LEARNERS[name]
    theta = start(setting, learner)
    learner.update(setting, theta, episodes(hospital), session, np.random.default_rng(5))
    return torch.stack(session.kept)


def task_sums(vectors: Tensor, clip: float) -> Iterator[Tensor]:
    """The sum with every task, then without each in turn."""
    mechanism = protecting("task", clip_norm=clip)
    for gone in range(-1, len(vectors)):
        rest = [v for i, v in enumerate(vectors) if i != gone]
        uses = [Use("update", (i,)) for i in range(len(rest))]
        opening = Opening(uses, {"update": 0.0}, np.arange(len(rest)), SeededNoise(0))
        yield mechanism.session(opening).combine(rest) * len(rest)


@pytest.mark.parametrize("name", [name for _, name in pairs("task")])
def test_a_task_moves_the_sum_by_the_clip_norm_at_most(name: str) -> None:
    vectors = directions(name, records(FLAT, 1))
    everybody, *others = task_sums(vectors, CLIP)
    sizes = [norm(everybody - rest) / CLIP for rest in others]
    assert len(sizes) == len(vectors) == 2
    assert 0.99 <= max(sizes) <= 1 + EXACT


@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("name", [name for _, name in pairs("task")])
def test_a_task_touches_its_own_direction_only(name: str, changed: int) -> None:
    """Else nulling a task would move the others' directions as well, and clipping bound nothing."""
    before, other = records(FLAT, 1), records(FLAT, 1)
    task = episodes(other)[changed]
    for rows in (task.support_rows, task.query_rows):
        other.x[rows] = np.random.default_rng(9).normal(size=other.x[rows].shape)
        other.y[rows] = other.y[rows][::-1]
    one, two = directions(name, before), directions(name, other)
    assert torch.equal(one[1 - changed], two[1 - changed])
    assert (one[changed] - two[changed]).abs().max() > 1e-6


def test_a_record_may_turn_its_task_around() -> None:
    """Why task level at mu is record level at 2 mu: nulling one record is not nulling its task."""
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    turned = vectors * torch.tensor([[-1.0], [1.0]])  # the first task, with one record nulled
    (everybody, rest, _), (moved, *_) = task_sums(vectors, CLIP), task_sums(turned, CLIP)
    assert norm(everybody - rest) == pytest.approx(CLIP)
    assert norm(everybody - moved) == pytest.approx(2 * CLIP)


def test_tasks_that_share_a_record_are_refused() -> None:
    """In one sum k tasks of one record cost (k / z)^2, not the k / z^2 that k sums cost."""
    with pytest.raises(ValueError, match=r"share records; set client\.schedule to passes"):
        protecting("task").uses(list, [[0, 1, 2], [2, 3]])
    uses = protecting("task").uses(list, [[1, 0, 1], [2, 3]])
    assert uses == [Use("update", (0, 1)), Use("update", (2, 3))]


@pytest.mark.parametrize("value", [1e30, -1e30, torch.inf, torch.nan, 0.0])
def test_a_task_or_hospital_that_is_made_by_an_adversary(value: float) -> None:
    vectors = torch.ones(3, 4, dtype=torch.float64)
    vectors[1, 2] = value
    everybody, *others = task_sums(vectors, CLIP)
    assert all(norm(everybody - rest) <= CLIP * (1 + EXACT) for rest in others)
    mechanism = protecting("hospital", clip_norm=CLIP)
    sizes = [norm(total) for total in hospital_moves(mechanism, vectors)]
    assert max(sizes) <= CLIP * (1 + 1e-6)
    assert max(sizes) >= 0.99 * CLIP


def hospital_moves(mechanism: Mechanism, vectors: Tensor) -> Iterator[Tensor]:
    """What each hospital, nulled, moves the server's sum by; m is public and stays."""

    def total(updates: np.ndarray) -> Tensor:
        mean = mechanism.at_server(updates, lambda u: u.mean(axis=0), 0.0, SeededNoise(0))
        return torch.from_numpy(mean).double() * len(updates)

    sealed = [mechanism.release("a", 1, v, torch.zeros(()), None).update for v in vectors]
    everybody = np.stack(sealed)
    for i in range(len(sealed)):
        rest = everybody.copy()
        rest[i] = 0
        yield total(everybody) - total(rest)


@pytest.mark.parametrize("name", [name for _, name in pairs("hospital")])
def test_a_hospital_moves_the_mean_by_the_clip_norm_over_their_number(name: str) -> None:
    setting, learner = Setting(*CASES["mlp"]), LEARNERS[name]
    theta = start(setting, learner)
    deltas = [
        learner.update(
            setting, theta, episodes(records(FLAT, seed)), OpenSession(), np.random.default_rng(5)
        ).delta
        for seed in range(3)
    ]
    mechanism = protecting("hospital", clip_norm=CLIP)
    sizes = [norm(moved) / CLIP for moved in hospital_moves(mechanism, torch.stack(deltas))]
    assert 0.99 <= max(sizes) <= 1 + 1e-6  # updates travel as float32


@pytest.mark.parametrize("unit", ["task", "hospital"])
def test_whole_updates_are_charged_once_a_round(unit: str) -> None:
    mechanism, hospital = protecting(unit, clip_norm=CLIP), records(FLAT, 1)
    price, mu = priced(mechanism, LEARNERS["maml"], Setting(*CASES["mlp"]), hospital)
    assert {round(value * price.noise["update"], 12) for value in mu.values()} == {1.0}
    assert sum(key.startswith("record:") for key in mu) == len(hospital.rows)
