"""Inputs that are almost right: bytes with flipped bits, plain data with a changed leaf."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

Place = tuple[Any, ...]
DEEP = json.loads("[" * 150 + "]" * 150)
NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**18, 10**400, 0.5, -0.0, 1e-320, 1e308]
) | st.sampled_from([math.inf, -math.inf, math.nan])
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "\ud800", "x" * 5000, "../../etc", "nan", "1e999", "\u2028", "none", "true", "null"]
)
LEAVES = st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | TEXTS
TREES = st.recursive(
    LEAVES | st.just(DEEP),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
).map(deepcopy)


def places(tree: Any, above: Place = ()) -> Iterator[Place]:
    """The way to every node of plain data."""
    yield above
    children = tree.items() if isinstance(tree, dict) else ()
    children = enumerate(tree) if isinstance(tree, list | tuple) else children
    for key, child in children:
        yield from places(child, (*above, key))


@st.composite
def altered(draw: st.DrawFn, tree: Any) -> Any:
    """Plain data with one to three nodes replaced, left out, added or put elsewhere."""
    tree = deepcopy(tree)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        tree = _altered_once(draw, tree)
    return tree


def _altered_once(draw: st.DrawFn, tree: Any) -> Any:
    where = draw(st.sampled_from([*places(tree)]))
    how = draw(st.sampled_from(["nudge", "nudge", "replace", "replace", "drop", "add", "copy"]))
    *above, last = where or ("root",)
    if not where:
        return draw(TREES) if how == "replace" else tree
    parent = tree
    for key in above:
        parent = parent[key]
    if how == "nudge" and type(parent[last]) in (int, float):
        parent[last] *= draw(st.sampled_from([1, 2, 3, 10]))
    elif how == "drop":
        del parent[last]
    elif how == "add" and isinstance(parent, dict):
        parent[draw(TEXTS)] = draw(TREES)
    elif how == "copy":
        parent[last] = deepcopy(draw(st.sampled_from([_at(tree, one) for one in places(tree)])))
    else:
        parent[last] = draw(TREES)
    return tree


def _at(tree: Any, where: Place) -> Any:
    for key in where:
        tree = tree[key]
    return tree


@st.composite
def damaged(draw: st.DrawFn, good: bytes, changes: int = 4) -> bytes:
    """Bytes with a few bits flipped, spans overwritten, taken out or repeated, or the end cut."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, changes))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 16))
        how = draw(st.sampled_from(["flip", "flip", "write", "out", "repeat", "cut"]))
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif how == "out":
            del data[at : at + length]
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        elif how == "cut":
            del data[at:]
    return bytes(data)


def texts_of(good: str) -> st.SearchStrategy[bytes]:
    """A text in UTF-8, damaged; or any bytes."""
    return damaged(good.encode()) | st.binary(max_size=100)
