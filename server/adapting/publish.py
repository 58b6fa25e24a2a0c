"""A model that may be published: asked of the policy, charged to the ledger, noised, stored, given.

In this order, as for an answer to a server (``client.work``): whatever is computed was paid for
before, and whatever is given was stored before. The same request again gets the stored bytes and
costs nothing, because fresh noise would be a second release. A model that steps have made useless
is stored like any other, so that nobody can draw until the noise suits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.adaptation import Adaptation
from metaward.client.charging import Plan, charges
from metaward.client.desk import MECHANISM, asked_plugins
from metaward.client.guard import Guard
from metaward.client.inner.fitted import Fitted
from metaward.client.tasks.base import Hospital, IntArray
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.options import ConfigError, compact
from metaward.privacy import Batch, Mechanism
from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.ledger import Entry, LedgerError, RequestKey
from metaward.privacy.noise import SystemNoise
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.terms import Terms
from metaward.server.evaluations.finished import Finished

PURPOSE = "adapt"


@dataclass(frozen=True, eq=False)
class Publication:
    """What is to be published: the ``adaptation`` to the ``rows`` of a hospital's records, on
    ``terms``; ``support`` are these records as the network takes them."""

    finished: Finished
    held: Labelled
    terms: Terms
    adaptation: Adaptation
    support: Batch

    @property
    def rows(self) -> IntArray:
        """The records that the model is fitted to."""
        return self.support.rows

    @property
    def hospital(self) -> Hospital:
        """The records under the names by which the hospital's ledger knows them."""
        return self.held.at(self.terms.ledger.hospital)

    @property
    def mechanism(self) -> Mechanism:
        """What protects them."""
        return self.adaptation.mechanism

    def check(self) -> None:
        """``InputError`` where no model can be published, before anything is charged."""
        try:
            self.adaptation.check(self.support)
        except ValueError as error:
            raise InputError(f"--private: {error}") from error
        owners = self.mechanism.unit.owners(self.hospital)
        units, delta = len(np.unique(owners)), self.terms.mechanism.delta
        if self.mechanism.empty_promise(units):
            raise ConfigError(
                [
                    f"{delta:g} is not below 1 / {units}, and the hospital has {units} "
                    f"{self.mechanism.unit.plural.lower()}: a mechanism that publishes one at "
                    "random keeps it; give a smaller one"
                ],
                "--delta",
            )

    def request(self) -> RequestKey:
        """The same for the same theta, learner, terms and records, whatever judges the model."""
        told = hashlib.sha256(self.finished.theta.tobytes())
        run, steps = self.finished.run.mapping(), self.adaptation.steps
        told.update(compact([run, MECHANISM.plain(self.mechanism), steps]).encode())
        told.update(compact([*self.held.classes]).encode())
        for array in _identities(self.hospital, self.rows):
            told.update(np.ascontiguousarray(array).tobytes())
        return RequestKey(f"{PURPOSE} {self.finished.folder.id}", 1, PURPOSE, told.hexdigest())


def _identities(hospital: Hospital, rows: IntArray) -> Iterator[NDArray[Any]]:
    """What tells these records from others: names, owners, labels and what is stored."""
    yield rows
    for names in (hospital.ids, hospital.patients):
        yield np.frombuffer(compact(names[rows].astype(str).tolist()).encode(), np.uint8)
    yield hospital.y[rows]
    yield np.stack([hospital.as_stored(int(row)) for row in rows])


@dataclass(frozen=True, eq=False)
class Paid:
    """A model that was paid for: the ``predictor``'s ``stored`` bytes, the ``price``, and the
    ledger's ``entry``; ``again`` says that it was stored by an earlier call."""

    stored: bytes
    price: Plan
    entry: Entry
    again: bool


def paid_for(asked: Publication, written: Any) -> Paid:
    """Charge the hospital's ledger, adapt, and store the model that ``written`` makes bytes of.

    ``written``: ``Fitted`` -> bytes. ``PolicyError`` where the policy forbids it, ``LedgerError``
    where a budget is spent; the ledger notes either.
    """
    terms, price = asked.terms, asked.adaptation.price(asked.support)
    guard, key = Guard(terms.policy, terms.ledger, SystemNoise()), asked.request()
    try:
        entry = _charged(asked, guard, key, price)
    except (LedgerError, PolicyError) as error:
        guard.refused(error.code, str(error), key.run, key.round)
        raise
    if entry.reply is not None:
        return Paid(entry.reply, price, entry, again=True)
    stored = terms.ledger.answer(entry, written(_fitted(asked, price, guard)))
    assert stored.reply is not None
    return Paid(stored.reply, price, stored, again=False)


def _charged(asked: Publication, guard: Guard, key: RequestKey, price: Plan) -> Entry:
    run, hospital, mechanism = asked.finished.run, asked.hospital, asked.mechanism
    if guard.policy is not None:
        guard.policy.admit_plugins(asked_plugins(run.desk().json()))
    guard.admit(_question(asked, price), None)
    owed = charges(mechanism, price, hospital)
    entry = guard.charge(key, price.description, owed, mechanism.budget, None)
    assert entry is not None
    return entry


def _question(asked: Publication, price: Plan) -> Asked:
    """What the policy is asked: one round with one task, and its noise and clip norms."""
    clips = [one.clip_norm for one in price.description.sums if one.clip_norm is not None]
    return Asked(
        purpose="train",
        hospital=asked.terms.ledger.hospital,
        mechanism=asked.mechanism.name,
        unit=asked.mechanism.unit.name,
        rounds=1,
        round=1,
        tasks=1,
        steps=max(1, asked.adaptation.steps),
        noise_multiplier=min(price.noise.values()),
        clip=max(clips),
        sampling_rate=asked.mechanism.sampling_rate,
    )


def _fitted(asked: Publication, price: Plan, guard: Guard) -> Fitted:
    owners = asked.mechanism.unit.owners(asked.hospital)
    session = asked.adaptation.session(price, owners, guard.noise)
    with one_thread():
        predictor = asked.adaptation.adapted(asked.support, session)
    assert isinstance(predictor, Fitted)
    return predictor
