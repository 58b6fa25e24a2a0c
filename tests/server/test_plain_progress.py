"""Progress in a file or a pipe: a line for each evaluated round, and one in every ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaward.server.folder import Folder
from metaward.server.progress import Lines, progress


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


def test_a_pipe_gets_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(Folder(tmp_path), quiet=False) as observe:
        observe({"phase": "final", "of": 2, "round": 1, "learner": "maml"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"results in {tmp_path}", "final: 1 of 2, maml"]
    assert err.replace("\n", "").isprintable()
