"""Where the default run's time goes, by the rooms of this program.

The run has one worker, so that everything happens in one thread, of which another one writes down
the stack a hundred times a second. A moment belongs to the first room of ``ROOMS`` that has a
function on the stack: what a learner asks of the ledger is the ledger's.

    python benchmarks/profiled.py [CONFIG] [--out benchmarks/results/profiled.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

HERE = Path(__file__).parent.parent / "metaward"
EVERY = 0.01
"""Seconds between two looks."""

ROOMS = {
    "privacy report": ("server/office/report/", "server/page/", "server/pictures/"),
    "ledgers": ("privacy/ledger/", "client/guard.py"),
    "prices of requests": ("client/charging.py",),
    "dealing records into tasks": ("client/schedule.py",),
    "making and reading records": ("client/tasks/",),
    "features of the fixed front": ("client/prepared.py",),
    "evaluation": ("client/judging.py",),
    "inner loops and private sums": ("client/inner/",),
    "messages and checks at hospitals": ("client/", "privacy/"),
    "the server's rounds": ("server/run.py", "strategies/"),
}
STARTING = "start-up"
"""Imports, checks of the configuration, and the rest."""


class Watch(threading.Thread):
    """Counts the rooms in which another thread is found."""

    def __init__(self, thread: int) -> None:
        super().__init__(daemon=True)
        self.thread, self.found, self.over = thread, Counter[str](), threading.Event()

    def run(self) -> None:
        """Look until ``over``."""
        while not self.over.wait(EVERY):
            self.found[room(files(sys._current_frames()[self.thread]))] += 1


def files(frame: FrameType | None) -> Iterator[str]:
    """Our files that have a function on the stack, relative to the package."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(f"{HERE}/"):
            yield path.removeprefix(f"{HERE}/")
        frame = frame.f_back


def room(stack: Iterator[str]) -> str:
    """The first room with a function on the stack."""
    on = set(stack)
    for name, places in ROOMS.items():
        if any(file.startswith(places) for file in on):
            return name
    return STARTING


def watched(config: Path) -> dict[str, Any]:
    """Run the configuration in this thread under a watch."""
    watch, begun = Watch(threading.get_ident()), time.perf_counter()
    watch.start()
    from metaward.server.running import run  # what it imports is part of the start

    with tempfile.TemporaryDirectory() as home:
        run(config, None, ["server.workers=1"], Path(home) / "run", as_json=True)
    seconds = time.perf_counter() - begun
    watch.over.set()
    looks = watch.found.total()
    shares = {name: round(n / looks, 4) for name, n in watch.found.most_common()}
    return {"seconds": round(seconds, 1), "looks": looks, "shares": shares}


def main() -> None:
    """Watch a run, print and write the shares."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=HERE / "sim.yaml")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/profiled.json"))
    options = parser.parse_args()
    found = {"torch": torch.__version__, "python": platform.python_version()}
    result = found | watched(options.config)
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
