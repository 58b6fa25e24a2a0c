"""The files of a sweep: its table for programs and people, its picture, and the best run."""

from __future__ import annotations

import json
from pathlib import Path

from metaward.files import replace_file
from metaward.json_text import plain_value
from metaward.server.sweeping.outcome import SweepOutcome
from metaward.server.sweeping.place import SweepPlace, as_yaml
from metaward.server.sweeping.text import markdown

BEST = "best.yaml"


def write_sweep(found: SweepOutcome, place: SweepPlace) -> None:
    """Write sweep.json, sweep.md, sweep.png and best.yaml."""
    from metaward.server.pictures.swept import draw_sweep  # here: matplotlib takes a second

    text = json.dumps(plain_value(found.plain()), indent=1) + "\n"
    replace_file(place.path / "sweep.json", text.encode())
    replace_file(place.path / "sweep.md", markdown(found, place.path / BEST).encode())
    if any(row.done for row in found.rows):
        draw_sweep(place.path / "sweep.png", found)
    if found.best is not None:
        replace_file(place.path / BEST, _best(found, place.path))


def _best(found: SweepOutcome, path: Path) -> bytes:
    """The best combination as a whole configuration; all that trials changed is as it was."""
    assert found.best is not None
    chosen = found.best.combination
    words = f"# Combination {chosen.number} of {len(found.rows)}, the best of a sweep.\n"
    return words.encode() + f"#   metaward run {path / BEST}\n".encode() + as_yaml(chosen.run)
