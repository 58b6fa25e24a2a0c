"""A user's own score as an entry of the registry, and the trial that it has to pass."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import torch

from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import Score

RECORDS = 12


def as_score(name: str, thing: Any) -> Any:
    """The registry entry for a ``Score``, or for a function of outputs and labels, where higher is
    better and any number may come out. ``TypeError`` where it is neither."""
    if name == "loss":
        raise ValueError("loss is the name of the training loss in a policy; choose another name")
    if isinstance(thing, Score):
        return replace(thing, name=name)
    if not callable(thing) or isinstance(thing, type):
        raise TypeError(f"{name}: give a function of outputs and labels, not {thing!r:.80}")
    return Score(name, name, thing, higher_is_better=True)


def try_out(score: Score, spec: TaskSpec) -> None:
    """``ValueError`` if it gives no number in its range for made-up records of such tasks."""
    labels = torch.from_numpy(spec.kind.random(spec, RECORDS, np.random.default_rng(0)))
    certain = spec.kind.certain(spec, labels)
    noise = torch.randn(certain.shape, generator=torch.Generator().manual_seed(0))
    for outputs in (certain, noise):
        try:
            value = float(score.measure(outputs, labels))
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise ValueError(f"{score.name} fails on made-up records: {reason}") from error
        if not (isfinite(value) and score.lowest <= value <= score.highest):
            raise ValueError(
                f"{score.name} gives {value:g} for made-up records; it must give a finite number "
                f"from {score.lowest:g} to {score.highest:g}, which are its lowest and highest"
            )
