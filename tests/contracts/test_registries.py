"""What every entry of every registry must keep: the next entry is tested before it is written.

A new mechanism, combiner, network, learner or source needs no line here; it only has to pass.
What mechanisms promise besides stands in ``test_mechanisms`` and ``test_prices``.
"""

import pickle
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from metaward.client.inner import ALGORITHMS
from metaward.client.losses import LOSSES
from metaward.client.models import MODELS
from metaward.client.tasks import TASKS
from metaward.options import Registry, plain
from metaward.privacy import MECHANISMS
from metaward.reference import meanings
from metaward.strategies import COMBINE, OUTER
from metaward.strategies.combine import TooFewError
from tests.needed import usual

REGISTRIES: dict[str, dict[str, type[Any]]] = {
    "ALGORITHMS": ALGORITHMS,
    "COMBINE": COMBINE,
    "LOSSES": LOSSES,
    "MECHANISMS": MECHANISMS,
    "MODELS": MODELS,
    "OUTER": OUTER,
    "TASKS": TASKS,
}
PARTS = [
    pytest.param(cls, id=f"{registry}-{name}")
    for registry, parts in REGISTRIES.items()
    for name, cls in parts.items()
]
# --------------------------------------------------------------------- all of them alike


@pytest.mark.parametrize("cls", PARTS)
def test_part_is_a_frozen_hashable_value(cls: type[Any]) -> None:
    part = usual(cls)
    assert is_dataclass(cls)
    assert part == usual(cls)
    assert hash(part) == hash(usual(cls))
    assert pickle.loads(pickle.dumps(part)) == part
    for field in fields(cls):
        with pytest.raises(FrozenInstanceError):
            setattr(part, field.name, None)


@pytest.mark.parametrize("cls", PARTS)
def test_every_option_is_documented(cls: type[Any]) -> None:
    own = cls.__doc__ or ""
    assert own.strip(), "no docstring"
    assert not own.startswith(f"{cls.__name__}("), "only the one that dataclass makes"
    assert meanings(cls).keys() >= {field.name for field in fields(cls)}


@pytest.mark.parametrize(
    ("registry", "name"), [(r, name) for r, parts in REGISTRIES.items() for name in parts]
)
def test_part_comes_back_from_its_own_options(registry: str, name: str) -> None:
    parts = REGISTRIES[registry]
    entry = Registry("kind", parts)
    given = entry.plain(usual(parts[name]))
    assert given == {"kind": name, **plain(usual(parts[name]))}
    faults: list[str] = []
    assert entry.build(given, "part", faults) == usual(parts[name]), faults


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_part_stands_twice(registry: str) -> None:
    parts = list(REGISTRIES[registry].values())
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_names_are_plain_words(registry: str) -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in REGISTRIES[registry])


# ----------------------------------------------------------------- COMBINE and OUTER


@pytest.mark.parametrize("name", COMBINE)
@pytest.mark.parametrize("hospitals", [1, 2, 3, 10])
def test_combine(name: str, hospitals: int) -> None:
    """It gives a result for as many updates as it says, and fails for fewer."""
    rule = COMBINE[name]()
    if rule.unsuited(hospitals) is not None:
        with pytest.raises(TooFewError):
            rule(np.ones((hospitals, 20), np.float32))
        return
    updates = np.random.default_rng(0).normal(size=(hospitals, 20)).astype(np.float32)
    kept = updates.copy()
    updates.setflags(write=False)
    found = COMBINE[name]()(updates)
    assert (found.shape, found.dtype) == ((20,), np.float32)
    assert np.isfinite(found).all()
    assert found.tobytes() == COMBINE[name]()(kept).tobytes()
    same = np.repeat(kept[:1], hospitals, axis=0)
    np.testing.assert_allclose(COMBINE[name]()(same), kept[0], rtol=1e-6)


@pytest.mark.parametrize("name", OUTER)
def test_outer(name: str) -> None:
    outer = OUTER[name]()
    theta, combined = np.linspace(-1, 1, 20, dtype=np.float32), np.full(20, 0.5, np.float32)
    theta.setflags(write=False)
    combined.setflags(write=False)
    state = outer.init(theta)
    paths = []
    for _ in range(2):
        now, kept = theta, state
        for number in range(3):
            for vector in kept.values():
                vector.setflags(write=False)
            now, kept = outer.step(now, combined, kept, number / 3)
            assert (now.shape, now.dtype) == (theta.shape, np.float32)
            assert kept.keys() == state.keys()
            assert all(vector.dtype == np.float32 for vector in kept.values())
        paths.append(now.tobytes())
    assert paths[0] == paths[1]
    assert paths[0] != theta.tobytes()
