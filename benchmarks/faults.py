"""All faults of ``tests/faults/cells.py`` on real deployments, and what happened in each.

SuperLink, SuperNodes, server app, client apps and guards run on loopback, with TLS, node
authentication and differential privacy. After the faults the history of every run is checked
(``tests/faults``).

    PYTHONPATH=. python benchmarks/faults.py [--components "client app" SuperNode] [--out FILE]
                                             [--signal SIGSTOP]

It takes two hours. The file has a table for each component (and signal, where one is asked for),
and is written after each; it keeps what it says of others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaward.json_text import read_json
from tests.faults.cells import COMPONENTS, SIGNALS, matrix
from tests.faults.history import violations
from tests.faults.story import Lost, Story


def main() -> None:
    """Do the faults and write each component's table; status 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--components", nargs="+", choices=COMPONENTS, default=list(COMPONENTS))
    parser.add_argument("--signal", choices=SIGNALS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/faults.json"))
    parser.add_argument("--place", type=Path)
    options = parser.parse_args()
    tables = read_json(options.out.read_bytes()) if options.out.is_file() else {}
    place = options.place or Path(tempfile.mkdtemp())
    names = {
        f"{one}, {options.signal}" if options.signal else one: one for one in options.components
    }
    for name, component in names.items():
        tables[name] = played(component, options.signal, place / component.replace(" ", "-"))
        options.out.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
    found = [tables[name] for name in names]
    sys.exit(any(one["violations"] or any(f["lost"] for f in one["faults"]) for one in found))


def played(component: str, signal: str | None, place: Path) -> dict[str, Any]:
    """All faults of one component, or those by one signal, in a deployment of its own."""
    place.mkdir(parents=True)
    begun, story = time.monotonic(), Story(place)
    with suppress(Lost):  # the table says of which faults
        cells = [cell for cell in matrix() if cell.component == component]
        story.play([cell for cell in cells if signal in (None, cell.signal)])
    return table(story) | {"seconds": round(time.monotonic() - begun, 1)}


def table(story: Story) -> dict[str, Any]:
    """What happened in each case, and what is wrong with the history of the finished runs."""
    finished = [folder for folder in story.folders if folder.status()[0] == "finished"]
    found = [str(one) for f in finished for one in violations(f.path, story.ledgers(f))]
    return {
        "runs": len(story.folders),
        "finished": len(finished),
        "violations": found,
        "faults": [one.plain() for one in story.outcomes],
    }


if __name__ == "__main__":
    main()
