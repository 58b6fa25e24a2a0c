"""The high-water mark: a ledger that goes back is noticed, a reply sent twice is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from metaward.privacy import Mark, Release
from metaward.privacy.wire import Request
from metaward.strategies.marks import Marks, SeenMark
from metaward.strategies.quorum import QuorumError
from metaward.strategies.quorum import reasons as said
from tests.strategies.federation import THETA, grid_of, honest, run, strategy

MINE = "0123456789abcdef"
OTHER = "fedcba9876543210"


def mark(sequence: int, ledger: str = MINE) -> Mark:
    return Mark(ledger, sequence, f"{sequence:064x}")


def release(hospital: str, round: int, mark: Mark | None) -> Release:
    return Release(hospital, round, THETA, None, mark)


def after(*sequences: int, ledger: str = MINE) -> Marks:
    """What is known after some rounds of hospital rome."""
    marks = Marks()
    for number, sequence in enumerate(sequences, start=1):
        assert marks.accept(release("rome", number, mark(sequence, ledger)), "run")
    return marks


# ------------------------------------------------------------------------------- one reply


def test_each_reply_stands_further_in_the_ledger() -> None:
    marks = after(2, 4, 9)
    assert [seen.mark.sequence for seen in marks.seen] == [2, 4, 9]
    assert marks.last("rome") == mark(9)
    assert marks.last("oslo") is None


def test_a_reply_that_is_sent_again_is_accepted() -> None:
    """A resumed run asks for its rounds again, and the hospital answers with the stored bytes."""
    marks = after(2, 4, 9)
    for number, sequence in enumerate((2, 4, 9), start=1):
        assert marks.accept(release("rome", number, mark(sequence)), "run")
    assert len(marks.seen) == 3, "nothing new"


@pytest.mark.parametrize(
    ("round", "sent", "of"),
    [
        pytest.param(4, mark(4), "run", id="an earlier entry for a new round"),
        pytest.param(4, mark(9), "run", id="the last entry for a new round"),
        pytest.param(4, mark(3), "run", id="an entry between"),
        pytest.param(3, mark(9), "other", id="the last entry for another run"),
        pytest.param(3, Mark(MINE, 9, "f" * 64), "run", id="the same entry with another hash"),
        pytest.param(4, mark(10, OTHER), "run", id="another ledger, further on"),
        pytest.param(4, mark(2, OTHER), "run", id="another ledger, from its start"),
        pytest.param(4, None, "run", id="no mark any more"),
    ],
)
def test_a_ledger_that_went_back_is_rejected(round: int, sent: Mark | None, of: str) -> None:
    marks = after(2, 4, 9)
    told: list[SeenMark] = []
    marks.note = told.extend
    assert not marks.accept(release("rome", round, sent), of)
    assert marks.last("rome") == mark(9), "what was rejected is not remembered"
    assert (len(marks.seen), told) == (3, [])
    assert marks.accept(release("rome", 4, mark(11)), "run"), "the true ledger goes on"


def test_hospitals_are_told_apart() -> None:
    marks = after(2, 4, 9)
    assert marks.accept(release("oslo", 4, mark(1, OTHER)), "run")
    assert marks.accept(release("bern", 4, None), "run"), "one that never had a ledger"
    assert (marks.last("oslo"), marks.last("rome")) == (mark(1, OTHER), mark(9))


def test_every_new_mark_is_told_once() -> None:
    told: list[SeenMark] = []
    marks = Marks(note=told.extend)
    for _ in range(2):
        marks.accept(release("rome", 1, mark(2)), "run")
    assert told == [SeenMark("rome", "run", 1, mark(2))] == marks.seen


def test_what_was_read_from_a_file_counts() -> None:
    marks = Marks(list(after(2, 4).seen))
    assert not marks.accept(release("rome", 3, mark(3)), "run")
    assert marks.accept(release("rome", 3, mark(5)), "run")


# --------------------------------------------------------------------------------- a run


def ledgered(sequences: dict[int, int | None], ledger: str = MINE) -> Any:
    """Rome, honest but for its mark, which stands at ``sequences[round]``."""

    def act(request: Request) -> Any:
        answer = honest("rome")(request, "train")
        number = sequences[request.round]
        return replace(answer, mark=None if number is None else mark(number, ledger))  # type: ignore[type-var]

    return act


GROWING = {number: 2 * number for number in range(1, 7)}


def reasons(sequences: dict[int, int | None], **changes: Any) -> list[str | None]:
    rows = run(grid_of({"rome": ledgered(sequences)}), **changes)
    return [report.rejected.get("rome") for _, report in rows]


def test_a_growing_ledger_is_never_in_the_way() -> None:
    assert reasons(dict(GROWING)) == [None] * 6


@pytest.mark.parametrize("wrong", [3, 8, None])
def test_a_reply_from_a_ledger_set_back_does_not_count(wrong: int | None) -> None:
    """Round 5 comes with round 1's entry, with round 4's again, or with none; round 6 is right."""
    found = reasons(GROWING | {5: wrong})
    assert found == [None, None, None, None, "ledger-rewound", None]


def test_it_is_rejected_for_good_where_it_never_grows_back() -> None:
    found = reasons(GROWING | {4: 2, 5: 4, 6: 6})
    assert found == [None] * 3 + ["ledger-rewound"] * 3


def test_a_rejected_reply_leaves_no_mark() -> None:
    """An update that is refused for its norm was charged all the same; its mark is not trusted."""
    marks = Marks()

    def huge(request: Request) -> Any:
        answer: Any = honest("rome")(request, "train")
        update = answer.update * (1e30 if request.round == 1 else 1)
        return replace(answer, update=update, mark=mark(2 * request.round))

    rows = run(grid_of({"rome": huge}), marks=marks)
    assert [report.rejected.get("rome") for _, report in rows][:2] == ["norm-above-cap", None]
    assert [seen.round for seen in marks.seen] == [2, 3, 4, 5, 6]


def test_the_next_request_tells_the_hospital_how_far_its_ledger_had_come() -> None:
    """So that the hospital itself refuses to work from an old copy."""
    grid = grid_of({"rome": ledgered(dict(GROWING))})
    one = strategy()
    one.roster.gather(grid)
    assert len(list(one.rounds(grid, one.begin(THETA)))) == 6
    rome = one.roster.nodes["rome"]
    sent = [r.mark for node, r, kind in grid.sent if node == rome and kind == "train"]
    assert sent == [None, *(mark(2 * number) for number in range(1, 6))]
    others = {r.mark for node, r, kind in grid.sent if node != rome}
    assert others == {None}


def test_too_many_ledgers_set_back_stop_the_run() -> None:
    back = {name: ledgered_for(name) for name in ("rome", "kyiv", "oslo")}
    with pytest.raises(QuorumError, match=r"round 2: .*rome \(ledger-rewound\)"):
        run(grid_of(back))


def ledgered_for(name: str) -> Any:
    def act(request: Request) -> Any:
        answer: Any = honest(name)(request, "train")
        return replace(answer, mark=mark(2))

    return act


def test_the_marks_of_a_round_are_noted_together_and_those_that_went_back_left_out() -> None:
    told: list[list[SeenMark]] = []
    marks = Marks(note=lambda new: told.append(list(new)))
    names = [f"hospital-{k}" for k in range(50)]
    first = [release(name, 1, Mark(f"{k:016x}", 5, "a" * 64)) for k, name in enumerate(names)]
    assert marks.set_back(first, "run") == []
    second = [release(name, 2, Mark(f"{k:016x}", 6, "b" * 64)) for k, name in enumerate(names)]
    second[7] = release(names[7], 2, Mark(f"{7:016x}", 4, "b" * 64))
    assert marks.set_back(second, "run") == [names[7]]
    assert [len(new) for new in told] == [50, 49]
    assert [one.hospital for one in told[1]] == names[:7] + names[8:]
    assert marks.set_back(second, "run") == [names[7]]
    assert len(told) == 2, "nothing is noted where nothing is new"


def test_an_error_names_some_hospitals_and_counts_the_others() -> None:
    few = {f"hospital-{k}": "no-reply" for k in range(3)}
    assert said(few) == "hospital-0 (no-reply), hospital-1 (no-reply), hospital-2 (no-reply)"
    many = {f"hospital-{k}": "failed" if k % 10 else "no-reply" for k in range(10_000)}
    text = said(many)
    assert text.endswith("hospital-19 (failed), 8982 more (failed), 998 more (no-reply)")
    assert len(text) < 1000
