"""From results to plain data that JSON can write."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

UNLIMITED = "unlimited"


def plain_value(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, infinity as "unlimited", all the way down."""
    if is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    return UNLIMITED if isinstance(value, float) and value == math.inf else value
