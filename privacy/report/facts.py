"""The privacy report as data: ``PrivacyReport``, and its way to JSON and back.

Fill the parts (``privacy.report.parts``) and give them to ``PrivacyReport``; it checks them and
adds what follows from them. ``schema.json`` beside this file publishes the format.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from metaward.privacy.report.given import Given
from metaward.privacy.report.parts import UNLIMITED
from metaward.privacy.report.verdict import Federation, Risk, Verdict, federation, judge, risk

DERIVED = ("verdict", "federation", "risks")


@dataclass(frozen=True)
class PrivacyReport(Given):
    """Given facts, checked, and what follows from them. ``ValueError`` lists every fault."""

    verdict: Verdict = field(init=False)
    federation: Federation = field(init=False)
    risks: tuple[Risk, ...] = field(init=False)

    def __post_init__(self) -> None:
        checked({f.name: plain_value(getattr(self, f.name)) for f in fields(Given)})
        super().__post_init__()
        object.__setattr__(self, "verdict", judge(self))
        object.__setattr__(self, "federation", federation(self))
        object.__setattr__(self, "risks", tuple(risk(hospital) for hospital in self.hospitals))


def plain(report: PrivacyReport) -> dict[str, Any]:
    """The report as mappings, lists and scalars, the verdict first, as JSON holds it."""
    found: dict[str, Any] = plain_value(report)
    first = {name: found.pop(name) for name in ("schema_version", "verdict")}
    return first | found


def from_plain(given: Any) -> PrivacyReport:
    """The inverse of ``plain``; ``ValueError`` where a fact is wrong or a conclusion changed."""
    if not isinstance(given, dict) or not set(DERIVED) <= given.keys():
        raise ValueError(f"privacy report: not a mapping with {', '.join(DERIVED)}")
    facts = checked({key: value for key, value in given.items() if key not in DERIVED})
    report = PrivacyReport(**{f.name: getattr(facts, f.name) for f in fields(Given)})
    for name in DERIVED:
        _same(plain_value(getattr(report, name)), given[name], name)
    return report


def to_json(report: PrivacyReport) -> str:
    """The report as the text of a JSON file."""
    return json.dumps(plain(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12)."""
    text = Path(__file__).with_name("schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def checked(given: dict[str, Any]) -> Given:
    """Given facts from plain data; every fault names its place and value."""
    try:
        return _adapter().validate_json(json.dumps(given, allow_nan=False))
    except ValidationError as error:
        raise ValueError("privacy report: " + "\n".join(map(_fault, error.errors()))) from error


def plain_value(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, infinity as "unlimited"."""
    if is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    return UNLIMITED if isinstance(value, float) and value == math.inf else value


def _same(found: Any, given: Any, path: str) -> None:
    """Numbers and choices must follow from the facts; sentences may be of another version."""
    if isinstance(found, dict):
        if not isinstance(given, dict) or given.keys() != found.keys():
            raise ValueError(f"privacy report: {path} does not have the keys {', '.join(found)}")
        for key in found.keys() - {"headline", "sentence", "concerns", "notes"}:
            _same(found[key], given[key], f"{path}.{key}")
    elif isinstance(found, list):
        if not isinstance(given, list) or len(given) != len(found):
            raise ValueError(f"privacy report: {path} does not have {len(found)} entries")
        for i, pair in enumerate(zip(found, given, strict=True)):
            _same(*pair, f"{path}[{i}]")
    elif not _equal(found, given):
        raise ValueError(f"privacy report: {path} is {given!r}, but its facts give {found!r}")


def _equal(found: Any, given: Any) -> bool:
    if isinstance(found, float) and type(given) in (int, float):
        return math.isclose(found, given, rel_tol=1e-6, abs_tol=1e-12)
    return type(found) is type(given) and bool(found == given)


def _fault(error: Any) -> str:
    if error["type"] == "value_error":  # a rule of our own, which names its place itself
        return str(error["ctx"]["error"])
    return f"{_place(error['loc'])}: {error['msg']} (is {error['input']!r:.100})"


def _place(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")


@cache
def _adapter() -> TypeAdapter[Given]:
    return TypeAdapter(Given)
