"""Weights of classes: factors by which the losses of their records are multiplied.

They are public, as all of a configuration is. None is ever computed from a hospital's records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic_core.core_schema import no_info_plain_validator_function

from metaward.client.tasks.base import TaskSpec
from metaward.options import Named, nearest, show

Pairs = tuple[tuple[str, float], ...]
"""Names of classes and their weights, sorted by name."""


@dataclass(frozen=True, eq=False)
class Numbered(Named):
    """Marks a field that is a word of ``values``, or a mapping of names of classes to numbers
    above 0, which the field holds as pairs, sorted by name."""

    def plain(self, value: Any) -> Any:
        """The word, or the mapping."""
        return value if isinstance(value, str) else dict(value)

    def words(self) -> str:
        """What can be written, in Markdown."""
        return f"{super().words()}, or a mapping of classes to numbers above 0"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Accept a word, or a mapping, and turn the latter into pairs."""
        return no_info_plain_validator_function(self._read)

    def _read(self, given: Any) -> Any:
        if isinstance(given, str) and given in self.values:
            return given
        if not isinstance(given, dict):
            words = ", ".join(self.values)
            raise ValueError(f"must be {words}, or a mapping of classes to numbers above 0")
        wrong = [f"{k}: {show(v)}" for k, v in given.items() if not _above_zero(v)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: must be a number above 0")
        return tuple(sorted((str(name), float(number)) for name, number in given.items()))


def _above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


WORDS = ("none", "inverse")
ClassWeights = Annotated[str | Pairs, Numbered({word: word for word in WORDS})]
"""In yaml `none`, `inverse` or {name: weight}; a class that is not named has weight 1."""

NO_INVERSE = (
    "inverse is not offered. Tasks with shots and queries of each class hold as many records of "
    "one class as of another, so it would change nothing; where tasks follow a hospital's own case "
    "mix, counting its classes touches records, and no noise covers the count. Set it to none, or "
    "to weights of your own choice, as in {%s: 3}"
)


def factors(spec: TaskSpec, wanted: str | Pairs) -> tuple[float, ...] | None:
    """The weight of each label 0 .. N - 1; None where all are 1.

    ``ValueError``, with the way out, where they cannot be given to the labels of such tasks.
    """
    if wanted in ("none", ()):
        return None
    if not spec.kind.classes:
        raise ValueError(f"tasks of kind {spec.kind.name} have no classes; set it to none")
    names = spec.names or tuple(map(str, range(spec.outputs)))
    if isinstance(wanted, str):
        raise ValueError(NO_INVERSE % names[-1])
    if not spec.canonical or spec.outputs != spec.vocabulary:
        raise ValueError(
            "each task numbers its classes on its own, so that a label has no weight; set "
            "client.tasks.canonical: true and ways to the number of all classes, or this to none"
        )
    for name, _ in wanted:
        if name not in names:
            all_names = f"the classes are {', '.join(names)}"
            raise ValueError(f"unknown class {name!r}; {nearest(name, names, all_names)}")
    given = dict(wanted)
    return tuple(given.get(name, 1.0) for name in names)
