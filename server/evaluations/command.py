"""`metaward evaluate`: a finished run judged again, in more detail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from metaward.options import ConfigError
from metaward.server.arguments import Json, Set
from metaward.server.evaluations.evaluate import (
    JOBS,
    as_json,
    checked,
    evaluated,
    free_place,
    nearest,
)
from metaward.server.evaluations.exam import EPISODES, JudgingRole, exam_of
from metaward.server.evaluations.finished import open_finished
from metaward.server.evaluations.report import (
    DIFFERENCES,
    LEARNERS,
    Evaluated,
    gap_cells,
    learner_cells,
    legend,
    own_shots,
)
from metaward.server.evaluations.tables import SizeTable
from metaward.server.folder import Folder
from metaward.server.progress import progress
from metaward.server.terminal import FAINT, Piece, line, say, table
from metaward.server.words import several


def evaluate(
    result: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    episodes: Annotated[int, typer.Option(help="Episodes at all hospitals together.")] = EPISODES,
    shots: Annotated[
        str | None, typer.Option(help="Support records of each class, such as 1 5 10 20.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Adaptation steps, such as 0 5 20; 0: none.")
    ] = None,
    queries: Annotated[int | None, typer.Option(help="Query records of each class.")] = None,
    hospitals: Annotated[
        JudgingRole, typer.Option(help="Which hospitals judge; those that trained never do.")
    ] = "unseen",
    baselines: Annotated[
        str | None, typer.Option(help="Baselines, such as scratch,fedavg; all if not named.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else one under RESULT/evaluations.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that share the hospitals.")] = JOBS,
    seed: Annotated[
        int, typer.Option(help="Which episodes: 0 begins with those of the run's final table.")
    ] = 0,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Judge the finished run in RESULT in detail: more episodes, shots, steps and baselines."""
    finished = open_finished(result)
    exam = exam_of(
        finished,
        role=hospitals,
        episodes=episodes,
        shots=_numbers(shots, "--shots"),
        steps=_numbers(steps, "--steps"),
        queries=queries,
        baselines=None if baselines is None else [b for b in baselines.split(",") if b],
        seed=seed,
        settings=set_ or (),
    )
    place = out or free_place(result, exam)
    fits = checked(exam, place, jobs)
    with progress(Folder(place), quiet=json_) as observe:
        made = evaluated(finished, exam, fits, place, jobs, observe)
    print(as_json(made), end="") if json_ else say(*_shown(made, place))


def _numbers(text: str | None, option: str) -> list[int] | None:
    """The whole numbers of a list such as "1,5"; ``ConfigError`` for anything else."""
    if text is None:
        return None
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not word.isdigit()]
    if wrong or not words:
        fault = f"{(wrong or [text])[0]!r} is no whole number; write {option} 1 5 10"
        raise ConfigError([fault], option)
    return [int(word) for word in words]


def _shown(made: Evaluated, place: Path) -> Iterator[Piece]:
    """A table over all sizes, then the whole table at the run's own size, or the nearest one."""
    run, scores = made.exam.run, dict.fromkeys(t.score for t in made.tables)
    shots = nearest(own_shots(run), made.sized.shots)
    steps = nearest(run.client.inner.adapt_steps, made.exam.steps)
    for score in scores:
        of_score = [one for one in made.tables if one.score == score]
        across = [one for one in of_score if one.steps == steps]
        along = [one for one in of_score if one.shots == shots]
        yield _overview(across, "shots", f"after {several(steps, 'step')}")
        yield _overview(along, "steps", f"with {several(shots, 'shot')}")
        yield from _whole(next(t for t in of_score if (t.shots, t.steps) == (shots, steps)))
    yield from (line(text.removeprefix("- "), FAINT) for text in legend(made))
    yield from (line(text) for text in made.lines)
    each, count = made.exam.each, len(made.exam.hospitals)
    yield line(f"{each} episodes at each of {count} {made.exam.role} hospitals; all in {place}")


def _overview(tables: Sequence[SizeTable], by: str, title: str) -> Piece:
    """Every learner's score after adaptation, for each number of shots or of steps (``by``)."""
    score, learners = tables[0].score, [one.learner for one in tables[0].learners]
    rows = []
    for learner in learners:
        found = [next((r for r in t.learners if r.learner == learner), None) for t in tables]
        rows.append([learner, *("" if one is None else score.text(one.after) for one in found)])
    sizes = [several(getattr(t, by), by.removesuffix("s")) for t in tables]
    return table(["learner", *sizes], rows, title=f"{score.label}, {title}", right=sizes)


def _whole(one: SizeTable) -> Iterator[Piece]:
    title = f"{one.score.label}: {one.size}"
    rows = (learner_cells(row, one.score) for row in one.learners)
    yield table(LEARNERS, rows, title=title, right=LEARNERS[1:])
    if one.differences:
        gaps = (gap_cells(row, one.score) for row in one.differences)
        yield table(DIFFERENCES, gaps, right=DIFFERENCES[1:])
