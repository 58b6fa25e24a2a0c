"""The privacy report as data: ``PrivacyReport``, its JSON and the published schema of that.

Fill the sections, make ``ReportInputs`` of them and give these to ``concluded``, which checks them
and adds what follows from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from metaward.json_text import plain_value
from metaward.privacy.report.inputs import ReportInputs
from metaward.privacy.report.verdict import Federation, Risk, Verdict, federation, judge, risk


@dataclass(frozen=True)
class PrivacyReport(ReportInputs):
    """What a federated run promises about hospital records, how, and on what evidence.

    Losses have no unit; deltas are probabilities; hashes are hexadecimal; times are UTC.
    """

    verdict: Verdict
    federation: Federation
    risks: Annotated[tuple[Risk, ...], Field(min_length=1)]
    """One for each hospital, in their order."""


def concluded(inputs: ReportInputs) -> PrivacyReport:
    """The report that follows from its inputs; ``ValueError`` lists every fault of theirs."""
    content = {f.name: getattr(inputs, f.name) for f in fields(ReportInputs)}
    _check(plain_value(content))
    risks = tuple(map(risk, inputs.hospitals))
    return PrivacyReport(
        **content,
        verdict=judge(inputs, risks),
        federation=federation(inputs.hospitals, risks),
        risks=risks,
    )


def plain(report: PrivacyReport) -> dict[str, Any]:
    """The report as mappings, lists and scalars, the verdict first, as JSON holds it."""
    content: dict[str, Any] = plain_value(report)
    return dict.fromkeys(("schema_version", "verdict")) | content


def to_json(report: PrivacyReport) -> str:
    """The report as the text of a JSON file."""
    return json.dumps(plain(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12), generated from the types that fill a report."""
    generated = TypeAdapter(PrivacyReport).json_schema(schema_generator=_Untitled)
    return {"$schema": _Untitled.schema_dialect, "$id": "urn:metaward:privacy-report:1"} | generated


class _Untitled(GenerateJsonSchema):
    """Leaves out titles, which would only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


_adapter = cache(TypeAdapter)


def _check(content: Any) -> None:
    """``ValueError`` where a value has the wrong type or range; it names each place and value."""
    try:
        _adapter(ReportInputs).validate_json(json.dumps(content, allow_nan=False))
    except ValidationError as error:
        raise ValueError("privacy report: " + "\n".join(map(_fault, error.errors()))) from error


def _fault(error: Any) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
    return f"{''.join(steps).lstrip('.')}: {error['msg']} (is {error['input']!r:.100})"
