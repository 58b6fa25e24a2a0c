"""One result folder as a side of a comparison, read from its files alone.

No configuration is built from them, so that runs with plug-ins that are not registered here, or of
another version, can be compared as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaward.options import ConfigError
from metaward.server.folder import Folder
from metaward.server.stored import stored


@dataclass(frozen=True)
class Side:
    """One run: ``name`` tells it from the others, ``config`` is its configuration, key by key.

    ``table`` is the final table of the main score, None where the run is not finished. ``curve``
    are the evaluated rounds of its own learner, ``seconds`` what its training took, ``spent`` the
    most epsilon that any hospital's unit paid for it ("unlimited" without privacy), None where no
    privacy report says it.
    """

    name: str
    status: str
    simulated: bool
    code: str
    config: Mapping[str, Any]
    table: Mapping[str, Any] | None
    curve: tuple[Mapping[str, Any], ...]
    rounds: int
    kept: int | None
    seconds: float
    spent: float | str | None

    @property
    def first(self) -> Mapping[str, Any]:
        """The row of the run's own learner; the run must be finished."""
        assert self.table is not None
        row: Mapping[str, Any] = self.table["rows"][0]
        return row


def side(path: Path, name: str) -> Side:
    """The run in a folder; ``ConfigError`` where there is none, or a file is damaged."""
    folder = Folder(path)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    status, about = folder.status()[0], folder.about()
    result = folder.result() if status == "finished" else None
    rows = [row for row in folder.rows() if "round" in row]
    return Side(
        name=name,
        status=status,
        simulated=bool(about.get("simulated")),
        code=", ".join(about.get("code", [])),
        config=flat(stored(path / "config.json")),
        table=result["tables"][0] if result else None,
        curve=tuple(row for row in rows if "after" in row),
        rounds=max((row["round"] for row in rows), default=0),
        kept=result["kept"][0]["round"] if result else None,
        seconds=sum(row.get("seconds", 0.0) for row in rows),
        spent=_spent(path / "privacy.json"),
    )


def flat(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``section.key`` -> value of nested mappings; a list is one value."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def _spent(path: Path) -> float | str | None:
    if not path.is_file():
        return None
    spent = [one["this_run"] for one in stored(path)["hospitals"]]
    unlimited = [one for one in spent if isinstance(one, str)]
    return unlimited[0] if unlimited else max(spent, default=None)
