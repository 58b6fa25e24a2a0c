"""Judging a finished run in detail, from the question to the files; nothing is overwritten."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metaward.files import writable, write_synced
from metaward.json_text import plain_value
from metaward.options import ConfigError
from metaward.server.evaluations.exam import Exam
from metaward.server.evaluations.examine import examine
from metaward.server.evaluations.finished import Finished
from metaward.server.evaluations.report import Evaluated, markdown, own_shots
from metaward.server.evaluations.sizes import Sized, sized
from metaward.server.evaluations.tables import tables_of
from metaward.server.folder import FolderTakenError
from metaward.server.run import Observer
from metaward.server.start import check_machine

JOBS = 2
"""Processes that share the hospitals where the user names no number."""


def checked(exam: Exam, place: Path, jobs: int) -> Sized:
    """What the hospitals' records allow, before anything is judged.

    ``ConfigError`` where no number of shots is possible, or this machine lacks something;
    ``FolderTakenError`` where ``place`` is no new or empty folder.
    """
    if jobs < 1:
        raise ConfigError([f"{jobs} is refused: allowed is 1 or more"], "--jobs")
    check_machine(exam.run)
    require_free(place)
    fits = sized(exam)
    if not fits.shots:
        reasons = [f"{shots} is refused: {why}" for shots, why in fits.left_out.items()]
        raise ConfigError(reasons, "--shots")
    return fits


def evaluated(
    finished: Finished, exam: Exam, fits: Sized, place: Path, jobs: int, observe: Observer
) -> Evaluated:
    """Judge the run and write evaluation.json, evaluation.md and the pictures into ``place``, which
    holds everything or nothing afterwards. ``fits`` is what ``checked`` found.

    ``QuorumError`` where a hospital gives no scores for the run's own learner.
    """
    with new_folder(place) as folder:
        cells, failed = examine(finished, exam, fits.shots, jobs, observe, folder)
        scores = exam.run.spec().kind.scores
        made = Evaluated(finished, exam, fits, tuple(failed), tables_of(scores, cells))
        (folder / "hospitals.log").unlink(missing_ok=True)
        _write(made, folder)
    return made


def as_json(made: Evaluated) -> str:
    """The text of evaluation.json."""
    return json.dumps(plain_value(made.plain()), indent=1) + "\n"


def _write(made: Evaluated, folder: Path) -> None:
    from metaward.server.pictures.shots import draw_shots  # here: matplotlib takes a second

    write_synced(folder / "evaluation.json", as_json(made).encode())
    write_synced(folder / "evaluation.md", markdown(made).encode())
    run, first = made.exam.run, made.tables[0].score
    shots = nearest(own_shots(run), made.sized.shots)
    steps = nearest(run.client.inner.adapt_steps, made.exam.steps)
    for score in run.spec().kind.scores:
        name = "evaluation.png" if score == first else f"evaluation-{score.name}.png"
        draw_shots(folder / name, [t for t in made.tables if t.score == score], shots, steps)


def nearest(value: int, choices: Sequence[int]) -> int:
    """The choice that is nearest to the value; the lower one of two."""
    return min(choices, key=lambda choice: (abs(choice - value), choice))


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder that becomes ``place`` when everything is written, and vanishes otherwise;
    ``ConfigError`` where it cannot be made."""
    folder = place.with_name(f".writing-{place.name}-{secrets.token_hex(4)}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        text = f"cannot be written ({error.strerror or error}); name another folder"
        raise ConfigError([text], str(place)) from error
    try:
        yield folder
        require_free(place)
        folder.replace(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_free(place: Path) -> None:
    """``FolderTakenError`` where something is there already, ``InputError`` where no folder can
    be."""
    if writable(place).exists() and (not place.is_dir() or any(place.iterdir())):
        raise FolderTakenError(f"{place} is not an empty folder; name a new one")


def free_place(result: Path, exam: Exam) -> Path:
    """A name under RESULT/evaluations that nothing has yet."""
    name = f"{exam.role}-seed-{exam.draw}"
    first, number = result / "evaluations" / name, 1
    while True:
        place = first if number == 1 else first.with_name(f"{name}-{number}")
        if not place.exists():
            return place
        number += 1
