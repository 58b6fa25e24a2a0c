"""The keys that a sweep must not vary, because trials could then not be compared, with why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

COMPARED = "trials could not be compared; change it in the run's file"
ALONE = "a trial trains and judges its own learner alone, in one process"

FIXED = {
    "seed": "list the seeds of all trials in seeds",
    "client.tasks": COMPARED,
    "server.evaluation.final_episodes": COMPARED,
    "server.evaluation.score": COMPARED,
    "server.evaluation.judges": "the hospitals for validation judge every trial",
    "server.evaluation.baselines": ALONE,
    "server.evaluation.scratch_steps": ALONE,
    "server.engine": ALONE,
    "server.workers": ALONE,
    "server.out": "name the folder with --out",
    "data": "name the data folder in the run's file, or by METAWARD_DATA",
}
"""Keys and whole sections, and what to do instead."""

FREE = ("client.tasks.train_shots", "client.tasks.train_queries")
"""Keys of fixed sections that change nothing about the judging hospitals."""


def key_faults(keys: Iterable[str]) -> Iterator[str]:
    """A line for each key that a sweep must not vary."""
    for key in keys:
        fixed = next((one for one in FIXED if _within(key, one) or _within(one, key)), None)
        if fixed is None or key in FREE:
            continue
        if _within(key, fixed):
            free = f"; of client.tasks a sweep varies {' and '.join(FREE)}"
            yield f"{key}: a sweep must not vary it: {FIXED[fixed]}{free * ('tasks' in fixed)}"
        else:
            yield f"{key}: this whole section holds {fixed}, which a sweep must not vary; name keys"


def _within(key: str, section: str) -> bool:
    return f"{key}.".startswith(f"{section}.")
