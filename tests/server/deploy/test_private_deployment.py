"""Two hospitals under differential privacy, in processes of their own: one is killed between rounds
and comes back, then the whole deployment is stopped in the middle and resumed.

A kill may cost a hospital a round. It must not cost its ledger, nor a second charge for a request
that was charged, nor a second noise for a reply that was stored.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from metaward import sim
from metaward.privacy.accounting import enforced_epsilon, gdp
from metaward.privacy.ledger import History, Ledger, verify
from metaward.server.cli import main
from tests.server.deploy.live import COMMAND, Live, wait_for

pytestmark = [pytest.mark.flower, pytest.mark.long, pytest.mark.timeout(900)]

CONFIG = sim.HERE / "configs" / "deploy.yaml"
ROUNDS = 6
SETTINGS = (
    "client.tasks.records=120",
    f"server.rounds={ROUNDS}",
    f"server.evaluation.every={ROUNDS}",
    "server.evaluation.final_episodes=5",
    "server.evaluation.baselines=[]",
)
KILLED, OTHER = "phantom-01", "phantom-02"


def rounds(live: Live) -> list[dict[str, Any]]:
    """What the server has written of its rounds; fails where it has ended badly."""
    ended = live.process.poll()
    assert ended in (None, 0, 130), live.err.read_text() + live.logs()
    return [row for row in live.folder.rows() if "accepted" in row] if live.folder.exists() else []


def held_with_an_answer(live: Live) -> bool:
    """The killed hospital is back, and the server's app is held still with a round that is answered
    and not saved. Where it is not so far it goes on: what is found must still be so at the stop."""
    (app,) = (pid for pid, command in live.processes().items() if "flwr-serverapp" in command)
    os.kill(app, signal.SIGSTOP)
    last = (rounds(live) or [{"round": 0, "accepted": []}])[-1]
    if KILLED in last["accepted"] and len(history(live, OTHER).replies) > last["round"] >= 2:
        return True
    os.kill(app, signal.SIGCONT)
    return False


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, int]]:
    """The deployment after its run, and the round that was asked for twice."""
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    live = Live(tmp_path_factory.mktemp("private"), 3, CONFIG, *settings)
    live.start()
    try:
        wait_for(lambda: rounds(live), 300, "round 1")
        os.kill(live.pids()[KILLED], signal.SIGKILL)
        wait_for(lambda: held_with_an_answer(live), 500, "an answered round, after the kill")
        live.process.send_signal(signal.SIGINT)
        assert live.process.wait(timeout=60) == 130, live.err.read_text()
        again = len(history(live, OTHER).replies)
        saved = sorted(path.name for path in live.folder.checkpoints.iterdir())[-1]
        assert saved == f"round-{again - 1:06d}", "or the round would not be asked for again"
        here = ("--local", "3", "--dir", str(live.site.root), "--resume", str(live.folder.path))
        live.command = [*COMMAND, "deploy", "up", *here]
        live.start()
        assert live.process.wait(timeout=400) == 0, live.err.read_text() + live.logs()
        yield live, again
    finally:
        live.end()
        assert live.nothing_left()


@pytest.fixture
def live(story: tuple[Live, int]) -> Live:
    return story[0]


def history(live: Live, name: str) -> History:
    (files,) = live.site.hospitals([name])
    return Ledger.open(files.ledger).history()


def test_the_kill_and_the_stop_did_not_stop_the_run(live: Live) -> None:
    assert live.folder.status() == ("finished", "")
    assert [row["round"] for row in rounds(live)] == list(range(1, ROUNDS + 1))
    said = live.site.log("supervisor").read_text()
    assert f"{KILLED}: its SuperNode was killed by SIGKILL (signal 9)" in said
    assert "the SuperLink takes it for disconnected" in said
    assert "could not connect" not in said, "its key was not refused when it came back"


@pytest.mark.parametrize("name", [KILLED, OTHER])
def test_the_ledger_is_whole(live: Live, name: str) -> None:
    (files,) = live.site.hospitals([name])
    assert verify(files.ledger) == []
    found = history(live, name)
    assert found.hospital == name
    assert found.who != "simulation"


@pytest.mark.parametrize("name", [KILLED, OTHER])
def test_no_request_is_charged_or_answered_twice(story: tuple[Live, int], name: str) -> None:
    """The round that was asked for twice has one charge, and one reply, like every other."""
    live, again = story
    found = history(live, name)
    charged = Counter(charge.request.round for charge in found.charges)
    assert set(charged.values()) == {1}
    assert again in charged
    assert len(found.replies) <= len(found.charges)
    took_part = {row["round"] for row in rounds(live) if name in row["accepted"]}
    assert took_part <= set(charged), "an update without its charge"
    if name == OTHER:
        assert set(charged) == set(range(1, ROUNDS + 1))
        assert len(found.replies) == ROUNDS


@pytest.mark.parametrize("name", [KILLED, OTHER])
def test_the_spend_is_that_of_the_charges(live: Live, name: str) -> None:
    """Each charge is of two sums at the noise that keeps epsilon 8 over all rounds."""
    found = history(live, name)
    events = [e for c in found.charges for paid in c.payments for e in paid.events]
    (sigma,) = {e.noise_multiplier for e in events}
    assert sigma == pytest.approx((2 * ROUNDS) ** 0.5 / gdp.mu_of(8.0, 1e-5), rel=1e-6)
    worst = max(enforced_epsilon(spent, 1e-5) for spent in found.totals().values())
    mu = (2 * len(found.charges)) ** 0.5 / sigma
    assert worst == pytest.approx(gdp.epsilon(mu, 1e-5))
    assert worst <= 8.0


def test_what_the_server_saw_agrees(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """`privacy verify` holds the ledgers against the server's marks, and counts epsilon anew."""
    ledgers = [str(f.ledger) for f in live.site.hospitals([KILLED, OTHER])]
    words = ["metaward", "privacy", "verify", str(live.folder.path), *ledgers]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
