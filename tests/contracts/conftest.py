"""No part may draw from, or reseed, the randomness that a process shares."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

STATES: list[Callable[[], Any]] = [
    lambda: torch.get_rng_state().tolist(),
    lambda: np.random.get_state()[1].tolist(),  # type: ignore[union-attr]  # noqa: NPY002
]


@pytest.fixture(autouse=True)
def global_randomness_is_untouched() -> Iterator[None]:
    before = [state() for state in STATES]
    yield
    assert [state() for state in STATES] == before
