"""Networks that threads build at once have the values of those that are built alone."""

from __future__ import annotations

import subprocess
import sys

BUILDS = """
import torch
from concurrent.futures import ThreadPoolExecutor
from torch.nn.utils import parameters_to_vector
from metaward.client.models.base import build
from metaward.client.models.mlp import Mlp

def values(seed):
    return parameters_to_vector(build(Mlp((40, 40)), (7,), seed).parameters()).detach()

torch.manual_seed(3)
before = torch.get_rng_state()
alone = [values(seed) for seed in range(200)]
with ThreadPoolExecutor(6) as pool:
    together = list(pool.map(values, range(200)))
assert len({float(one.sum()) for one in alone}) == 200
assert all(map(torch.equal, alone, together)), "they drew from each other's seeds"
assert torch.equal(before, torch.get_rng_state())
"""


def test_threads_draw_one_after_the_other() -> None:
    """In a process of its own, because threads that wait for each other hold all of Python."""
    subprocess.run([sys.executable, "-c", BUILDS], check=True, timeout=120)
