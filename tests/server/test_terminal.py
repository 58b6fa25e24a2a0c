"""What commands print: nothing steers the terminal, JSON is plain, paths stay whole."""

from __future__ import annotations

import json
import math

import pytest

from metaward.server.terminal import answer, complain, line, say, table, warning

STEERING = "ward\x1b[2J\x07\u202e"


def test_nothing_that_is_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(line(STEERING), warning(STEERING), table((STEERING,), [(STEERING,), (line(STEERING),)]))
    printed = capsys.readouterr().out
    assert printed.count("ward\N{REPLACEMENT CHARACTER}[2J") == 5
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)


def test_square_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]a[/bold]", line("[red]b[/red]"), table(("[i]c[/i]",), [("[/]d",)]))
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[bold]a[/bold]", "[red]b[/red]", "[i]c[/i]", "[/]d"))


def test_lines_are_unbroken_and_long_cells_are_folded(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/results/" + 300 * "x"
    say(line(path))
    complain(path)
    out, err = capsys.readouterr()
    assert path in out.splitlines()
    assert path in err.splitlines()
    say(table(("path",), [(path,)]))
    folded = capsys.readouterr().out
    assert folded.count("x") == 300
    assert max(map(len, folded.splitlines())) <= 200


def test_columns_are_set_to_the_right_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    say(table(("name", "count"), [("a", 5), ("b", 123)], right={"count"}))
    rows = [text.rstrip() for text in capsys.readouterr().out.splitlines() if text.strip()]
    assert rows[-2].endswith("    5")
    assert rows[-1].endswith("  123")


def test_programs_get_json_without_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    answer({"epsilon": math.inf, "of": ((1, 2.5),)}, ["for people"], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"epsilon": "unlimited", "of": [[1, 2.5]]}
    answer({}, ["for people"], as_json=False)
    assert capsys.readouterr().out == "for people\n"


def test_a_table_in_a_pipe_is_as_wide_as_its_cells(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"University Hospital of {place} {'x' * 30}" for place in ("North", "South", "West")]
    say(table(("a", "b", "c"), [names], unbroken={"a"}))
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
