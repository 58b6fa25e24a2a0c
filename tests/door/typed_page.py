"""The commands and the code of a page, as its reader types them in an empty folder."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from metaward.sim import HERE
from tests.server.test_cli import metaward


def section(page: str, title: str) -> str:
    """The text below a heading of a page of docs/, up to the next one."""
    text = (HERE / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def commands(page: str, title: str) -> list[list[str]]:
    """The words of each command below a heading, without ``metaward``."""
    lines = re.findall(r"^    metaward (.*?)(?:\s+#.*)?$", section(page, title), re.MULTILINE)
    assert 1 < len(lines) < 10, "a reader types fewer than ten"
    return [shlex.split(line) for line in lines]


def typed(folder: Path, calls: Sequence[Sequence[str]]) -> str:
    """What commands print, one after the other, in this folder; each of them must end well.

    They are called in this process, because to start one takes longer than what most of them do.
    """
    told = io.StringIO()
    for words in calls:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(told):
            patch.chdir(folder)
            patch.delenv("METAWARD_DATA", raising=False)
            code = metaward(*words, monkeypatch=patch)
        assert code == 0, f"{words}\n{told.getvalue()}"
    return told.getvalue()
