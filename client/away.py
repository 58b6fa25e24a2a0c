"""A simulated hospital that works on another machine than the one that keeps its files.

On a Ray cluster any machine answers for any hospital, from one round to the next. The files of a
simulated hospital, its ledger and what its learner remembers, stay with the run
(``server.engines.cluster.archive``): they are fetched before the hospital trains, and the answer is
released only when they are back there. So a charge is on the disk before its answer leaves, as on
one machine. A real hospital is never away: its node config names its own files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaward.client.errors import NodeError
from metaward.client.guard import NodeConfig, simulation_folder
from metaward.errors import MetawardError
from metaward.files import replace_file
from metaward.privacy.wire import Request

VARIABLE = "METAWARD_ARCHIVE"
"""The environment variable with the name of the run's archive; set on a cluster alone."""
NAME = "metaward-archive-{}"

Luggage = dict[str, bytes]
"""A hospital's files in one run by their names, which are relative to the run's folder."""


class ClashError(MetawardError):
    """A hospital's files changed at the run while the hospital worked on a copy of them."""


@contextmanager
def at_hand(request: Request, config: NodeConfig) -> Iterator[NodeConfig]:
    """The node config of a hospital that has its files at hand, here or in a folder of its own.

    Files that were changed are back at the run when the block ends, however it ends. ``ClashError``
    where another process did the same meanwhile; then the answer must not be released.
    """
    away = VARIABLE in os.environ and simulation_folder(config) and _trains(request)
    if not away:
        yield config
        return
    index, archive = int(str(config["partition-id"])), _archive()
    before = _asked(archive.fetch.remote(request.run, index))
    with tempfile.TemporaryDirectory(prefix="metaward-hospital-") as place:
        own = Path(place) / request.run
        unpack(before, own)
        try:
            yield {**config, "simulation": place}
        finally:
            _put_back(archive, request.run, index, before, packed(own))


def _put_back(archive: Any, run: str, index: int, before: Luggage, after: Luggage) -> None:
    if after != before and not _asked(archive.put.remote(run, index, digest(before), after)):
        raise ClashError(f"hospital {index}: another process worked on it in {run} meanwhile")


def _trains(request: Request) -> bool:
    """Whether the answer may need the hospital's files: they are read and changed in training."""
    return request.theta is not None and not request.episodes


def packed(folder: Path, *tops: Path) -> Luggage:
    """The files of a folder, or those of its entries ``tops`` alone; locks stay behind, and what is
    not there is left out."""
    found = [one for top in tops or (folder,) for one in (top, *top.rglob("*"))]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(found)
        if path.is_file() and path.suffix != ".lock"
    }


def unpack(luggage: Luggage, folder: Path) -> None:
    """Write the files, each completely or not at all, the ledger after all that it vouches for."""
    for name in sorted(luggage, key=lambda name: (name.endswith(".sqlite"), name)):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, luggage[name], 0o600)


def digest(luggage: Mapping[str, bytes]) -> str:
    """The SHA-256 of names and contents, in hex."""
    found = hashlib.sha256()
    for name, content in sorted(luggage.items()):
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def log_to_the_run(log: logging.Logger) -> None:
    """Send what a hospital logs to the run's own machine, where this one is another."""
    if VARIABLE in os.environ and not log.handlers and "METAWARD_HOSPITAL_LOG" not in os.environ:
        log.addHandler(_ToTheRun())
        log.propagate = False


class _ToTheRun(logging.Handler):
    """Lines for the hospitals' log of the result folder, each with the machine that it is from."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        import ray

        try:
            where = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
            _asked(_archive().note.remote(f"{self.format(record)} (on {where})"))
        except Exception:  # a log that cannot be written must not cost an answer
            self.handleError(record)


def _archive() -> Any:
    import ray  # here: a real hospital needs no Ray

    try:
        return ray.get_actor(NAME.format(os.environ[VARIABLE]))
    except ValueError as error:
        text = "the run's archive of hospitals is not there; a cluster's run starts with one"
        raise NodeError("ledger-missing", text) from error


def _asked(reference: Any) -> Any:
    import ray

    return ray.get(reference)
