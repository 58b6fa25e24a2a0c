"""`metaward privacy plan`: what a run would cost, and whether it can work, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError
from metaward.server.arguments import Config, Json, Records, Set, Tasks
from metaward.server.office.plan import text
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.public import left_on_public, on_public
from metaward.server.office.plan.question import another_mechanism, question
from metaward.server.office.plan.rehearse import rehearse as rehearsed
from metaward.server.office.plan.rehearse import rehearsed_plan
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
    public: Annotated[
        Path | None,
        typer.Option(
            help="Measure clip norms on the tasks of this configuration, whose records are public "
            "or made up: they are opened.",
        ),
    ] = None,
    rehearse: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="With --public: carry the run out on these tasks as well, with so many seeds, "
            "with privacy and without. Takes minutes.",
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Before a run: its noise, its epsilon, and whether it can work at all. Opens no data, but for
    --public."""
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
    asked = question(run, hospitals, records, tasks, units)
    plan = advised(asked)
    if rehearse and public is None:
        raise ConfigError(["there is nothing to rehearse on; add --public FILE"], "--rehearse")
    if public is not None and plan.ratio is not None:
        tasks_of = sim.load(public)
        plan = replace(plan, public=left_on_public(plan, asked, tasks_of))
        if rehearse:
            plan = rehearsed_plan(plan, rehearsed(on_public(run, tasks_of), rehearse))
    answer(plan, text.planned(plan), as_json)
