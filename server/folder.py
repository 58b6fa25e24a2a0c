"""The result folder of a run: its files, and how a reader finds out how the run ended.

run.json            the run's own id, when it was started, by which code, simulated or not, and
                    the SHA-256 of its configuration, of the hospitals' records that are here, and
                    of each bundle of code that Flower shipped to the hospitals
config.json         the resolved configuration, every default filled in
metrics.jsonl       one line per round or evaluation, in order
checkpoints/        the last states (server.checkpoint)
baselines/fedavg/   the same for a baseline that is trained as well
theta.safetensors   the shared initialisation that is the result
body.safetensors    its body, from which another run can start (server.start)
start.safetensors   the body that this run started from, if it did
result.json         the final tables; report.md the same for people; curve.png, spent.png: pictures
report.html         what the run was, what it learned and how its rounds went, as one page
privacy.json        the privacy report; privacy.html the same for people
evaluations/        the run judged again in detail (server.evaluations)
audit.json          an audit of the mechanism, if one was made
status.json         running, finished, failed or interrupted, why, and since when
audit.jsonl         the server's own log: requests, replies, rejections, checkpoints (server.trail)
signed.jsonl        the hospitals' signed statements, if the configuration has keys (server.signed)
marks.jsonl         the last known entry of each hospital's ledger, by its replies
events/             event files for the programs of server.events
hospitals/          the ledgers of simulated hospitals, and what learners kept there
hospitals.log       what hospitals logged locally (simulation only)
flower.log          the output of Flower's processes, if the run failed
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from metaward.errors import InputError, RunError
from metaward.files import append_lines, replace_file, usable, write_synced
from metaward.options import ConfigError
from metaward.server.stored import Status, rows, stored
from metaward.server.trail import RunTrail
from metaward.sim import Sim, load_json
from metaward.strategies.marks import Marks, SeenMark

WRITTEN = (
    *("config.json", "metrics.jsonl", "checkpoints", "baselines", "theta.safetensors"),
    *("body.safetensors", "start.safetensors", "result.json", "report.md", "report.html"),
    *("curve.png", "spent.png", "sine.png", "privacy.json", "privacy.html", "status.json"),
    *("audit.json", "audit.jsonl"),
    *("marks.jsonl", "signed.jsonl", "events", "hospitals", "hospitals.log", "flower.log"),
)
"""What a run writes beside run.json, by which it claims the folder."""

_SEEN = TypeAdapter(SeenMark)


def now() -> str:
    """The present time, in the form that reports print."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def claimed(run: Sim, out: Path | None) -> Folder:
    """A new result folder: ``out``, or else one under ``server.out`` that is named after the run
    and the moment, with a number where that is taken. Raises what ``Folder.create`` raises."""
    if out is not None:
        Folder(out).create(run)
        return Folder(out)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    first = Path(run.server.out) / f"{run.name}-{stamp}"
    number = 1
    while True:
        folder = Folder(first if number == 1 else first.with_name(f"{first.name}-{number}"))
        try:
            folder.create(run)
        except FolderTakenError:
            number += 1
        else:
            return folder


class FolderTakenError(InputError, FileExistsError):
    """A result folder holds another run, or something else."""


class BusyError(RunError):
    """Another process is working in the folder."""


