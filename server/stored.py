"""JSON files that metaward wrote, read strictly: a damaged one is named, whatever is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from metaward.json_text import read_json
from metaward.options import ConfigError

Status = Literal["running", "finished", "failed", "interrupted"]
SHA256 = r"^[0-9a-f]{64}$"
Rows = Annotated[list[dict[str, Any]], Field(min_length=1)]


class StoredAbout(TypedDict):
    """What run.json must hold; other keys may be there."""

    id: str
    started: str
    simulated: NotRequired[bool]
    starts: NotRequired[int]
    code: NotRequired[list[str]]
    deployment: NotRequired[str]
    bundles: NotRequired[list[Annotated[str, Field(pattern=SHA256)]]]


class StoredStatus(TypedDict):
    """What status.json must hold."""

    status: Status
    reason: str
    at: NotRequired[str]


class StoredTable(TypedDict):
    """What a table of result.json must hold."""

    metric: str
    rows: Rows


class StoredResult(TypedDict):
    """What result.json must hold."""

    tables: Annotated[list[StoredTable], Field(min_length=1)]
    kept: Rows


Epsilon = float | Literal["unlimited"]


class StoredPoint(TypedDict):
    """What a point in the history of a hospital in privacy.json must hold."""

    round: int
    epsilon: Epsilon


class StoredSpend(TypedDict):
    """What a hospital in privacy.json must hold."""

    this_run: Epsilon
    history: list[StoredPoint]


class StoredPrivacy(TypedDict):
    """What is read of privacy.json; it holds much more."""

    hospitals: Annotated[list[StoredSpend], Field(min_length=1)]


FORMS: dict[str, TypeAdapter[Any]] = {
    "config.json": TypeAdapter(dict[str, Any]),
    "run.json": TypeAdapter(StoredAbout),
    "status.json": TypeAdapter(StoredStatus),
    "result.json": TypeAdapter(StoredResult),
    "privacy.json": TypeAdapter(StoredPrivacy),
    "plan.json": TypeAdapter(dict[str, Any]),
    "nodes.json": TypeAdapter(dict[str, str]),
}
"""The files that are read so: of a result folder, a sweep's plan, a consortium's node numbers."""
AGAIN = {
    "privacy.json": "put a copy back, or make it again: metaward privacy report",
    "plan.json": "put a copy back, or name another folder with --out",
    "nodes.json": "put a copy back, or remove it and register anew: metaward deploy register",
}
"""What to do where a file is damaged, if it is not that of a run."""
ANEW = "put a copy back, or start the run anew in another folder"


def stored(path: Path) -> dict[str, Any]:
    """The mapping in one of the files of ``FORMS``; ``ConfigError`` where it is missing, damaged,
    or lacks what it must hold."""
    try:
        found = read_json(path.read_bytes())
        FORMS[path.name].validate_python(found, strict=True)
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        text = f"is damaged ({why:.300}); {AGAIN.get(path.name, ANEW)}"
        raise ConfigError([text], str(path)) from error
    return dict(found)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file up to the first that is none: a crash may cut the last short."""
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        row = row_in(line)
        if row is None:
            return
        yield row


def row_in(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None where it is none, with the number of its round."""
    try:
        row = read_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("round")) is int else None
