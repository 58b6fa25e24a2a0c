"""What may leave a hospital, and the control mechanism that protects nothing and says so."""

from collections import Counter
from dataclasses import FrozenInstanceError, fields
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.privacy import (
    REFUSALS,
    Answer,
    Attendance,
    Batch,
    Mark,
    Opening,
    OpenSession,
    Refusal,
    Release,
    Scores,
    Session,
    Use,
)
from metaward.privacy.mechanisms.none import NoPrivacy
from metaward.privacy.noise import SeededNoise


def test_the_answers_are_these_four_and_hold_these_fields_only() -> None:
    """A new field is a new thing that leaves the hospital: it must be put here by hand."""
    allowed = {
        Release: ["hospital", "round", "update", "loss", "mark"],
        Scores: ["hospital", "round", "names", "before", "after"],
        Attendance: ["hospital", "index"],
        Refusal: ["code"],
        Mark: ["ledger", "sequence", "head"],
    }
    assert {*get_args(Answer), Mark} == allowed.keys()
    for cls, names in allowed.items():
        assert [field.name for field in fields(cls)] == names


def test_answers_cannot_be_changed_after_they_were_sealed() -> None:
    release = Release("a", 1, np.zeros(2, np.float32))
    assert (release.loss, release.mark) == (None, None)
    with pytest.raises(FrozenInstanceError):
        release.update = np.ones(2, np.float32)  # type: ignore[misc]


def test_refusals_are_words_without_anything_of_a_patient() -> None:
    assert {"bad-request", "data-refused", "failed"} <= REFUSALS
    assert all(code.replace("-", "").isalpha() and code.islower() for code in REFUSALS)


# ---------------------------------------------------------------------------- no privacy


def cubes(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """One loss a record: (phi . x)^3 - y."""
    return (x @ phi) ** 3 - y


def session() -> Session:
    opened = NoPrivacy().session(Opening([], {"open": 0.0}, np.arange(2), SeededNoise(1)))
    assert type(opened) is OpenSession
    return opened


def test_gradient_by_hand() -> None:
    """phi = (1, 2), records (1, 0) and (1, 1): losses 1 - 0 and 27 - 3, mean 25/2.
    d/dphi (phi . x)^3 = 3 (phi . x)^2 x: (3, 0) and (27, 27), mean (15, 13.5)."""
    phi, x = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    batch = Batch(x, torch.tensor([0.0, 3.0]), np.arange(2))
    gradient, loss = session().gradient(cubes, [(phi, batch)], "support", torch.ones(2) > 0)
    assert gradient.tolist() == [15.0, 13.5]
    assert float(loss) == 12.5
    assert not phi.requires_grad
    assert phi.grad is None


def test_gradient_ignores_a_graph_that_phi_brings_along() -> None:
    root = torch.ones(2, requires_grad=True)
    batch = Batch(torch.eye(2), torch.zeros(2), np.arange(2))
    gradient, _ = session().gradient(cubes, [(root * 2, batch)], "query", torch.ones(2) > 0)
    assert gradient.tolist() == [6.0, 6.0]
    assert root.grad is None


def test_update_leaves_as_it_is() -> None:
    update = torch.tensor([1e30, -1e-30, 0.5], dtype=torch.float64, requires_grad=True)
    release = NoPrivacy().release("a", 4, update, torch.tensor(0.25, requires_grad=True), None)
    assert release.update.tolist() == np.array([1e30, -1e-30, 0.5], np.float32).tolist()
    assert (release.hospital, release.round, release.loss) == ("a", 4, 0.25)


def test_a_sealed_release_is_no_longer_the_hospitals_tensor() -> None:
    update = torch.zeros(3)
    release = NoPrivacy().release("a", 4, update, torch.tensor(0.25), None)
    update += 1
    assert release.update.tolist() == [0.0, 0.0, 0.0]


def test_scores_leave_as_they_are() -> None:
    scores = NoPrivacy().scores("a", 4, ("hits", "depth"), [[0.25, 0.5]] * 2, [[0.75, 1.0]] * 2)
    assert (scores.hospital, scores.round, scores.names) == ("a", 4, ("hits", "depth"))
    assert scores.before.tolist() == [[0.25, 0.5]] * 2
    assert scores.after.tolist() == [[0.75, 1.0]] * 2


def test_it_says_that_it_protects_nothing() -> None:
    mechanism = NoPrivacy()
    assert mechanism.claim.startswith("NO PRIVACY")
    assert "epsilon is infinite" in mechanism.claim
    uses = mechanism.uses(list, [[4, 2], [2, 7]])
    assert uses == [Use("open", (2, 4, 7))], "every record of the round, each once"
    assert mechanism.noise_multipliers([Counter(open=9)]) == {"open": 0.0}
    assert (mechanism.budget, mechanism.clip, mechanism.sampling_rate) == (None, None, 1.0)


def test_tasks_of_different_sizes_weigh_as_their_records_do() -> None:
    """Gradient of (phi . x)^3 at phi = (1, 0): 3 phi_1^2 x = (3, 0) for x = (1, 0), at (2, 0) it is
    (12, 0). One record at the first, two at the second: (3 + 12 + 12) / 3 = 9; losses 1 and 8."""
    one, two = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    at = [
        (torch.tensor([1.0, 0.0]), Batch(one, torch.zeros(1), np.arange(1))),
        (torch.tensor([2.0, 0.0]), Batch(two, torch.zeros(2), np.arange(1, 3))),
    ]
    gradient, loss = session().gradient(cubes, at, "query", torch.ones(2) > 0)
    assert gradient.tolist() == [9.0, 0.0]
    assert float(loss) == pytest.approx(17 / 3)
