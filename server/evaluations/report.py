"""An evaluation for its readers: evaluation.json for programs, evaluation.md for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metaward.client.tasks.kinds import Score
from metaward.options import compact
from metaward.server.baselines import claim
from metaward.server.checkpoint import digest
from metaward.server.evaluations.exam import Exam
from metaward.server.evaluations.finished import Finished
from metaward.server.evaluations.sizes import Sized, sizes_of
from metaward.server.evaluations.statistics import Interval, PairedTest
from metaward.server.evaluations.tables import Difference, Reached, SizeTable
from metaward.server.words import several

FORMAT = "metaward evaluation 1"


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A finished run judged in detail: what was asked, what was left out, and the tables.

    ``failed`` names learners that gave no scores somewhere.
    """

    finished: Finished
    exam: Exam
    sized: Sized
    failed: tuple[str, ...]
    tables: tuple[SizeTable, ...]

    @property
    def comparisons(self) -> int:
        """Between how many p-values Holm's correction is shared."""
        return sum(len(table.differences) for table in self.tables)

    @property
    def lines(self) -> list[str]:
        """What a reader must know besides the numbers: what was left out, and why."""
        queries = sizes_of(self.exam, 1)[1]
        left_out = [
            f"{several(shots, 'shot')} {'is' if shots == 1 else 'are'} left out: {why}; a task "
            f"takes {shots} + {queries}"
            for shots, why in self.sized.left_out.items()
        ]
        return [*left_out, *self.sized.notes, *dict.fromkeys(self.failed)]

    def plain(self) -> dict[str, Any]:
        """Everything as plain data, equal for equal questions to the same result."""
        return {
            "format": FORMAT,
            "run": self._about(),
            "asked": self._asked(),
            "left_out": self.lines,
            "comparisons": self.comparisons,
            "tables": [_plain(table) for table in self.tables],
        }

    def _about(self) -> dict[str, Any]:
        run = self.finished.run
        sha = digest(compact(run.mapping()).encode())
        identity = {"id": self.finished.folder.id, "config_sha256": sha, "privacy": claim(run)}
        return {"name": run.name, "seed": run.seed, **identity}

    def _asked(self) -> dict[str, Any]:
        exam, own = self.exam, self.finished.run
        return {
            "hospitals": {"role": exam.role, "names": exam.hospitals},
            "episodes": {"each": exam.each, "in_all": exam.episodes},
            "shots": self.sized.shots,
            "steps": exam.steps,
            "queries": sizes_of(exam, 1)[1],
            "own": {"shots": own_shots(own), "steps": own.client.inner.adapt_steps},
            "baselines": exam.baselines,
            "seed": exam.draw,
            "set": exam.settings,
        }


def own_shots(run: Any) -> int:
    """The shots of the run's own tasks."""
    return int(vars(run.client.tasks)["shots"])


def _plain(table: SizeTable) -> dict[str, Any]:
    return {
        "metric": table.score.name,
        "shots": table.shots,
        "steps": table.steps,
        "learners": [asdict(one) for one in table.learners],
        "differences": [asdict(one) for one in table.differences],
    }


# ---------------------------------------------------------------------------- for people


def markdown(evaluated: Evaluated) -> str:
    """The whole evaluation as a page, with the meaning of its columns."""
    lines = [*_head(evaluated), *(line for t in evaluated.tables for line in _section(t))]
    return "\n".join([*lines, "## How to read it", "", *legend(evaluated)]) + "\n"


def _head(evaluated: Evaluated) -> Iterator[str]:
    run, exam = evaluated.finished.run, evaluated.exam
    yield from (f"# {run.name}, judged in detail", "", f"**{claim(run)}**", "")
    yield (
        f"{len(exam.hospitals)} {exam.role} hospitals, {exam.each} episodes each, {exam.episodes} "
        f"in all for each number of shots; {sizes_of(exam, 1)[1]} queries; seed of the run "
        f"{run.seed}, of the episodes {exam.draw}."
    )
    yield from ("", *(f"- {line}" for line in evaluated.lines), "", "![](evaluation.png)", "")


def _section(table: SizeTable) -> Iterator[str]:
    score = table.score
    yield from (f"## {score.label}: {table.size}", "")
    yield from _grid(LEARNERS, (learner_cells(one, score) for one in table.learners))
    if table.differences:
        yield from _grid(DIFFERENCES, (gap_cells(one, score) for one in table.differences))
    yield from _grid(["hospital", *(one.learner for one in table.learners)], _hospitals(table))


LEARNERS = (
    *("learner", "steps", "before", "after", "95 %, episodes", "95 %, hospitals"),
    *("worst hospital", "worst tenth"),
)
DIFFERENCES = ("ahead of", "by", "95 %, episodes", "95 %, hospitals", "p", "p, Holm", "test")


def learner_cells(one: Reached, score: Score) -> list[str]:
    """One learner as text, under ``LEARNERS``."""
    tenth = one.worst_tenth
    return [
        one.learner,
        str(one.steps),
        score.text(one.before),
        score.text(one.after),
        _interval(one.episodes, score.text),
        _interval(one.hospitals, score.text),
        f"{score.text(one.worst)} ({one.worst_hospital})",
        f"{score.text(tenth.value)} ({tenth.count} {tenth.of})",
    ]


def gap_cells(one: Difference, score: Score) -> list[str]:
    """One difference as text, under ``DIFFERENCES``."""
    return [
        one.baseline,
        score.signed(one.better),
        _interval(one.episodes, score.signed),
        _interval(one.hospitals, score.signed),
        *p_cells(one.test),
    ]


def p_cells(test: PairedTest) -> list[str]:
    """A test as text: p, p after the correction, and what was tested."""
    corrected = "" if test.corrected is None else f"{test.corrected:.2g}"
    return [f"{test.p:.2g}", corrected, f"{test.name}, {test.over}"]


def _hospitals(table: SizeTable) -> Iterator[list[str]]:
    """A row for each hospital: every learner's mean after adaptation, with its interval."""
    text = table.score.text
    for name in table.learners[0].by_hospital:
        found = [one.by_hospital[name] for one in table.learners]
        yield [name, *(f"{text(at.after)} {_interval(at.episodes, text)}" for at in found)]


def _interval(interval: Interval | None, text: Any) -> str:
    return f"[{text(interval.low)}, {text(interval.high)}]" if interval else "one hospital"


def _grid(head: Sequence[str], rows: Any) -> list[str]:
    lines = ["| " + " | ".join(line) + " |" for line in (list(head), *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:], ""]


def legend(evaluated: Evaluated) -> tuple[str, ...]:
    """What the columns mean."""
    return (
        "- before, after: query score of theta as it arrives, and after `steps` adaptation steps "
        "on the support set; the mean over hospitals of their means over episodes.",
        "- 95 %, episodes: the interval over episodes, these hospitals taken as fixed. "
        "95 %, hospitals: a t-interval over the hospitals' means, for another hospital like these.",
        "- worst tenth: the mean over the worst tenth of the hospitals, or of all episodes where "
        "there are fewer than ten hospitals.",
        "- ahead of: how much better the run's own learner is on the same episodes.",
        "- p: two-sided, that there is no difference: a t-test over hospitals, Wilcoxon's test "
        "where there are enough of them, a t-test over episodes where there is one. p, Holm: "
        f"corrected for all {evaluated.comparisons} comparisons of this evaluation.",
        "- Every query record is predicted from the support set and itself alone "
        "(non-transductive). No epsilon covers the data of hospitals that judge.",
    )
