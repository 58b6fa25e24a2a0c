"""What a person sees while a run goes on: bars on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display

from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.server.terminal import tell

SILENCE_SECONDS = 10.0
"""A plain line is printed for a row this long after the last one, whatever the row says."""
PATIENCE_SECONDS = 30.0
"""A plain line says that work goes on where the last one is this old, and no row has come."""


@contextmanager
def progress(folder: Folder, quiet: bool) -> Iterator[Observer]:
    """An observer that shows each phase with round, loss and score on standard error; ``quiet``
    shows nothing. Lines hold no control characters."""
    console = Console(stderr=True)
    if quiet:
        yield lambda row: None
        return
    tell(f"results in {folder.path}")
    if not console.is_terminal:
        lines = Lines(tell)
        with lines.at_work():
            yield lines
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Display(*columns, console=console) as bars:
        yield Bars(bars)


class PhaseNotes:
    """What is last known of each phase of a run, from rows of metrics.jsonl."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, str]] = {}

    def text(self, row: Mapping[str, Any]) -> str:
        """The notes of the row's phase, this row included."""
        note = self.notes.setdefault(row["phase"], {})
        if row.get("loss") is not None:
            note["loss"] = f"loss {row['loss']:.3f}"
        if "after" in row:
            note["score"] = f"unseen {row['before']:.3f} -> {row['after']:.3f}"
        if row.get("validation"):
            chosen = f" (best: round {row['best']})" if "best" in row else ""
            note["validation"] = f"validation {row['validation']['after']:.3f}{chosen}"
        if row.get("rejected"):
            note["rejected"] = f"{len(row['rejected'])} rejected"
        if "learner" in row:
            note["learner"] = row["learner"]
        return ", ".join(note.values())


class Bars:
    """Turns rows of metrics.jsonl into progress bars."""

    def __init__(self, bars: Display) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}
        self.notes = PhaseNotes()
        self.waiting = bars.add_task("at work", total=None, note="on the first round")

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show one row."""
        phase = row["phase"]
        self.bars.update(self.waiting, visible=False)
        if phase not in self.tasks:
            self.tasks[phase] = self.bars.add_task(phase, total=row.get("of"), note="")
        note = self.notes.text(row)
        self.bars.update(self.tasks[phase], completed=row.get("round"), note=note)


class Lines:
    """Turns rows of metrics.jsonl into lines: one for each evaluated round and each learner of the
    final table, and for any other row where the last line is ``SILENCE_SECONDS`` old.

    Within ``at_work`` a line says that work goes on where the last one is ``patience`` seconds old.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.write, self.clock, self.patience = write, clock, patience
        self.notes, self.begun, self.last = PhaseNotes(), clock(), clock()
        self.place = "no round is done yet"
        self.lock = Lock()

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show one row, or keep it for the next line of its phase."""
        note = self.notes.text(row)
        place = f"{row['phase']}: {row['round']} of {row['of']}"
        tells = "after" in row or row.get("validation") or "learner" in row
        with self.lock:
            self.place = f"{place} done"
            if tells or self.clock() - self.last >= SILENCE_SECONDS:
                self._say(f"{place}, {note}" if note else place)

    def remind(self) -> None:
        """Say how far the work is, where nothing has been said for too long."""
        with self.lock:
            if self.clock() - self.last >= self.patience:
                self._say(f"at work for {span(self.clock() - self.begun)}; {self.place}")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Say that the work begins, and from then on that it goes on."""
        self.write(f"at work; a line follows at least every {self.patience:g} seconds")
        over = Event()
        thread = Thread(target=self._remind_until, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _remind_until(self, over: Event) -> None:
        while not over.wait(max(self.patience - (self.clock() - self.last), self.patience / 100)):
            self.remind()

    def _say(self, text: str) -> None:
        self.write(text)
        self.last = self.clock()


def span(seconds: float) -> str:
    """A length of time in whole seconds, or in minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
