"""The registry of scores, and which of them a run asks its judging hospitals for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from torch import Tensor

from metaward.client.scores.own import as_score, try_out
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, KINDS, REGRESSION, Score, TaskKind
from metaward.options import Registry, nearest
from metaward.plugins import PluginError, Plugins

SPECIFICITY = 0.9
"""The specificity at which a run gives the sensitivity."""


@dataclass(frozen=True)
class Later:
    """A function of ``classes``, imported when it is used: scikit-learn takes seconds."""

    name: str

    def __call__(self, outputs: Tensor, y: Tensor) -> float:
        """The score of one task."""
        function = getattr(import_module("metaward.client.scores.classes"), self.name)
        return float(function(outputs, y))


def absolute_error(outputs: Tensor, targets: Tensor) -> float:
    """The mean distance over all records and targets."""
    return float((outputs - targets).abs().mean())


def root_of_squares(outputs: Tensor, targets: Tensor) -> float:
    """The root of the mean squared error over all records and targets, in the targets' unit."""
    return float((outputs - targets).square().mean().sqrt())


def _of_classes(name: str, label: str, function: str = "", **form: Any) -> Score:
    kinds = (CLASSIFICATION.name,)
    return Score(name, label, Later(function or name), **{**SHARE, **form}, kinds=kinds)


def _of_targets(name: str, label: str, measure: Callable[[Tensor, Tensor], float]) -> Score:
    return Score(name, label, measure, False, 0, kinds=(REGRESSION.name,))


SHARE: dict[str, Any] = {"higher_is_better": True, "lowest": 0, "highest": 1}
PERCENT: dict[str, Any] = {"scale": 100, "digits": 1}

METRICS: dict[str, Score] = {
    score.name: score
    for score in (
        *CLASSIFICATION.scores,
        _of_classes("balanced_accuracy", "balanced accuracy, %", **PERCENT),
        _of_classes("auroc", "AUROC"),
        _of_classes("f1", "F1, mean over the classes"),
        _of_classes("mcc", "Matthews correlation", lowest=-1),
        _of_classes("sensitivity", f"sensitivity at specificity {SPECIFICITY:g}, %", **PERCENT),
        _of_classes("ece", "ECE, 10 bins", "expected_calibration_error", higher_is_better=False),
        _of_classes("brier", "Brier score", higher_is_better=False, highest=2),
        *REGRESSION.scores,
        _of_targets("mae", "mean absolute error", absolute_error),
        _of_targets("rmse", "root mean squared error", root_of_squares),
    )
}

METRIC = Registry("metric", METRICS, Plugins("metaward.metrics", as_score))


def known_scores() -> frozenset[str]:
    """The names of all scores: of the kinds of task, of ``METRICS``, and of plug-ins, none of which
    is imported for it."""
    own = METRIC.plugins.names() if METRIC.plugins else []
    return frozenset([*(n for kind in KINDS.values() for n in kind.score_names), *METRICS, *own])


def score_called(name: str, kind: TaskKind | None = None) -> Score | None:
    """The score of this name, the one of this kind of task (None: any) first; None for none.

    ``PluginError`` where a package offers it and it cannot be used.
    """
    kinds = [kind] if kind else list(KINDS.values())
    own = {score.name: score for one in kinds for score in one.scores}
    found: Score | None = own.get(name) or METRIC.find(name)  # type: ignore[assignment]
    return found


def asked_metrics(names: Sequence[str]) -> list[str]:
    """``metric:name`` of those that do not come with metaward or a kind of task."""
    own = {*METRICS, *(name for kind in KINDS.values() for name in kind.score_names)}
    return [f"{METRIC.by}:{name}" for name in names if name not in own]


def scored(spec: TaskSpec, main: str | None, further: Sequence[str]) -> TaskSpec:
    """The same tasks with ``main`` as the first score, the kind's own, and ``further`` ones.

    ``ValueError``, with the way out, for a score that is unknown or does not suit such tasks.
    """
    names = dict.fromkeys([*([main] if main else []), *spec.kind.score_names, *further])
    scores = tuple(_found(spec, name) for name in names)
    return (
        spec
        if scores == spec.kind.scores
        else replace(spec, kind=replace(spec.kind, scores=scores))
    )


def faults(spec: TaskSpec, main: str | None, further: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``first_score`` or ``further_scores``, and what is wrong with what it names."""
    asked = {"first_score": [main] if main else [], "further_scores": list(further)}
    for key, names in asked.items():
        for name in names:
            try:
                score = _found(spec, name)
                if score not in METRICS.values() and score not in spec.kind.scores:
                    try_out(score, spec)
            except ValueError as error:
                yield key, f": {error}"
    twice = sorted({name for name in further if list(further).count(name) > 1})
    if twice:
        yield "further_scores", f": {', '.join(twice)} stands twice"


def _found(spec: TaskSpec, name: str) -> Score:
    try:
        score = score_called(name, spec.kind)
    except PluginError as error:
        raise ValueError(f"{name}: {error}") from error
    if score is None:
        known = _suitable(spec.kind)
        choice = nearest(name, known, f"choose from {', '.join(known)}")
        raise ValueError(f"unknown {name!r}; {choice}")
    own = score in spec.kind.scores
    if not own and score.kinds and spec.kind.name not in score.kinds:
        raise ValueError(
            f"{name} is a score of {' and '.join(score.kinds)}, and these tasks are of kind "
            f"{spec.kind.name}; choose from {', '.join(_suitable(spec.kind))}"
        )
    return score


def _suitable(kind: TaskKind) -> list[str]:
    fitting = [s.name for s in METRICS.values() if not s.kinds or kind.name in s.kinds]
    own = METRIC.plugins.names() if METRIC.plugins else []
    return list(dict.fromkeys([*kind.score_names, *fitting, *own]))
