"""What to change in a plan, each change planned anew; and what a reader of the plan must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from metaward.client.tasks.base import FewShot
from metaward.options import ConfigError
from metaward.privacy.mechanisms.base import Protected
from metaward.server.office.plan.plan import Planned, Suggestion, body_counts, planned
from metaward.server.office.plan.question import Question, another_mechanism, question
from metaward.sim import Sim, parse
from metaward.yaml_text import override

HELPS = 1.01
"""A change that raises the ratio by less than this factor is not worth suggesting."""

EPSILONS = (1.0, 3.0, 8.0)
"""Steps in which a larger epsilon is suggested; above the last one it promises little."""


@dataclass(frozen=True)
class Change:
    """One change: of ``settings`` (``section.key=value``), and of the ``numbers`` that a question
    adds to them, by their names: hospitals, records, units."""

    words: str
    settings: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def typed(self) -> str:
        """The options that make this change."""
        options = [f"--set '{text}'" for text in self.settings]
        return " ".join([*options, *(f"--{name} {n}" for name, n in self.numbers.items())])


LESS_TRAINED = Change(
    "train (and noise) only normalisation and head; the body then stays as it was drawn",
    ("privacy.train=[norm, head]",),
)


def advised(asked: Question) -> Planned:
    """The plan with its notes, and all changes that would raise the ratio, the best first."""
    plan = planned(asked)
    if plan.ratio is None:
        return replace(plan, notes=(NONE.format(choose=another_mechanism()),))
    better = sorted(suggestions(asked, plan.ratio), key=lambda s: -s.ratio)
    return replace(plan, notes=tuple(notes(asked, plan)), suggestions=tuple(better))


def suggestions(asked: Question, ratio: float) -> Iterator[Suggestion]:
    """Each change alone; then all of them together, where none alone is enough.

    Not training the body is suggested alone only, because its outlook is doubtful at best.
    """
    single = list(changes(asked))
    helps = [s for change in single for s in helpful(asked, change, HELPS * ratio)]
    if "body" in asked.run.privacy.trained:
        yield from helpful(asked, LESS_TRAINED, HELPS * ratio)
    yield from helps
    if len(helps) > 1 and all(s.verdict != "can work" for s in helps):
        yield from helpful(asked, _together(single), max(s.ratio for s in helps))


def helpful(asked: Question, change: Change, above: float) -> Iterator[Suggestion]:
    """What the change leads to, where it is allowed and the ratio is then larger than ``above``."""
    try:
        plan = planned(changed(asked, change))
    except ConfigError:
        return
    if plan.ratio is not None and plan.ratio > above:
        yield Suggestion(change.words, change.typed, plan.ratio, plan.verdict)


def changes(asked: Question) -> Iterator[Change]:
    """What may be changed, in the order in which it usually helps."""
    run = asked.run
    yield from _larger_tasks(run)
    if run.client.tasks_per_round < asked.tasks:
        every = f"client.tasks_per_round={asked.tasks}"
        yield Change("all of a hospital's tasks in every round, under one noise", (every,))
    if asked.hospitals_per_round < asked.hospitals:
        yield Change("all hospitals in every round", ("strategies.hospitals_per_round=null",))
    yield Change("twice as many hospitals", numbers={"hospitals": 2 * asked.hospitals})
    if not run.privacy.unit.noise_at_server:
        yield _more_records(asked)
    yield from _less_protection(run)


def changed(asked: Question, change: Change) -> Question:
    """The question with the change made; tasks grow with the records."""
    mapping = asked.run.mapping()
    for text in change.settings:
        override(mapping, text)
    run = parse(mapping)
    before = asked.run.client.tasks.declared_records()
    records = None if asked.records == before else asked.records
    own = {"hospitals": asked.hospitals, "records": records, "units": asked.units}
    made = question(run, **{**own, **change.numbers})
    tasks = asked.tasks * made.tasks // most_tasks(asked)  # an uneven case mix stays as uneven
    return replace(made, tasks=max(1, tasks))


def most_tasks(asked: Question) -> int:
    """The disjoint tasks of a pass, if the hospital's records make as many as they can."""
    return question(asked.run, records=asked.records, units=asked.units).tasks


