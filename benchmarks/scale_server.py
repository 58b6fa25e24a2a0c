"""The server's own side with many hospitals: combining, checking, writing down.

Replies are noise of the default run's length of theta, made in this process, so that no hospital's
work is in any figure. Each part runs in a fresh process; seconds are those of the processor, and
memory is the peak of the process beyond what it had before.

    python benchmarks/scale_server.py [--hospitals 10000] [--dim 17103] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metaward import sim
from metaward.privacy import Mark, Release
from metaward.privacy.wire import Request, encode_answer, encode_request
from metaward.server.folder import Folder
from metaward.strategies import COMBINE
from metaward.strategies.notes import noted
from metaward.yaml_text import override

RULES = {"krum": {"faulty": 100}, "geometric_median": {"iterations": 10}}
Part = Callable[[int, int], Any]


def updates(hospitals: int, dim: int) -> Any:
    """Noise around one direction, (hospitals, dim) float32."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((hospitals, dim), dtype=np.float32) + np.float32(0.1)


def spent(work: Callable[[], object]) -> dict[str, float]:
    """Seconds and the growth of the peak memory of one piece of work."""
    before, peak = time.process_time(), _peak()
    work()
    grown = _peak() - peak
    return {"cpu_s": round(time.process_time() - before, 2), "more_mb": round(grown / 1e3, 1)}


def _peak() -> int:
    """Peak resident memory in kB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rule(name: str) -> Part:
    """A combining rule, once."""

    def part(hospitals: int, dim: int) -> Any:
        given, made = updates(hospitals, dim), COMBINE[name](**RULES.get(name, {}))
        return spent(lambda: made(given))

    return part


def written(hospitals: int, dim: int) -> Any:
    """What a round writes: the marks of all ledgers, and the server's log of all replies."""
    with tempfile.TemporaryDirectory() as home:
        folder, run = Folder(Path(home) / "run"), configuration(hospitals)
        folder.create(run)
        names, given = [f"hospital-{k}" for k in range(hospitals)], updates(hospitals, 100)
        marks, trail = folder.marks(), folder.trail()

        def round_(number: int) -> None:
            mark = [Mark(f"{k:016x}", number, f"{k:064x}") for k in range(hospitals)]
            sent = [
                Release(n, number, u, None, m) for n, u, m in zip(names, given, mark, strict=True)
            ]
            assert not marks.set_back(sent, "run")
            assert all(marks.last(name) for name in names)
            noted(trail, "run", number, sent, {})

        rounds = [spent(partial(round_, number)) for number in (1, 2, 3)]
        return {"rounds": rounds, "again": spent(folder.marks), **_sizes(folder)}


def _sizes(folder: Folder) -> Mapping[str, float]:
    files = ("marks.jsonl", "audit.jsonl")
    return {f"{name}_mb": (folder.path / name).stat().st_size / 1e6 for name in files}


def messages(hospitals: int, dim: int) -> Any:
    """Bytes of a request and of an answer without theta, and what all requests of a round cost."""
    run, theta = configuration(hospitals), updates(1, dim)[0]
    request = Request(1, run.desk().json(), theta)
    answer = encode_answer(Release("hospital-1", 1, theta))
    return {
        "request_records_bytes": sum(
            len(one.deflate()) for one in encode_request(request).values()
        ),
        "answer_records_bytes": sum(len(one.deflate()) for one in answer.values()),
        "theta_bytes": theta.nbytes,
        "all_requests": spent(lambda: [encode_request(request) for _ in range(hospitals)]),
    }


def configuration(hospitals: int) -> sim.Sim:
    """The default run with so many hospitals."""
    mapping = sim.load(sim.DEFAULT).mapping()
    override(mapping, f"client.tasks.hospitals={hospitals}")
    return sim.parse(mapping)


PARTS: dict[str, Part] = {**{name: rule(name) for name in COMBINE}, "written": written}
PARTS["messages"] = messages


def main() -> None:
    """Each part in a process of its own; what is there already is kept."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hospitals", type=int, default=10_000)
    options.add_argument("--dim", type=int, default=17_103)
    options.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part](chosen.hospitals, chosen.dim)))
        return
    found: dict[str, Any] = {"hospitals": chosen.hospitals, "dim": chosen.dim}
    for name in PARTS:
        size = ["--hospitals", str(chosen.hospitals), "--dim", str(chosen.dim)]
        command = [sys.executable, __file__, "--part", name, *size]
        found[name] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
        print(name, json.dumps(found[name]), flush=True)
        if chosen.out:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
