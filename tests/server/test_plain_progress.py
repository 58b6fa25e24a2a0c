"""Progress in a file or a pipe: a line for each evaluated round, and one where all is silent."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from metaward.server.folder import Folder
from metaward.server.progress import PATIENCE_SECONDS, Lines, progress, span


def test_evaluated_rounds_and_long_silences_get_a_line() -> None:
    said: list[str] = []
    now = [0.0]
    lines = Lines(said.append, lambda: now[0])
    lines({"phase": "maml", "of": 9, "round": 1, "loss": 0.5})
    assert said == []
    lines({"phase": "maml", "of": 9, "round": 1, "before": 0.25, "after": 0.5, "rejected": {}})
    assert said == ["maml: 1 of 9, loss 0.500, unseen 0.250 -> 0.500"]
    now[0] = 10.0
    lines({"phase": "maml", "of": 9, "round": 2, "loss": 0.25, "rejected": {"a": "no-reply"}})
    assert said[1:] == ["maml: 2 of 9, loss 0.250, unseen 0.250 -> 0.500, 1 rejected"]


def test_a_long_round_is_not_silent() -> None:
    said: list[str] = []
    now = [0.0]
    lines = Lines(said.append, lambda: now[0])
    now[0] = PATIENCE_SECONDS - 1
    lines.remind()
    assert said == [], "not yet"
    now[0] += 1
    lines.remind()
    lines.remind()
    assert said == ["at work for 30 s; no round is done yet"], "and once"
    lines({"phase": "maml", "of": 9, "round": 1, "loss": 0.5})
    now[0] = 125.0
    lines.remind()
    assert said[1:] == ["at work for 2 min 5 s; maml: 1 of 9 done"]


def test_reminders_come_by_themselves_and_end_with_the_work() -> None:
    said: list[str] = []
    reminded = Event()

    def write(text: str) -> None:
        said.append(text)
        if text.startswith("at work for"):
            reminded.set()

    lines = Lines(write, patience=0.01)
    with lines.at_work():
        assert reminded.wait(60)
    count = len(said)
    assert not Event().wait(0.1)
    assert len(said) == count


def test_spans_of_time() -> None:
    assert [span(seconds) for seconds in (0.2, 59.4, 59.6, 3601)] == [
        *("0 s", "59 s"),
        *("1 min 0 s", "60 min 1 s"),
    ]


def test_a_pipe_gets_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(Folder(tmp_path), quiet=False) as observe:
        observe({"phase": "final", "of": 2, "round": 1, "learner": "maml"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"results in {tmp_path}",
        "at work; a line follows at least every 30 seconds",
        "final: 1 of 2, maml",
    ]
    assert err.replace("\n", "").isprintable()
