"""Hospitals of a simulation that compute side by side, so that one program can take them all.

Each hospital's work is a function, and all of them take turns in one process: one runs until it
comes to something that others may want to do as well, then the next one runs. When all of them
wait, what they wait for is done at once, and they go on. So nothing in a hospital's work has to
know of another hospital, and nothing has to be safe for threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")
Joined = Callable[[Sequence[Any]], Sequence[Any]]
"""What all of them wait for -> the results, in order."""

_here = threading.local()


class Companion(threading.Thread):
    """One function of several that take turns."""

    def __init__(self, job: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._job = job
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self.waits_for: tuple[Any, Joined] | None = None
        self.answer: Any = None
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """The job, from the first turn on."""
        self._mine.acquire()
        _here.companion = self
        try:
            self.result = self._job()
        except BaseException as error:  # raised again where all of them were started
            self.error = error
        self._others.release()

    def turn(self) -> bool:
        """Let it run on; whether it waits for something again, or has ended."""
        self.waits_for = None
        self._mine.release()
        self._others.acquire()
        return self.waits_for is not None

    def join_in(self, work: Any, joined: Joined) -> Any:
        """What ``joined`` makes of this work, beside the works that the others wait for."""
        self.waits_for = work, joined
        self._others.release()
        self._mine.acquire()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def companion() -> Companion | None:
    """The one whose turn it is, in its own thread; None where nobody is beside."""
    here: Companion | None = getattr(_here, "companion", None)
    return here


def side_by_side(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """The results of the jobs, which take turns; the first error of one of them is raised."""
    companions = [Companion(job) for job in jobs]
    for one in companions:
        one.start()
    waiting = companions
    while waiting:
        waiting = [one for one in waiting if one.turn()]
        _serve(waiting)
    for one in companions:
        if one.error is not None:
            raise one.error
    return [one.result for one in companions]


def _serve(waiting: Sequence[Companion]) -> None:
    """Give each of them its answer; what is done by the same function is done at once."""
    groups: dict[Joined, list[Companion]] = {}
    for one in waiting:
        assert one.waits_for is not None
        groups.setdefault(one.waits_for[1], []).append(one)
    for joined, group in groups.items():
        try:
            answers = joined([one.waits_for[0] for one in group if one.waits_for])
        except Exception as error:
            answers = [error] * len(group)
        for one, answer in zip(group, answers, strict=True):
            one.answer = answer
