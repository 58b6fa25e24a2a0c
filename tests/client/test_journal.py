"""The hospital's audit log: a line for every answer, before the answer leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy import Refusal, Release
from metaward.privacy.wire import content_digest, digest
from tests.client.bedside import Site, ask, code, request, site

__all__ = ["site"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_answer_has_its_line(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    config = site.config | {"audit-log": str(log)}
    asked = request()
    release = ask("train", asked, **config)
    assert isinstance(release, Release)
    assert ask("train", asked, 99, **config) == Refusal("data-refused")
    assert code(ask("train", request(desk="no desk"), **config)) == "bad-request"
    first, second, third = lines(log)
    assert (first["duty"], first["run"], first["round"]) == ("train", "run-1", 1)
    assert (first["request"], first["content"]) == (digest(asked), content_digest(release))
    assert release.mark is not None
    assert (first["ledger"], first["head"]) == (release.mark.ledger, release.mark.head)
    assert (second["answer"], second["code"]) == ("refusal", "data-refused")
    assert third["code"] == "bad-request"
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert all(float_like not in text for float_like in ("update", "loss"))


def test_without_its_line_no_answer_leaves(site: Site, tmp_path: Path) -> None:
    """The charge stays, and the reply is stored: once the log can be written, it is sent."""
    log = tmp_path / "folder"
    log.mkdir()
    config = site.config | {"audit-log": str(log)}
    assert ask("train", request(), **config) == Refusal("audit-unwritable")
    assert site.charges() == 1
    log.rmdir()
    assert isinstance(ask("train", request(), **config), Release)
    assert site.charges() == 1


def test_a_torn_line_spoils_no_other(site: Site, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    log.write_text('{"at": "20')
    ask("train", request(), 99, **site.config, **{"audit-log": str(log)})
    torn, whole = log.read_text().splitlines()
    assert torn == '{"at": "20'
    assert json.loads(whole)["code"] == "data-refused"


@pytest.mark.parametrize("kind", ["query.roster", "evaluate"])
def test_other_duties_are_noted_too(site: Site, tmp_path: Path, kind: str) -> None:
    log = tmp_path / "audit.jsonl"
    episodes = 2 if kind == "evaluate" else 0
    index = 4 if kind == "evaluate" else 0
    ask(kind, request(episodes=episodes), index, **site.config, **{"audit-log": str(log)})
    (line,) = lines(log)
    assert line["duty"] == kind.removeprefix("query.")
    assert line["answer"] in ("attendance", "scores")
