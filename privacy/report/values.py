"""The values that a privacy report holds: their ranges and patterns, and how JSON writes them.

Losses (epsilon, mu) may be infinite, which JSON writes as the text "unlimited". Times are UTC.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from typing_extensions import TypeAliasType

from metaward.json_text import UNLIMITED

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
UTC = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"


def _infinity(value: Any) -> Any:
    return math.inf if value == UNLIMITED else value


def _a_time(value: str) -> str:
    datetime.fromisoformat(value)
    return value


def _line(description: str, most: int | None = None, pattern: str = PRINTABLE) -> Any:
    return Field(strict=True, pattern=pattern, max_length=most, description=description)


# These aliases have a name, so that the schema describes each kind of value once. Each of them has
# to be strict itself, because what is set for a section does not reach into an alias.
Text = TypeAliasType("Text", Annotated[str, _line("Plain words.", 2000)])
Name = TypeAliasType("Name", Annotated[str, _line("A name or a code.", 200)])
Sha256 = TypeAliasType("Sha256", Annotated[str, _line("Hexadecimal.", pattern=r"^[0-9a-f]{64}$")])
Time = TypeAliasType(
    "Time", Annotated[str, _line("UTC, to the second.", pattern=UTC), AfterValidator(_a_time)]
)
Count = TypeAliasType("Count", Annotated[int, Field(strict=True, ge=0, description="How many.")])
Positive = TypeAliasType(
    "Positive", Annotated[int, Field(strict=True, ge=1, description="At least one.")]
)
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Delta = TypeAliasType(
    "Delta", Annotated[float, Field(strict=True, gt=0, lt=1, description="A probability.")]
)
_Written = Annotated[
    Annotated[float, Field(ge=0)] | Literal["unlimited"],
    Field(description="Epsilon or mu, without a unit."),
]
Loss = TypeAliasType(
    "Loss",
    Annotated[
        float, Field(strict=True, ge=0), BeforeValidator(_infinity, json_schema_input_type=_Written)
    ],
)

Chain = Literal["verified", "broken", "not checked"]
HighWater = Literal["held", "went back", "not checked"]
Ending = Literal["finished", "stopped", "failed", "running"]
NoiseSource = Literal["operating system", "seeded"]
TouchName = Literal[
    "training",
    "query",
    "evaluation metrics",
    "normalisation statistics",
    "hyper-parameter tuning",
    "pre-processing",
    "public pre-training",
]
TOUCHES: tuple[TouchName, ...] = get_args(TouchName)
STANDARD_DELTAS = (1e-3, 1e-5, 1e-6)


class Strict:
    """Base of all sections of a report: unknown keys and values of another type are refused.

    The text below a field is its description in the published schema.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True
    )
