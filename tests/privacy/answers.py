"""An answer to start from, and the code with which a damaged one is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from metaward.privacy import Release
from metaward.privacy.wire import (
    WireError,
)


def release(**changes: Any) -> Release:
    values = {"hospital": "a", "round": 3, "update": np.ones(4, np.float32), "loss": 0.5}
    return Release(**values | changes)


def code_of(records: RecordDict, decode: Callable[[RecordDict], object]) -> str:
    with pytest.raises(WireError) as caught:
        decode(records)
    assert str(caught.value) == caught.value.fault, "only the word may be in the text"
    return caught.value.fault
