"""The terms of an adaptation whose model may be published: who is protected, how well, who pays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaward.client.inner.base import FAR
from metaward.client.scores import known_scores
from metaward.options import ConfigError, build
from metaward.privacy import Sums
from metaward.privacy.ledger import Ledger
from metaward.privacy.policy import Policy
from metaward.server.evaluations.finished import Finished

DELTA, UNIT, TRAIN = 1e-5, "record", ("head",)
"""What is taken where nothing is asked. The head alone: noise grows with the coordinates that are
trained, and one hospital's records are few for those of a whole network."""
NAMES = {"clip": "clip_norm"}
"""The options that do not have the name of the mechanism's own."""
SPLIT = {"support": 0.1, "features": 1.0, "centre": 0.1}
"""How the budget is divided between gradients, class features and their centre; by phantoms."""
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


def terms_of(
    finished: Finished, asked: Mapping[str, Any], ledger: Path | None, policy: Path | None
) -> Terms:
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
    named = {NAMES.get(key, key): value for key, value in asked.items() if value is not None}
    mechanism = mechanism_of(finished, named)
    opened = Policy.open(policy, known_scores()) if policy is not None else None
    return Terms(mechanism, Ledger.open(ledger), opened)


def mechanism_of(finished: Finished, asked: Mapping[str, Any]) -> Sums:
    """The mechanism under the terms that are asked; nothing of it was chosen by a look at this
    hospital's records.

    Clip norms are those that theta tells the learner, else the run's own, else the usual one.
    """
    faults: list[str] = []
    usual = {"unit": UNIT, "delta": DELTA, "train": list(TRAIN), "split": SPLIT}
    made: Sums | None = build(Sums, usual | _clips(finished, asked) | dict(asked), "", faults)
    if made is None:
        raise _as_option(faults, asked)
    return made


def _as_option(faults: Sequence[str], asked: Mapping[str, Any]) -> ConfigError:
    """The first fault of an option that was asked for; other clip norms may follow from it."""
    named = {re.split(r"[^a-z_]", fault)[0]: fault for fault in reversed(faults)}
    field = next(name for name in (*asked, *named) if name in named)
    option = next((option for option, own in NAMES.items() if own == field), field)
    text = named[field].partition(": ")[2]
    return ConfigError([text], f"--{option.replace('_', '-')}")


def _clips(finished: Finished, asked: Mapping[str, Any]) -> dict[str, float]:
    """The clip norms of all kinds of sums, as options; those that are asked for come on top."""
    run = finished.run
    setting = run.setting()
    known = run.client.inner.usual_clips(setting, torch.from_numpy(finished.theta))
    own = run.privacy if isinstance(run.privacy, Sums) else Sums()
    features = asked.get("clip_features", known.get("features", own.clip_of("features")))
    centre = FAR * features if "clip_features" in asked else known.get("centre", FAR * features)
    return {"clip_norm": own.clip_norm, "clip_features": features, "clip_centre": centre}
