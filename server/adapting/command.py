"""`metaward adapt` and `metaward predict`: a new hospital uses what a federation learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from metaward.options import ConfigError
from metaward.server.adapting.adapt import AdaptedRun, Wish, adapt_run
from metaward.server.adapting.predict import (
    predictions,
    require_new_file,
    write_predictions,
)
from metaward.server.adapting.report import cells, gap_cells, legend, plain_report
from metaward.server.adapting.write import free_place, write_adapted
from metaward.server.arguments import Json
from metaward.server.evaluations.evaluate import require_free
from metaward.server.evaluations.finished import open_learned
from metaward.server.evaluations.report import own_shots
from metaward.server.terminal import FAINT, Piece, answer, line, table
from metaward.sim import Sim

Data = Annotated[Path, typer.Option("--data", help="The hospital's own folder of records.")]
ALL = "all"


def adapt(
    result: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: Data,
    shots: Annotated[
        str | None, typer.Option(help="Records of each class to adapt to, or all; else the run's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Adaptation steps; else the run's.")] = None,
    draws: Annotated[int, typer.Option(help="Random splits of the records to judge by.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="A new folder; else one under ./adapted.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which splits.")] = 0,
    specificity: Annotated[
        float, typer.Option(help="The specificity at which the sensitivity is given.")
    ] = 0.9,
    json_: Json = False,
) -> None:
    """Adapt the finished run RESULT to a new hospital's labelled records. Nothing is sent."""
    finished = open_learned(result)
    count = finished.run.client.inner.adapt_steps if steps is None else steps
    wish = Wish(_shots(shots, finished.run), count, draws, seed, specificity)
    place = out or free_place(data)
    require_free(place)
    made = adapt_run(finished, data, wish)
    absent = write_adapted(made, place)
    answer(plain_report(made, absent), list(_shown(made, absent, place)), json_)


def predict(
    model: Annotated[Path, typer.Argument(help="A folder that metaward adapt wrote.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The new file.")] = Path("predictions.csv"),
    json_: Json = False,
) -> None:
    """Predict the class of every record with an adapted MODEL; labels need not be there."""
    require_new_file(out)
    found = predictions(model, data)
    write_predictions(out, found)
    rows = list(found.rows())
    counts = {name: sum(row["predicted"] == name for row in rows) for name in found.classes}
    shown = table(["predicted", "records"], [*counts.items()], right=["records"])
    answer(rows, [shown, line(f"{len(rows)} records; each one's probabilities in {out}")], json_)


def _shots(text: str | None, run: Sim) -> int | None:
    """The number; None for all. Without a wish the run's own."""
    if text is None:
        return own_shots(run)
    if text == ALL:
        return None
    if not text.isdigit():
        raise ConfigError([f"{text!r} is refused: a whole number from 1 on, or all"], "--shots")
    return int(text)


def _shown(made: AdaptedRun, absent: dict[str, str], place: Path) -> Iterator[Piece]:
    labels = [score.label for score in made.scores]
    rows, best = made.verdict.rows, made.verdict.rows[0].name
    yield table(["", *labels], [cells(row, made.scores) for row in rows], right=labels)
    title = f"By how much {best} is better, in the same splits"
    gaps = [gap_cells(row, made.scores) for row in rows[1:]]
    yield table(["than", *labels], gaps, title=title, right=labels)
    yield from (line(text, FAINT) for text in legend(made))
    yield from (line(f"{name} is not there: {why}") for name, why in absent.items())
    yield line(f"nothing was sent; the model and its report are in {place}")
