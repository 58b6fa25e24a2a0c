"""How a simulated hospital is judged again: on tasks of another size, or another draw of them.

A finished run can be judged again in more detail (``server.evaluations``). The hospital stays the
one that the run knows, with the same records: a source that deals records by the size of a task
would otherwise make another hospital of it. Only the tasks that are drawn from its records change.
The machine that simulates the hospital says so in its node config, and no server can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital, TaskSource

SIZES = ("shots", "queries")
"""The options of a source that set the size of a judging hospital's tasks."""


@dataclass(frozen=True)
class Sitting:
    """``draw`` numbers the draws of tasks; 0 is the one of the run itself.

    ``shots`` and ``queries`` take the place of the source's own options; None leaves them.
    """

    draw: int = 0
    shots: int | None = None
    queries: int | None = None

    def config(self) -> dict[str, int]:
        """The keys of a node config that say it; ``of_config`` reads them."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"judged-{name}": value for name, value in given.items() if value is not None}

    def resized(
        self, hospital: Hospital, source: TaskSource, index: int, root: Path | None, seed: int
    ) -> Hospital:
        """The same records, from which tasks of this sitting's size are drawn.

        ``DataError`` where the source makes no tasks of this size, or the records do not allow one.
        """
        wanted = self.changes(source)
        if not wanted:
            return hospital
        try:
            other: TaskSource = replace(source, **wanted)  # type: ignore[type-var]
        except ValueError as error:  # the options do not go together
            raise DataError(f"hospital {hospital.seat.name}: {error}") from error
        return replace(hospital, draw=other.hospital(index, root, seed).draw)

    def changes(self, source: TaskSource) -> dict[str, Any]:
        """The source's options that this sitting changes; ``DataError`` where it has no such."""
        asked = {name: getattr(self, name) for name in SIZES if getattr(self, name) is not None}
        missing = [name for name in asked if not has_option(source, name)]
        if missing:
            raise DataError(f"the tasks of this source have no option {missing[0]}")
        return {name: value for name, value in asked.items() if value != getattr(source, name)}


THE_RUNS_OWN = Sitting()
"""Tasks as the run draws them."""


def has_option(part: object, name: str) -> bool:
    """Whether a part of a run has an option of this name."""
    return is_dataclass(part) and name in {field.name for field in fields(part)}


def of_config(config: Mapping[str, object]) -> Sitting:
    """The sitting that a simulated hospital's node config describes."""
    named = {field.name: config.get(f"judged-{field.name}") for field in fields(Sitting)}
    return Sitting(**{name: int(str(n)) for name, n in named.items() if n is not None})
