"""How often each unit is in a sum, and what it has spent, against the plainest way to count it."""

from __future__ import annotations

import string
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from metaward.privacy.event import Events, add, counted, different, gaussian
from metaward.privacy.price import counts
from metaward.privacy.session import Use

ROWS = st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True).map(tuple)
USES = st.lists(st.builds(Use, st.sampled_from(["support", "query", "adjoint"]), ROWS), max_size=12)
SPENDS = st.lists(st.tuples(ROWS, st.sampled_from([1.0, 2.0, 3.0])), max_size=12)


@given(USES, st.integers(1, 12))
def test_each_unit_is_counted_once_in_each_sum(uses: list[Use], owners: int) -> None:
    found = counts(uses, lambda row: row % owners)
    plain: Counter[tuple[int, str]] = Counter(
        (who, kind) for kind, rows in uses for who in {row % owners for row in rows}
    )
    assert {(who, kind): n for who, one in found.items() for kind, n in one.items()} == plain


@given(SPENDS)
def test_spends_add_up_and_equal_ones_are_one_object(
    spends: list[tuple[tuple[int, ...], float]],
) -> None:
    spent: dict[int, Events] = {}
    for rows, sigma in spends:
        add(spent, rows, (gaussian(sigma, 1),))
    for row in range(12):
        own = [gaussian(sigma, 1) for rows, sigma in spends if row in rows]
        assert spent.get(row, ()) == counted(own)
    last = {row: spent[row] for row in spends[-1][0]} if spends else {}
    assert len(different(last.values())) == len(set(last.values()))


def test_different_objects_stay_beside_each_other() -> None:
    one, other = ["".join(string.ascii_letters[:n] for _ in "ab") for n in (3, 3)]
    assert one == other
    assert len(different([one, other, one])) == 2
