"""`metaward privacy plan`: what a run would cost, and whether it can work, before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError
from metaward.server.arguments import Config, Json, Records, Set, Tasks
from metaward.server.office.plan import text
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.question import another_mechanism, question
from metaward.server.terminal import answer

NO_UNITS = (
    "missing: under unit {unit} the signal is that of the {plural}, however many records each has; "
    "give --units N, those of the smallest training hospital (`metaward tasks show` counts records "
    "and patients where the data lies)"
)


def plan(
    config: Config = sim.DEFAULT,
    set_: Set = None,
    epsilon: Annotated[float | None, typer.Option(help="Replace privacy.epsilon.")] = None,
    delta: Annotated[float | None, typer.Option(help="Replace privacy.delta.")] = None,
    records: Records = None,
    tasks: Tasks = None,
    hospitals: Annotated[
        int | None, typer.Option(min=1, help="Plan for this many training hospitals.")
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="State how many units (patients) own the records.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Before a run: its noise, its epsilon, and whether it can work at all. Opens no data."""
    run = sim.load(config, set_ or [])
    budget = {k: v for k, v in {"epsilon": epsilon, "delta": delta}.items() if v is not None}
    if budget:
        if not run.privacy.unit.protected:
            missing = f"mechanism none has no budget; {another_mechanism()}"
            raise ConfigError([missing], f"--{next(iter(budget))}")
        run = sim.load(config, [*(set_ or []), *(f"privacy.{k}={v!r}" for k, v in budget.items())])
    unit = run.privacy.unit
    if unit.cap is not None and units is None:
        missing = NO_UNITS.format(unit=unit.name, plural=unit.plural.lower())
        raise ConfigError([missing], "--units")
    plan = advised(question(run, hospitals, records, tasks, units))
    answer(plan, text.planned(plan), as_json)
