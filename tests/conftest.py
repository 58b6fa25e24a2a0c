"""One steady way to run tests: one torch thread; property tests without time limits, the same
examples every time; slow files first, so that no worker is left alone with one at the end."""

import os
import signal
from collections import Counter

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
# A shell starts what it puts into the background deaf to Ctrl-C, and all children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many inputs were thrown at each decoder (tests/fuzz), and how many could be read."""
    files: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        files.setdefault(report.location[0], Counter()).update(dict(report.user_properties))
    found = {name: counts for name, counts in files.items() if counts["inputs"]}
    for name, counts in {**found, "all": sum(found.values(), Counter())}.items() if found else ():
        line = f"{name}: {counts['inputs']} inputs, of which {counts['read']} could be read"
        terminalreporter.write_line(line)


SLOW = (
    "server/deploy/",
    "engines/",
    "door/test_tour",
    "door/test_shipping",
    "door/test_command",
    "door/test_tutorial",
    "server/test_run",
    "server/test_kill",
    "sweeping/test_sweep",
    "ledger/test_kill",
    "privacy/test_two_worlds",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, otherwise as found."""
    items.sort(key=lambda item: not any(part in item.location[0] for part in SLOW))
