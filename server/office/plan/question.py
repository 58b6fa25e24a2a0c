"""What is asked of a plan: a run, and what its file does not say."""

from __future__ import annotations

from dataclasses import dataclass

from metaward.client.schedule import pass_share
from metaward.client.tasks.made_up import blank_tasks
from metaward.options import ConfigError
from metaward.privacy.mechanisms import choices
from metaward.sim import Sim

NO_RECORDS = (
    "the configuration does not say how many records a hospital has, and a plan opens no data: "
    "give --records N, the records of the smallest training hospital (`metaward tasks show` counts "
    "them where the data lies)"
)


@dataclass(frozen=True)
class Question:
    """A run, and what its file does not say: records of each of the training ``hospitals``, the
    disjoint ``tasks`` that they make in one pass, and the ``units`` that own the records (such as
    patients; None: each record is one)."""

    run: Sim
    hospitals: int
    records: int
    tasks: int
    units: int | None = None

    @property
    def hospitals_per_round(self) -> int:
        """Hospitals that work in a round."""
        return min(self.run.strategies.hospitals_per_round or self.hospitals, self.hospitals)

    def first_round(self) -> tuple[int, int]:
        """Tasks of one hospital in the first round, and the rounds in which a unit takes part."""
        client, rounds = self.run.client, self.run.server.rounds
        count = self.tasks if client.schedule == "passes" else client.tasks_per_round
        tasks = blank_tasks(client.tasks.spec(), client.tasks.task_size(), count)
        share = pass_share(lambda _: tasks, len(tasks), client.tasks_per_round, rounds, 1)
        times = self.run.privacy.unit.participations(share.participations, rounds)
        return len(share.episodes), times


def question(
    run: Sim,
    hospitals: int | None = None,
    records: int | None = None,
    tasks: int | None = None,
    units: int | None = None,
) -> Question:
    """What is asked; what is None is taken from the configuration. ``ConfigError`` where it cannot
    be, or where the numbers contradict each other.

    Where a unit's records may not be in two tasks of a pass there are no more tasks than units."""
    source = run.client.tasks
    seats = sum(seat.role == "train" for seat in source.roster())
    records = source.declared_records() if records is None else records
    if records is None:
        raise ConfigError([NO_RECORDS])
    size, most = source.task_size().records, source.most_tasks(records)
    if run.privacy.unit.cap is not None and units is not None:
        most = min(most, run.privacy.unit.cap * units)
    if most < 1:
        text = f"{records} records do not make one task of {size} (support and query)"
        raise ConfigError([f"--records: {text}; give more, or lower shots or queries"])
    if tasks is not None and not 1 <= tasks <= most:
        text = f"{records} records make 1 to {most} disjoint tasks of {size}"
        raise ConfigError([f"--tasks: {tasks} is refused: {text}"])
    number = seats if hospitals is None else hospitals
    return Question(run, number, records, tasks or most, units)


def another_mechanism() -> str:
    """The way out where mechanism ``none`` has nothing to plan or to attack."""
    typed = "--set 'privacy={mechanism: sums, unit: record}' --set client.schedule=passes"
    return f"choose another with {typed} ({choices()})"
