"""What a privacy officer types: `metaward privacy ...`."""

import typer

from metaward.server.late import Late, late_group

PLACE = "metaward.server.office"
COMMANDS = {
    "plan": Late(
        f"{PLACE}.plan.command:plan",
        "Before a run: its noise, its epsilon, and whether it can work at all. Opens no "
        "data, but for --public.",
    ),
    "show": Late(
        f"{PLACE}.accounts.command:show",
        "Print what every hospital has spent and has left, at any delta.",
    ),
    "verify": Late(
        f"{PLACE}.accounts.command:verify",
        "Check chains, budgets and the server's marks; recompute epsilon by a second accountant.",
    ),
    "audit": Late(
        f"{PLACE}.audit.command:audit",
        "Attack the mechanism on made-up records; a lower bound on what it gives away, and checks.",
    ),
    "report": Late(
        f"{PLACE}.report.command:report",
        "Write privacy.json and privacy.html: what was promised, spent, checked and not covered.",
    ),
}

privacy = typer.Typer(
    cls=late_group(COMMANDS), help="What privacy costs, has cost, and whether it is so."
)
