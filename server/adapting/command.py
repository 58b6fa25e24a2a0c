"""`metaward adapt` and `metaward predict`: a new hospital uses what a federation learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from metaward.options import ConfigError
from metaward.server.adapting.adapt import AdaptedRun, Wish, adapt_run
from metaward.server.adapting.predict import (
    predictions,
    require_new_file,
    write_predictions,
)
from metaward.server.adapting.promise import budget_words
from metaward.server.adapting.report import AGAIN, STAYS, cells, gap_cells, legend, plain_report
from metaward.server.adapting.saved import MODEL
from metaward.server.adapting.terms import Terms, terms_of
from metaward.server.adapting.write import free_place, write_adapted
from metaward.server.arguments import Json
from metaward.server.evaluations.evaluate import require_free
from metaward.server.evaluations.finished import Finished, open_learned
from metaward.server.evaluations.report import own_shots
from metaward.server.terminal import FAINT, GOOD, Piece, answer, line, table
from metaward.sim import Sim

Data = Annotated[Path, typer.Option("--data", help="The hospital's own folder of records.")]
ALL = "all"
PANEL = "With --private"


def _term(text: str) -> Any:
    """An option of a private adaptation."""
    return typer.Option(help=text, rich_help_panel=PANEL)


Private = Annotated[
    bool, typer.Option("--private", help="Add noise, so that the model may be published.")
]
LedgerFile = Annotated[Path | None, _term("The hospital's ledger, which is charged.")]
PolicyFile = Annotated[Path | None, _term("The hospital's policy, which is asked.")]
Epsilon = Annotated[float | None, _term("The most that the model costs any unit.")]
Delta = Annotated[float | None, _term("The delta of epsilon; else 1e-5.")]
Protected = Annotated[str | None, _term("The unit: record or patient; else record.")]
Clip = Annotated[float | None, _term("Clip norm of gradients; else the run's.")]
ClipFeatures = Annotated[float | None, _term("Clip norm of features; else by theta, or the run's.")]
Train = Annotated[
    list[str] | None, _term("What gradients train: body, norm, head; can be repeated; else head.")
]


def adapt(
    result: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: Data,
    shots: Annotated[
        str | None,
        typer.Option(help="Records of each class to adapt to, or all; else the run's."),
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
    private: Private = False,
    epsilon: Epsilon = None,
    ledger: LedgerFile = None,
    policy: PolicyFile = None,
    unit: Protected = None,
    delta: Delta = None,
    clip: Clip = None,
    clip_features: ClipFeatures = None,
    train: Train = None,
    json_: Json = False,
) -> None:
    """Adapt the finished run RESULT to a new hospital's labelled records. Nothing is sent."""
    finished = open_learned(result)
    asked: dict[str, Any] = {"epsilon": epsilon, "delta": delta, "unit": unit, "clip": clip}
    asked |= {"clip_features": clip_features, "train": train or None}
    terms = _terms(private, finished, asked, ledger, policy)
    wish = Wish(
        _shots(shots or (ALL if private else None), finished.run),
        finished.run.client.inner.adapt_steps if steps is None else steps,
        draws,
        seed,
        specificity,
    )
    place = out or free_place(data)
    require_free(place)
    made = adapt_run(finished, data, wish, terms)
    absent = write_adapted(made, place)
    answer(plain_report(made, absent), list(_shown(made, absent, place)), json_)


def _terms(
    private: bool,
    finished: Finished,
    asked: dict[str, Any],
    ledger: Path | None,
    policy: Path | None,
) -> Terms | None:
    """The terms of a private adaptation; ``ConfigError`` where such are given for another one."""
    if private:
        return terms_of(finished, asked, ledger, policy)
    given = asked | {"ledger": ledger, "policy": policy}
    for name, value in given.items():
        if value is not None:
            text = "is for a model that may be published; add --private, or leave it out"
            raise ConfigError([text], f"--{name.replace('_', '-')}")
    return None


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
    if made.pledge is None:
        yield line(f"nothing was sent; the model and its report are in {place}")
        return
    yield line(made.pledge.claim, GOOD)
    yield line(budget_words(made.pledge) + (f" {AGAIN}" if made.pledge.again else ""))
    yield line(f"{place / MODEL} may be published. {STAYS}")
