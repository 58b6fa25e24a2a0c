"""How a report's numbers were counted, and the second account of the worst hospital."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from math import inf

from metaward.privacy.accounting import METHODS, second_epsilon
from metaward.privacy.report.sections import Accounting, CrossCheck, Library
from metaward.server.office.report.dossier import Dossier
from metaward.server.office.report.hospital import Account

LIBRARIES = ("metaward", "scipy", "dp-accounting", "numpy")
ENFORCED = "Budgets are enforced, and the chart is drawn, by a Renyi filter, which counts more."
UPPER = "upper bound from the run's settings and the rounds that the server saw: it holds no ledger"


def accounting(dossier: Dossier, accounts: Sequence[Account]) -> Accounting:
    """How epsilon was counted, and the worst hospital's account done again by another method."""
    exact = all(spent.reported(dossier.delta).error == "exact" for _, spent in accounts)
    return Accounting(
        method=_method(dossier, exact),
        libraries=tuple(Library(name, version(name)) for name in LIBRARIES),
        error="exact" if exact else "never below the truth",
        adaptive=dossier.run.privacy.sampling_rate == 1,
        cross_check=_cross_check(dossier, accounts),
    )


def _method(dossier: Dossier, exact: bool) -> str:
    if dossier.protected is None:
        return "none: there is nothing to count"
    if dossier.run.privacy.sampling_rate < 1:
        return f"{METHODS['pld']}. {ENFORCED}"
    return METHODS["gdp"] if exact else f"{METHODS['gdp']}; {UPPER}"


def _cross_check(dossier: Dossier, accounts: Sequence[Account]) -> CrossCheck | None:
    """None where no hospital has spent a finite epsilon above 0, or none has events."""
    section, spent = max(accounts, key=lambda account: account[0].spent.epsilon)
    reported, events = section.spent.epsilon, spent.worst(dossier.delta)
    if not (events and 0 < reported < inf):
        return None
    second = second_epsilon(events, dossier.delta)
    return CrossCheck.of(METHODS["pld"], section.name, reported, second)
