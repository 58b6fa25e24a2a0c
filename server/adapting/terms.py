"""The terms of an adaptation whose model may be published: who is protected, how well, who pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaward.client.tasks.kinds import known_scores
from metaward.options import ConfigError, build, plain
from metaward.privacy import Sums
from metaward.privacy.ledger import Ledger
from metaward.privacy.policy import Policy
from metaward.sim import Sim

DELTA, UNIT, TRAIN = 1e-5, "record", ("head",)
"""What is taken where nothing is asked. The head alone: noise grows with the coordinates that are
trained, and one hospital's records are few for those of a whole network."""
NAMES = {"clip": "clip_norm"}
"""The options that do not have the name of the mechanism's own."""
NO_LEDGER = (
    "--private charges the hospital's ledger, and none is named; make one, once in the hospital's "
    "life: metaward ledger init LEDGER --hospital NAME"
)


@dataclass(frozen=True)
class Terms:
    """The ``mechanism`` that noises, the ``ledger`` that pays, and the ``policy`` that is asked;
    without one, no record may ever spend more than the mechanism's own epsilon."""

    mechanism: Sums
    ledger: Ledger
    policy: Policy | None


def terms_of(run: Sim, asked: Mapping[str, Any], ledger: Path | None, policy: Path | None) -> Terms:
    """The terms, checked before any record is read; ``asked`` has options of the command, None
    for those that nobody named.

    ``ConfigError`` names an option that is missing or refused; ``LedgerError`` and ``PolicyError``
    where a file cannot be used.
    """
    if ledger is None:
        raise ConfigError([NO_LEDGER], "--ledger")
    if asked.get("epsilon") is None:
        text = "--private needs the most that any record may spend on this model, such as 1"
        raise ConfigError([text], "--epsilon")
    mechanism = _mechanism(run, {NAMES.get(k, k): v for k, v in asked.items() if v is not None})
    opened = Policy.open(policy, known_scores()) if policy is not None else None
    return Terms(mechanism, Ledger.open(ledger), opened)


def _mechanism(run: Sim, asked: Mapping[str, Any]) -> Sums:
    """The run's own clip norms and split, where it has such, under the terms that are asked.

    Those were chosen without a look at this hospital's records, and a kind of sum is the same at
    a new hospital as it was in meta-training.
    """
    own = plain(run.privacy) if isinstance(run.privacy, Sums) else {}
    usual = {"unit": UNIT, "delta": DELTA, "train": list(TRAIN)}
    fixed = {"noise_multiplier": None, "sampling_rate": 1.0, "large_delta": False}
    faults: list[str] = []
    made: Sums | None = build(Sums, own | usual | fixed | dict(asked), "", faults)
    if made is None:
        key, _, text = faults[0].partition(": ")
        field = key.partition("[")[0]
        name = next((option for option, own in NAMES.items() if own == field), field)
        raise ConfigError([text], f"--{name.replace('_', '-')}")
    return made
