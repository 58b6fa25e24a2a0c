"""What a finished run is asked: at which hospitals, on how many tasks, of which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from typing import Literal, get_args

from metaward import sim
from metaward.client.sitting import has_option
from metaward.options import ConfigError
from metaward.server.baselines import BASELINES
from metaward.server.evaluations.finished import Finished
from metaward.sim import Sim
from metaward.yaml_text import override

JudgingRole = Literal["unseen", "validation"]
SHOTS, STEPS, EPISODES = (1, 5, 10, 20), (0, 5, 20), 600
"""What is asked where the user names nothing; the run's own shots and steps are added."""

FREE = (
    *("client.inner.", "server.evaluation.scratch_steps", "server.evaluation.fine_tune."),
    *("server.evaluation.score", "server.evaluation.metrics"),
    *("server.device", "server.inner", "server.chunk", "data.root"),
)
"""Keys that can be set for an evaluation: how learners adapt, and what depends on the machine."""


@dataclass(frozen=True)
class Exam:
    """What is asked.

    ``run`` is the configuration, with the keys set that ``settings`` name. ``hospitals`` are asked,
    ``each`` of them for that many episodes at each number of ``shots``; learners adapt in each
    number of ``steps``. ``queries`` None: as the run's tasks have. ``draw`` numbers the draws of
    episodes; 0 begins with those of the run's final table.
    """

    run: Sim
    role: JudgingRole
    hospitals: tuple[str, ...]
    each: int
    shots: tuple[int, ...]
    steps: tuple[int, ...]
    queries: int | None
    baselines: tuple[str, ...]
    draw: int
    settings: tuple[str, ...]

    @property
    def episodes(self) -> int:
        """Episodes at all hospitals together, for one number of shots."""
        return self.each * len(self.hospitals)

    def at(self, steps: int) -> Sim:
        """The run with this number of adaptation steps at the judging hospitals."""
        if steps == self.run.client.inner.adapt_steps:
            return self.run
        return _set(self.run, [f"client.inner.adapt_steps={steps}"], "--steps")


def exam_of(
    finished: Finished,
    *,
    role: JudgingRole = "unseen",
    episodes: int = EPISODES,
    shots: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    queries: int | None = None,
    baselines: Sequence[str] | None = None,
    seed: int = 0,
    settings: Sequence[str] = (),
) -> Exam:
    """The exam that these wishes describe; ``ConfigError`` for one that cannot be held."""
    run, hospitals = _settled(finished.run, settings), _hospitals(finished.run, role)
    for name, value, least in (("episodes", episodes, 1), ("seed", seed, 0)):
        _require(name, [value], least)
    _require("queries", [queries] if queries is not None else [], 1)
    counts = _steps(run, steps)
    exam = Exam(
        run=run,
        role=role,
        hospitals=hospitals,
        each=ceil(episodes / len(hospitals)),
        shots=_shots(run, shots),
        steps=counts,
        queries=queries,
        baselines=_baselines(finished, baselines),
        draw=seed,
        settings=tuple(settings),
    )
    for count in counts:
        exam.at(count or run.client.inner.adapt_steps)  # refuses what the learner does not take
    return exam


def _settled(run: Sim, settings: Sequence[str]) -> Sim:
    """The run with these keys set; ``ConfigError`` for one that would change what is judged."""
    for text in settings:
        key = text.partition("=")[0]
        if "=" in text and (not key.startswith(FREE) or key == "client.inner.algorithm"):
            raise ConfigError(
                [
                    f"{key} belongs to what the run has learned, and from whom; an evaluation can "
                    f"set {', '.join(f'{one}*' if one.endswith('.') else one for one in FREE)}"
                ],
                "--set",
            )
    return _set(run, settings, "--set")


def _set(run: Sim, settings: Sequence[str], source: str) -> Sim:
    mapping = run.mapping()
    for text in settings:
        override(mapping, text)
    return sim.parse(mapping, source)


def _hospitals(run: Sim, role: JudgingRole) -> tuple[str, ...]:
    """The hospitals of this role, which the run did not train on; ``ConfigError`` for none."""
    found = tuple(seat.name for seat in run.client.tasks.roster() if seat.role == role)
    if role not in get_args(JudgingRole) or not found:
        have = {seat.role for seat in run.client.tasks.roster() if seat.judges}
        text = f"{role!r} is refused; the run's judging hospitals are {', '.join(sorted(have))}"
        raise ConfigError([text], "--hospitals")
    return found


def _shots(run: Sim, wanted: Sequence[int] | None) -> tuple[int, ...]:
    if not has_option(run.client.tasks, "shots"):
        raise ConfigError(["this source's tasks have no option shots to change"], "--shots")
    own = int(vars(run.client.tasks)["shots"])
    return _require("shots", [*SHOTS, own] if wanted is None else wanted, 1)


def _steps(run: Sim, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Step counts; only 0 and its own where the learner has no option for them."""
    learner = run.client.inner
    own, free = learner.adapt_steps, has_option(learner, "adapt_steps")
    if wanted is None:
        return _require("steps", [*STEPS, own] if free else [0, own], 0)
    if not free and not set(wanted) <= {0, own}:
        text = f"this learner has no option adapt_steps; it can be judged after 0 and {own} steps"
        raise ConfigError([text], "--steps")
    return _require("steps", wanted, 0)


def _require(name: str, values: Sequence[int], least: int) -> tuple[int, ...]:
    """The different values, sorted; ``ConfigError`` for one below ``least``."""
    low = [value for value in values if value < least]
    if low:
        raise ConfigError([f"{low[0]} is refused: allowed is {least} or more"], f"--{name}")
    return tuple(sorted(set(values)))


def _baselines(finished: Finished, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """All that can be judged, or the named ones; ``ConfigError`` for one that cannot."""
    if wanted is None:
        return tuple(finished.baselines())
    for name in wanted:
        fault = finished.fault(name) if name in BASELINES else f"is unknown{_near(name)}"
        if fault:
            choices = ", ".join(finished.baselines())
            raise ConfigError([f"{name!r} {fault}; choose from {choices}"], "--baselines")
    return tuple(dict.fromkeys(wanted))


def _near(name: str) -> str:
    close = get_close_matches(name, BASELINES, n=1)
    return f", did you mean {close[0]}?" if close else ""
