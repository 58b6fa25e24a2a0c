"""What a request must pass before a hospital's records are used: policy, ledger, noise.

There are two kinds of guard. At a real hospital the node config names ``policy`` and ``ledger``:
every request is checked against the policy, every use of a record is charged before it is computed,
and noise comes from the operating system. In a simulation (``simulation`` in the node config of our
own engines, or the environment's METAWARD_SIMULATION, names a folder) there is no policy, ledgers
are made as needed, one for each run and hospital, and noise is seeded so that a run can be
repeated. With neither, nothing is answered. The server can set none of these.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from metaward.client import shipping
from metaward.client.scores import known_scores
from metaward.privacy import Charge, Mark, Mechanism
from metaward.privacy.accounting import allows
from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.description import ChargeDescription
from metaward.privacy.event import Budget
from metaward.privacy.ledger import Entry, Ledger, LedgerError, RequestKey
from metaward.privacy.noise import Noise, SeededNoise, SystemNoise
from metaward.privacy.policy import Policy

NodeConfig = Mapping[str, object]


@dataclass(frozen=True)
class Guard:
    """A hospital's policy, ledger and noise for one run; ``policy`` is None in a simulation.

    ``code`` is the SHA-256 of the bundle of code that the hospital's gate let in for the run, which
    every charge names; None where there is no gate.
    """

    policy: Policy | None
    ledger: Ledger | None
    noise: Noise
    code: str | None = None

    def admit(self, asked: Asked, mark: Mark | None) -> None:
        """``PolicyError`` where the policy forbids the request, or the ledger was set back.

        ``mark`` is the last point of this ledger that the server saw; a chain without it is an old
        copy, in which later charges are missing.
        """
        if self.policy is not None:
            self.policy.admit(asked)
        if mark is not None and self.ledger is not None and not self.ledger.holds(mark):
            raise PolicyError(
                "ledger-rewound",
                f"the server saw entry {mark.sequence} of ledger {mark.ledger}, which "
                f"{self.ledger.path} does not hold: it was replaced or set back; put back the "
                "newest copy",
            )

    def refuse_if_charged(self) -> None:
        """``PolicyError`` where this hospital ever trained: its scores would leave unprotected."""
        if self.ledger is not None and self.ledger.charged():
            raise PolicyError(
                "policy-purpose",
                f"{self.ledger.path} holds charges: the records of a hospital that trained are not "
                "evaluated, whatever the roster says; no epsilon would cover the scores",
            )

    def charge(
        self,
        key: RequestKey,
        description: ChargeDescription,
        charges: Sequence[Charge],
        budget: Budget | None,
        deal: str | None,
    ) -> Entry | None:
        """Pay before anything is computed; returns None where there is no ledger (mechanism none).

        ``budget`` is the run's own, which a real hospital's policy replaces. ``deal`` names the
        tasks where a unit is one (``Ledger.charge``). ``LedgerError`` where a budget is spent.
        """
        if self.ledger is None:
            return None
        cap = self.policy.budget() if self.policy is not None else budget
        return self.ledger.charge(key, description, charges, cap, allows, deal, self.code)

    def stored(self, key: RequestKey, reply: str) -> bool:
        """Whether the ledger's reply to this request is the one with the SHA-256 ``reply``.

        True where there is no ledger: nothing is promised there, so nothing is counted.
        """
        if self.ledger is None:
            return True
        entry = self.ledger.answered(key)
        stored = entry.reply if entry is not None else None
        return stored is not None and hashlib.sha256(stored).hexdigest() == reply

    def refused(self, code: str, reason: str, run: str, round: int) -> None:
        """Write a refusal and its reason to the hospital's ledger."""
        if self.ledger is not None:
            self.ledger.refuse(code, reason, run, round)


def open_guard(
    config: NodeConfig,
    mechanism: Mechanism,
    run: str,
    hospital: str,
    seed: Sequence[int],
    charges: bool,
) -> Guard:
    """The guard that this node's own configuration asks for.

    ``PolicyError`` or ``LedgerError`` where policy or ledger is missing or damaged. ``seed`` and
    ``charges`` matter in simulations only: ``charges`` says whether the request needs a ledger.
    """
    folder = simulation_folder(config)
    if folder is None:
        return real_guard(config)
    if not mechanism.unit.protected or not charges:
        return Guard(None, None, SeededNoise(*seed))
    path = folder / run / f"{hospital}.sqlite"
    return Guard(None, _ledger(path, hospital), SeededNoise(*seed))


def guard_of_refusals(config: NodeConfig) -> Guard:
    """A guard that only writes refusals down, for requests that never came to the hospital's own.

    It has the ledger of a real hospital's node config; ``LedgerError`` where that cannot be opened.
    """
    named = None if simulation_folder(config) else config.get("ledger")
    ledger = Ledger.open(Path(str(named))) if named else None
    return Guard(None, ledger, SystemNoise())


def simulation_folder(config: NodeConfig) -> Path | None:
    """The folder of a simulation's hospitals; None at a real hospital."""
    if config.get("policy") or config.get("ledger"):
        return None
    named = config.get("simulation") or os.environ.get("METAWARD_SIMULATION")
    return Path(str(named)) if named else None


def admit_plugins(config: NodeConfig, names: Sequence[str]) -> None:
    """Check the plug-ins (``by:name``) of a request before any of their code is loaded.

    ``PolicyError`` where the hospital's policy does not name them all. A simulated hospital uses
    whatever the process that simulates it has registered.
    """
    if names and simulation_folder(config):
        shipping.receive()
    elif names:
        _policy(config).admit_plugins(names)


def own_name(config: NodeConfig) -> str | None:
    """The only name under which the hospital's policy lets it take part; None: any, or unknown."""
    if simulation_folder(config):
        return None
    try:
        return _policy(config).hospital
    except PolicyError:  # whoever opens the policy next says what is wrong with it
        return None


def _policy(config: NodeConfig) -> Policy:
    named = config.get("policy")
    return Policy.open(Path(str(named)) if named else None, known_scores())


def real_guard(config: NodeConfig) -> Guard:
    """The guard of a real hospital: its policy, its ledger, the operating system's noise.

    ``PolicyError`` or ``LedgerError`` where policy or ledger is missing or damaged.
    """
    opened, ledger = _policy(config), config.get("ledger")
    if not ledger:
        raise LedgerError("ledger-missing", 'the node config names no ledger="/path/to/ledger"')
    return Guard(opened, Ledger.open(Path(str(ledger))), SystemNoise())


def _ledger(path: Path, hospital: str) -> Ledger:
    """A simulated hospital's ledger, made at its first charge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            return Ledger.open(path)
        return Ledger.create(path, hospital, "simulation")