class Folder:
    """One run's result folder."""

    def __init__(self, path: Path) -> None:
        self.path = usable(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def id(self) -> str:
        """The run's id, made with the folder: a resumed run keeps it, a new run has another."""
        return str(self.about()["id"])

    def about(self) -> dict[str, Any]:
        """The content of run.json: ``id``, ``started``, and after ``begin`` also the rest."""
        return stored(self.path / "run.json")

    def note(self, more: dict[str, Any]) -> None:
        """Add to run.json."""
        self.write_json("run.json", self.about() | more)

    def begin(self, simulated: bool, code: str, bundle: str = "") -> None:
        """Write down that a process starts to work on the run, and the version of its code.

        ``bundle`` is the SHA-256 of the bundle that Flower ships to the hospitals; "": none.
        """
        about = self.about()
        codes = dict.fromkeys([*about.get("code", []), code])
        bundles = dict.fromkeys([*self.bundles, *([bundle] if bundle else [])])
        starts = about.get("starts", 0) + 1
        known = {"simulated": simulated, "starts": starts, "code": list(codes)}
        self.note(known | ({"bundles": list(bundles)} if bundles else {}))

    @property
    def bundles(self) -> tuple[str, ...]:
        """SHA-256 of every bundle of code that hospitals were sent; () where none is known."""
        return tuple(map(str, self.about().get("bundles", ())))

    @property
    def start(self) -> Path:
        """The run's own copy of the file that its body starts from (``server.start``)."""
        return self.path / "start.safetensors"

    @property
    def hospitals(self) -> Path:
        """The folder of simulated hospitals' ledgers and memories, with one for each learner."""
        return self.path / "hospitals"

    @property
    def hospital_log(self) -> Path:
        """The file of simulated hospitals' logs."""
        return self.path / "hospitals.log"

    def hospital_lines(self, last: int) -> list[str]:
        """The last lines of the hospitals' log in a simulation."""
        if not self.hospital_log.is_file():
            return []
        return self.hospital_log.read_text(encoding="utf-8").splitlines(keepends=True)[-last:]

    def baseline(self, name: str) -> Folder:
        """The folder of a baseline that the run trains as well."""
        return Folder(self.path / "baselines" / name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all other processes out of this folder; ``BusyError`` where one is in it."""
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise BusyError(f"{self.path}: another process is working on this run") from error

    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "config.json").is_file()

    def create(self, run: Sim) -> None:
        """Claim the folder and write the configuration; other files may lie in it.

        Of several processes that claim a folder at once, one gets it. ``FolderTakenError`` for the
        others, and where a run or a file of the same name as one of a run's is there;
        ``ConfigError`` where it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._require_free()
            about = {"id": secrets.token_hex(8), "started": now()}
            write_synced(self.path / "run.json", _as_json(about))
            if run.server.start is not None:
                replace_file(self.start, Path(run.server.start).expanduser().read_bytes())
            self.write_json("config.json", run.mapping())
        except FolderTakenError:
            raise
        except FileExistsError as error:
            raise self._taken() from error
        except OSError as error:
            with suppress(OSError):  # what was claimed is given back
                (self.path / "run.json").unlink()
            why = error.strerror or str(error)
            text = f"cannot be written ({why}); name another folder"
            raise ConfigError([text], str(self.path)) from error

    def _require_free(self) -> None:
        """``FolderTakenError`` where something would be written over."""
        there = [name for name in WRITTEN if (self.path / name).exists()]
        if there and not self.exists():
            raise FolderTakenError(
                f"{self.path} holds {', '.join(there)}, which the run would write over; name "
                "another folder"
            )

    def _taken(self) -> FolderTakenError:
        if not self.path.is_dir():
            return FolderTakenError(f"{self.path} is a file; name a folder for the result")
        return FolderTakenError(
            f"{self.path} already holds a run; name another folder, or go on with it: "
            f"metaward resume {self.path}"
        )

    def config(self) -> Sim:
        """The configuration this folder was made with."""
        path = self.path / "config.json"
        return load_json(path.read_bytes(), str(path))

    def set_status(self, status: Status, reason: str = "", at: str = "") -> None:
        """Write the status of the run since ``at`` (now, unless it is given), and the reason."""
        self.write_json("status.json", {"status": status, "reason": reason, "at": at or now()})

    def status(self) -> tuple[str, str]:
        """The status of the run, and the reason for it; ("absent", "") before its start."""
        last = self._status()
        return last["status"], last["reason"]

    def since(self) -> str | None:
        """The time of the last change of status; None where that was not written down."""
        return self._status().get("at")

    def _status(self) -> dict[str, Any]:
        if not (self.path / "status.json").is_file():
            return {"status": "absent", "reason": ""}
        return stored(self.path / "status.json")

    def result(self) -> dict[str, Any]:
        """The content of result.json; ``ConfigError`` where it is missing or damaged."""
        return stored(self.path / "result.json")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics.jsonl, without a last one that a crash cut short."""
        return rows(self.path / "metrics.jsonl")

    def rewind(self, round: int) -> None:
        """Drop the lines after ``round``: a resumed run will write them again."""
        self.path.mkdir(parents=True, exist_ok=True)
        kept = [json.dumps(row) + "\n" for row in self.rows() if row["round"] <= round]
        replace_file(self.path / "metrics.jsonl", "".join(kept).encode())

    def marks(self) -> Marks:
        """The marks of the hospitals' ledgers; new ones are added to the file at once."""
        path = self.path / "marks.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []

        def note(new: Sequence[SeenMark]) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(path, [json.dumps(asdict(one)) for one in new])

        return Marks([_mark(path, *one) for one in enumerate(lines, 1)], note)

    def trail(self) -> RunTrail:
        """The server's log, to which every process adds that works on the run."""
        return RunTrail(self.path, secret=self.config().privacy.unit.noise_at_server)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, completely or not at all."""
        replace_file(self.path / name, _as_json(value))


def _mark(path: Path, number: int, line: bytes) -> SeenMark:
    try:
        return _SEEN.validate_json(line, strict=True)
    except ValueError as error:
        text = f"is damaged: line {number} is no mark of a ledger; put a copy of the file back"
        raise ConfigError([text], str(path)) from error


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
