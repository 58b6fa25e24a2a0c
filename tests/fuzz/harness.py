"""One way to throw inputs at a decoder: a typed error of metaward or success, and nothing else.

Each test runs twice: with few inputs in `make test`, with many under `-m long`. Inputs are the same
every time. An input that was once a fault stays as one of ``known``.
"""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from metaward.errors import MetawardError

CPU_SECONDS = 20
"""A decoder that computes longer on one input hangs."""
MEMORY = 1 << 30
"""Bytes that a decoder may take for one input, beyond what the process holds already."""

Input = TypeVar("Input")
Counted = Callable[[str, object], None]
Few = pytest.MarkDecorator


def inputs(few: int, many: int) -> Few:
    """How many inputs a test draws: ``few`` in `make test`, ``many`` under `-m long`."""
    return pytest.mark.parametrize(
        "number", [pytest.param(few, id="few"), pytest.param(many, id="many", marks=LONG)]
    )


LONG = [pytest.mark.long, pytest.mark.timeout(3000)]
"""A timeout strikes while an input is read; Hypothesis would take it for a failure of the input."""
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def fuzz(
    number: int,
    drawn: st.SearchStrategy[Input],
    decode: Callable[[Input], Any],
    counted: Counted,
    known: Iterable[Input] = (),
) -> None:
    """Call ``decode`` with ``number`` inputs and the ``known`` ones, and count them.

    ``decode`` also checks what it has read, such as that it comes back.
    """
    tried, read = [0], [0]

    def one(value: Input) -> None:
        tried[0] += 1
        read[0] += withstood(lambda: decode(value))

    test = given(drawn)(one)
    for value in known:
        test = example(value)(test)
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    settings(max_examples=number, suppress_health_check=HEALTH, phases=phases)(test)()
    counted("inputs", tried[0])
    counted("read", read[0])


def withstood(decode: Callable[[], Any]) -> bool:
    """Whether the input was read; an error that is none of metaward's is a fault."""
    try:
        with bounded():
            decode()
    except MetawardError as error:
        str(error).encode()  # it can be printed
        wanted = [one for one in causes(error) if out_of_memory(one)]
        assert not wanted, f"it takes more than {MEMORY} bytes before it refuses: {wanted}"
        return False
    return True


@contextmanager
def bounded() -> Iterator[None]:
    """Limits of memory and of computing; warnings stay warnings, as in a command."""
    held = int(_status("VmData")) * 1024
    usual = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, usual[1]))
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, usual)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


TIMES = count(10**18, 10**6)


def fresh(path: Path, content: bytes) -> None:
    """Write a file with a time of its own: readers know a file again by its time and size."""
    path.write_bytes(content)
    now = next(TIMES)
    os.utime(path, ns=(now, now))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def out_of_memory(error: BaseException) -> bool:
    """Whether numpy, torch or Python was refused memory."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _status(key: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(key))


def _hang(*_: object) -> None:
    raise AssertionError(f"it computes for more than {CPU_SECONDS} seconds")