def _larger_tasks(run: Sim) -> Iterator[Change]:
    source = run.client.tasks
    if isinstance(source, FewShot) and not run.privacy.unit.whole:
        shots, queries = (2 * n for n in source.sizes("train"))
        texts = (f"client.tasks.train_shots={shots}", f"client.tasks.train_queries={queries}")
        yield Change("training tasks of twice the size", texts)


def _more_records(asked: Question) -> Change:
    """Twice the records: through the source's own setting, where that says how many there are."""
    owners = asked.run.privacy.unit.plural.lower()
    many = "records" if asked.units is None else f"records and {owners}"
    words, twice = f"twice as many {many} a hospital", 2 * asked.records
    source, units = asked.run.client.tasks, {"units": 2 * asked.units} if asked.units else {}
    if source.records_option is None or source.declared_records() != asked.records:
        return Change(words, numbers={"records": twice, **units})
    return Change(words, (f"client.tasks.{source.records_option}={twice}",), units)


def _less_protection(run: Sim) -> Iterator[Change]:
    mechanism = run.privacy
    assert isinstance(mechanism, Protected)
    if mechanism.noise_multiplier is not None:
        text = "the least noise that keeps epsilon, instead of a multiplier of your own"
        yield Change(text, ("privacy.noise_multiplier=null",))
        return
    larger = [epsilon for epsilon in EPSILONS if epsilon > mechanism.epsilon]
    if larger:
        yield Change("a weaker promise", (f"privacy.epsilon={larger[0]:g}",))


def _together(single: list[Change]) -> Change:
    return Change(
        "all of these together",
        tuple(text for change in single for text in change.settings),
        {name: n for change in single for name, n in change.numbers.items()},
    )


# ------------------------------------------------------------------------------------- notes

NONE = (
    "Mechanism none: updates leave the hospitals as they are, epsilon is unlimited, and whoever "
    "sees an update may learn the records behind it. There is nothing to plan; {choose}."
)
GROUPED = (
    "Unit {unit}: each is in one task of a round at most, and its records in that task are summed "
    "and clipped as one. The ratio counts {counted} at a hospital."
)
TASKS = (
    "{tasks} tasks a pass are the most that {records} records can make. A hospital with an uneven "
    "case mix makes fewer; its records then return more often and need more noise: --tasks N."
)
BODY = (
    "The body is not trained and stays as it was drawn at random. The ratio says whether noise "
    "drowns what the rest learns, not that the rest is enough."
)
TRUSTED = (
    "Unit {unit}: the server adds the noise, so it must be trusted; it sees every update without."
)
REFUSED = (
    "The noise multiplier of the configuration spends epsilon {epsilon:.3g}, more than the run's "
    "own {cap:g}: hospitals will refuse before the last round."
)


def notes(asked: Question, plan: Planned) -> Iterator[str]:
    """What the numbers take for granted."""
    mechanism = asked.run.privacy
    assert isinstance(mechanism, Protected)
    if plan.epsilon > mechanism.epsilon * (1 + 1e-6):
        yield REFUSED.format(epsilon=plan.epsilon, cap=mechanism.epsilon)
    if not body_counts(asked.run):
        yield BODY
    unit = mechanism.unit
    if unit.cap is not None:
        counted = asked.units and f"{asked.units} {unit.plural.lower()}"
        yield GROUPED.format(unit=unit.name, counted=counted or f"every record as one {unit.name}")
    if unit.noise_at_server:
        yield TRUSTED.format(unit=unit.name)
    elif asked.tasks == most_tasks(asked):
        yield TASKS.format(tasks=asked.tasks, records=asked.records)
    if problem := mechanism.empty_promise(asked.units or asked.records):
        yield f"Hospitals will refuse: {problem}."
