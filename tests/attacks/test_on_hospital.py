"""Each attack of a server on a hospital (``on_hospital``), at a hospital with policy and ledger."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client import work
from metaward.privacy import Refusal, Release
from metaward.privacy.ledger import verify
from tests.attacks.on_hospital import REFUSED, TRAVERSALS, Asked, put
from tests.client.bedside import RECORD, Site, ask, code, request, site, theta

__all__ = ["site"]


@pytest.mark.parametrize("asked", REFUSED, ids=[asked.does for asked in REFUSED])
def test_a_request_that_is_refused(
    asked: Asked, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fixed code leaves, the ledger says so, nothing is charged, and no record is computed on."""
    site.write(units=["record"])
    monkeypatch.setattr(type(RECORD.privacy), "session", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(work, "judge", lambda *_: pytest.fail("computed"))
    with caplog.at_level(logging.ERROR, logger="metaward.hospital"):
        answer = site.ask(asked.kind, asked.make(), asked.index)
    assert answer == Refusal(asked.code)
    assert site.refusals() == [asked.code]
    assert site.charges() == 0
    assert verify(site.path) == []
    reason = site.ledger.history().refusals[0].reason
    assert reason.isprintable(), "it is shown on terminals"
    assert_entries(caplog.messages)


def assert_entries(messages: list[str]) -> None:
    """No line but the first of an entry could be taken for an entry; nothing steers a terminal."""
    assert messages
    for message in messages:
        first, *more = message.split("\n")
        assert first.startswith("hospital ")
        assert all(line.startswith("    ") for line in more)
        assert all(line.isprintable() for line in (first, *more))


EXTREMES = {
    "1e30": np.full(theta().shape, 1e30),
    "-1e30": np.full(theta().shape, -1e30),
    "1e-30": np.full(theta().shape, 1e-30),
    "the largest float32": np.full(theta().shape, np.finfo(np.float32).max),
    "the smallest float32": np.full(theta().shape, np.finfo(np.float32).tiny),
    "zeros": np.zeros(theta().shape),
    "huge and tiny in turn": np.resize([1e30, -1e-30], theta().shape),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_a_theta_that_is_chosen_to_provoke(name: str, tmp_path: Path) -> None:
    """The request is charged like any other; the update is finite, and no longer than the noise and
    the clip norm let it be."""
    site = Site(tmp_path, epsilon=20.0)
    usual = site.ask("train", request(run="run-2"))
    answer = site.ask("train", request(theta=EXTREMES[name].astype(np.float32)))
    assert isinstance(answer, Release)
    assert isinstance(usual, Release)
    assert np.isfinite(answer.update).all()
    assert np.linalg.norm(answer.update) < 20 * np.linalg.norm(usual.update)
    assert site.charges() == 2


def test_the_same_round_again_and_again_at_other_thetas(site: Site) -> None:
    """Each is another request and pays; when the budget is spent, nothing leaves any more."""
    answers = [site.ask("train", request(theta=theta() + step)) for step in range(10)]
    released = [answer for answer in answers if isinstance(answer, Release)]
    refused = answers[len(released) :]
    assert 0 < len(released) == site.charges() < 10
    assert {code(answer) for answer in refused} == {"budget-spent"}
    assert set(site.refusals()) == {"budget-spent"}
    assert isinstance(site.ask("train", request()), Release), "a stored reply is sent again"


@pytest.mark.parametrize("run", TRAVERSALS)
def test_a_name_of_a_run_that_is_a_path_in_a_simulation(run: str, tmp_path: Path) -> None:
    """There the name is that of a folder: none is made, in the simulation's folder or outside."""
    home = tmp_path / "a" / "b" / "simulation"
    answer: Any = ask("train", put(run=run)(), 0, simulation=str(home))
    assert answer == Refusal("bad-request")
    assert not list(tmp_path.iterdir())
