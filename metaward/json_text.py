"""From results to plain data that JSON can write, and from JSON text to plain data."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

UNLIMITED = "unlimited"
DEEPEST = 100
"""How deep plain data may be nested: what walks through it is then never at Python's limit."""


def plain_value(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, infinity as "unlimited", all the way down."""
    if is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    return UNLIMITED if isinstance(value, float) and value == math.inf else value


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text in UTF-8; ``ValueError`` where it is none, or nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
