"""The command ``metaward doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaward.errors import FAILED
from metaward.server.arguments import Json
from metaward.server.deploy.doctor.examine import examine
from metaward.server.deploy.doctor.finding import Finding
from metaward.server.terminal import BAD, GOOD, WARN, answer, line

STYLES = {"good": GOOD, "doubtful": WARN, "wrong": BAD}


def doctor(
    folder: Annotated[
        Path, typer.Argument(help="Folder of settings, or an unpacked parcel.", metavar="DIR")
    ] = Path("/etc/metaward"),
    as_json: Json = False,
) -> None:
    """Check a hospital's or a server's machine before a run, and say what to do."""
    findings = examine(folder.expanduser().resolve())
    lines = [line(text, STYLES[one.verdict]) for one in findings for text in told(one)]
    answer(findings, lines, as_json)
    if any(one.verdict == "wrong" for one in findings):
        raise typer.Exit(FAILED)


def told(finding: Finding) -> list[str]:
    """A finding on a line, and what to do on the next."""
    remedy = [f"          {finding.remedy}"] if finding.remedy else []
    return [f"{finding.verdict:9} {finding.subject}: {finding.text}", *remedy]
