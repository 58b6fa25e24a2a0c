"""What the ledger says that a charge was for is what the session really served, for every pair.

A round is served as at a hospital. Where noise is added, ones come out instead: what is left of
them shows by which constant the sum was divided.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from metaward.client import work
from metaward.client.guard import Guard
from metaward.client.inner import ALGORITHMS
from metaward.client.memory import Memory
from metaward.client.node import Node
from metaward.client.schedule import Share
from metaward.privacy import Batch, Mechanism, Release, Sums, optimizer
from metaward.privacy.description import ChargeDescription, SumDescription
from metaward.privacy.ledger import Charged, Ledger, verify
from metaward.privacy.mechanisms import noisy_sums, whole
from metaward.privacy.mechanisms.noisy_sums import NoisySums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.wire import Request
from metaward.server.protection import noise_multiplier
from metaward.sim import Sim
from tests.contracts.requests import TRAINED, label
from tests.mechanisms import EVERY
from tests.server.office.report.report_desk import phantom

RUN = phantom("client.tasks_per_round=2", "server.rounds=5")
DRAWN = Sums(sampling_rate=0.5, noise_multiplier=3.0, clip_query=0.25, clip_features=2.0)
FEW = {"steps": 2, "batch": 3}


def run_of(mechanism: Mechanism, algorithm: str) -> Sim:
    made = ALGORITHMS[algorithm]()
    learner = replace(made, **{k: v for k, v in FEW.items() if hasattr(made, k)})  # type: ignore[type-var]
    schedule = "passes" if mechanism.unit.protected else "random"
    client = replace(RUN.client, inner=learner, schedule=schedule)
    return replace(RUN, client=client, privacy=mechanism)


def allowed(mechanism: Mechanism, algorithm: str) -> bool:
    return not list(run_of(mechanism, algorithm).desk().conflicts())


PAIRS = [(m, a) for m in (*EVERY, DRAWN) for a in TRAINED if allowed(m, a)]


@dataclass
class Served:
    """Of each noisy sum: its kind, clip norm, noise multiplier and divisor; who was in it."""

    sums: list[tuple[str, float, float, float]] = field(default_factory=list)
    units: dict[str, Counter[Any]] = field(default_factory=dict)
    noised: list[tuple[float, float]] = field(default_factory=list)

    def noisy(self, total: Any, clip: float, sigma: float, noise: Any) -> Any:
        self.noised.append((clip, sigma))
        return np.ones_like(total)

    def note(self, kind: str, given: Tensor, units: Sequence[Any]) -> None:
        (clip, sigma), ones = self.noised.pop(), given.double().unique()
        assert len(ones) == 1
        self.sums.append((kind, clip, sigma, round(1 / float(ones[0]), 4)))
        self.units.setdefault(kind, Counter()).update(units)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    seen, mean, combine = Served(), NoisySums.mean, whole.NoisyTasks.combine
    gradient, means = NoisySums.gradient, NoisySums.means

    def watched_mean(self: Any, contributions: Any, kind: Any, dim: int) -> Tensor:
        given = mean(self, contributions, kind, dim)
        rows = np.concatenate([batch.rows for _, batch in contributions])
        seen.note(kind, given, set(self.opening.units[rows].tolist()))
        return given

    def watched_gradient(
        self: Any, losses: Any, at: Any, kind: Any, mask: Tensor, beside: Any = ()
    ) -> Any:
        given = gradient(self, losses, at, kind, mask, beside)
        if seen.noised:  # a sum of gradients by Opacus, and not by ``mean``
            rows = np.concatenate([batch.rows for _, batch in at])
            seen.note(kind, given[0][mask], set(self.opening.units[rows].tolist()))
        return given

    def watched_means(
        self: Any, contribution: Any, given: Any, tasks: Batch, kind: Any, dim: int
    ) -> Tensor:
        found = means(self, contribution, given, tasks, kind, dim)
        if seen.noised:  # all tasks at once, and not by ``mean``
            for one, rows in [*zip(found, tasks.rows, strict=True)][::-1]:
                seen.note(kind, one, set(self.opening.units[rows].tolist()))
        return found

    def watched_combine(self: Any, directions: Sequence[Tensor]) -> Tensor:
        given = combine(self, directions)
        seen.note("update", given, range(len(directions)))
        return given

    for module in (noisy_sums, optimizer, whole):
        monkeypatch.setattr(module, "noisy", seen.noisy)
    monkeypatch.setattr(NoisySums, "mean", watched_mean)
    monkeypatch.setattr(NoisySums, "means", watched_means)
    monkeypatch.setattr(NoisySums, "gradient", watched_gradient)
    monkeypatch.setattr(whole.NoisyTasks, "combine", watched_combine)
    return seen


def train(run: Sim, folder: Path) -> tuple[Charged, Release]:
    """The second round at the first hospital, and its charge as the chain has it."""
    ledger = Ledger.create(folder / "l.sqlite", "phantom-01")
    desk = run.desk()
    memory = Memory(folder / "memory", 1, lambda stub: True) if desk.learner.remembers else None
    node = Node(0, None, "cpu", Guard(None, ledger, SeededNoise(1)), memory)
    theta = run.client.inner.initial(work.open_setting(desk), 1).numpy()
    release = work.train(desk, Request(2, desk.json(), theta, 0, "run-1"), node)
    assert verify(ledger.path) == []
    (charge,) = ledger.history().charges
    return charge, release


@pytest.mark.parametrize(("mechanism", "algorithm"), PAIRS, ids=label)
def test_the_chain_says_what_the_session_served(
    mechanism: Mechanism, algorithm: str, served: Served, tmp_path: Path
) -> None:
    run = run_of(mechanism, algorithm)
    charge, release = train(run, tmp_path)
    said = charge.description
    assert (said.protection.mechanism, said.protection.unit) == (
        mechanism.name,
        mechanism.unit.name,
    )
    hospital = work.open_hospital(run.client.tasks, 0, None, run.seed)
    share = work.tasks_of(run.desk(), hospital, 0, 2)
    assert (said.tasks, said.participations) == (len(share.episodes), share.participations)
    assert not served.noised
    if mechanism.unit.clips_tasks or (not mechanism.unit.whole and mechanism.unit.protected):
        noised_here(said, served, mechanism)
    else:
        assert said.sums == (beyond(mechanism, run, release, share),)
        assert not served.sums


def noised_here(said: ChargeDescription, served: Served, mechanism: Mechanism) -> None:
    assert [one.kind for one in said.sums] == list(dict.fromkeys(kind for kind, *_ in served.sums))
    for one in said.sums:
        divisors = [divisor for kind, _, _, divisor in served.sums if kind == one.kind]
        assert len(divisors) == one.sums
        assert min(divisors) == pytest.approx(one.batch)
        assert sum(divisors) == pytest.approx(one.vectors * mechanism.sampling_rate)
        noise = {(clip, sigma) for kind, clip, sigma, _ in served.sums if kind == one.kind}
        assert noise == {(one.clip_norm, one.noise_multiplier)}
        most = max(served.units[one.kind].values())
        assert most == one.count or (most < one.count and mechanism.unit.cap)


def beyond(mechanism: Mechanism, run: Sim, release: Release, share: Share) -> SumDescription:
    """What is noised by the server, or by nobody: all that a hospital has is its update."""
    if mechanism.clip is None:
        rows = [[*e.support_rows.tolist(), *e.query_rows.tolist()] for e in share.episodes]
        records = len(set().union(*rows))
        return SumDescription("open", None, 0.0, 1.0, float(records), 1, records, 1)
    assert np.linalg.norm(release.update) <= mechanism.clip * (1 + 1e-6)
    return SumDescription("update", mechanism.clip, noise_multiplier(run), 1.0, None, 1, 1, 1)
