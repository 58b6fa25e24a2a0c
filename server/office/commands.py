"""What a privacy officer types: `metaward ledger ...` and `metaward privacy ...`."""

import typer

from metaward.server.office.accounts.command import ledger, show, verify
from metaward.server.office.audit.command import audit
from metaward.server.office.plan.command import plan
from metaward.server.office.report.command import report

privacy = typer.Typer(
    help="What privacy costs, has cost, and whether it is so.", no_args_is_help=True
)
for command in (plan, show, verify, audit, report):
    privacy.command()(command)

__all__ = ["ledger", "privacy"]
