"""The parts of a privacy report that are about the whole run: its facts, account and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from metaward.options import ConfigError, compact
from metaward.privacy.accounting import METHODS, second_epsilon
from metaward.privacy.report import words
from metaward.privacy.report.hospitals import TrainingHospital
from metaward.privacy.report.sections import (
    Accounting,
    Audit,
    CrossCheck,
    Evidence,
    Gap,
    Guarantee,
    Library,
)
from metaward.server.checkpoint import digest
from metaward.server.office.report.case import Case
from metaward.server.office.report.spent import Spent
from metaward.server.office.report.touches import beside
from metaward.sim import Sim

LIBRARIES = ("metaward", "scipy", "dp-accounting", "numpy")
ENFORCED = "Budgets are enforced, and the chart is drawn, by a Renyi filter, which counts more."
UPPER = "upper bound from the run's settings and the rounds that the server saw: it holds no ledger"


def guarantee(case: Case) -> Guarantee:
    """What the run promises."""
    return words.guarantee(case.run.privacy.unit, case.delta)


def accounting(case: Case, found: Sequence[tuple[TrainingHospital, Spent]]) -> Accounting:
    """How epsilon was counted, and the worst hospital's account done again by another method."""
    return Accounting(
        method=_method(case, found),
        libraries=tuple(Library(name, version(name)) for name in LIBRARIES),
        error=_error(found),
        adaptive=case.run.privacy.sampling_rate == 1,
        cross_check=_cross_check(case, found),
    )


def _method(case: Case, found: Sequence[tuple[TrainingHospital, Spent]]) -> str:
    if case.protected is None:
        return "none: there is nothing to count"
    drawn = case.run.privacy.sampling_rate < 1
    method = METHODS["pld" if drawn else "gdp"]
    if any(account.error == "never below the truth" for _, account in found) and not drawn:
        method = f"{method}; {UPPER}"
    return f"{method}. {ENFORCED}" if drawn else method


def _error(
    found: Sequence[tuple[TrainingHospital, Spent]],
) -> Literal["exact", "never below the truth"]:
    exact = all(account.error == "exact" for _, account in found)
    return "exact" if exact else "never below the truth"


def _cross_check(case: Case, found: Sequence[tuple[TrainingHospital, Spent]]) -> CrossCheck | None:
    """None where no hospital has spent a finite epsilon above 0, or none has events."""
    worst = max(found, key=lambda pair: pair[0].spent.epsilon)
    reported, events = worst[0].spent.epsilon, worst[1].events
    if not (events and 0 < reported < inf):
        return None
    second = second_epsilon(events, case.delta)
    return CrossCheck.of(METHODS["pld"], worst[0].name, reported, second)


def evidence(run: Sim, code: str, audit: Path | None) -> Evidence:
    """The configuration's fingerprint is that of result.json."""
    sha256 = digest(compact(run.mapping()).encode())
    return Evidence(_audit(audit), sha256, code[:200])


def _audit(path: Path | None) -> Audit | None:
    """What `metaward privacy audit` has left in the folder; ``ConfigError`` where it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        return TypeAdapter(Audit).validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, ValueError) as error:
        text = f"is not an audit ({error}); remove it, or make it anew: metaward privacy audit"
        raise ConfigError([text], str(path)) from error


def gaps(case: Case) -> tuple[Gap, ...]:
    """What no report keeps silent about, and what this run did besides."""
    return (*words.NOT_COVERED, *beside(case.run))
