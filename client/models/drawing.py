"""Torch's global generator, from which layers draw their first values, for one thread at a time.

Threads that use it at once draw from each other's seeds. They can also wait for each other without
end: one for the generator, with Python's own lock in hand, the other the other way around.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_ALONE = RLock()


@contextmanager
def drawing(seed: int | None = None) -> Iterator[None]:
    """Draw from ``seed`` within; None: from wherever the generator is. It is left as it was."""
    with _ALONE, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
