"""One steady way to run tests: one torch thread; property tests without time limits, the same
examples every time; slow files first, so that no worker is left alone with one at the end."""

import os
import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
# A shell starts what it puts into the background deaf to Ctrl-C, and all children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

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
