"""What every mechanism must keep: what a session gives, what it refuses, and what it seals."""

import re

import numpy as np
import pytest
import torch

from metaward.privacy import MECHANISMS, UNITS, Mark, Mechanism, Release, Scores
from metaward.privacy.wire import decode_answer, encode_answer
from tests.contracts.requests import MASK, PHI, X, Y, every_mechanism, small_session, squares
from tests.mechanisms import protecting
from tests.server.small import small

# ------------------------------------------------------------------------------- sessions


@every_mechanism
def test_session_types_and_untouched_inputs(mechanism: Mechanism) -> None:
    session, batch = small_session(mechanism, 1)
    phi, mask = PHI.clone(), MASK.clone()
    gradient, loss = session.gradient(squares, [(phi, batch)], "support", mask)
    assert (gradient.shape, gradient.dtype) == (phi.shape, phi.dtype)
    assert torch.isfinite(gradient).all()
    assert gradient[~mask].tolist() == [0.0]
    assert (gradient[mask] != 0).all()
    assert loss.shape == ()
    assert not gradient.requires_grad
    assert not loss.requires_grad
    assert type(session.raw) is bool
    assert session.trained == mechanism.trained
    for now, before in ((phi, PHI), (batch.x, X), (batch.y, Y), (mask, MASK)):
        assert torch.equal(now, before)
    assert phi.grad is None
    assert batch.rows.tolist() == [0, 1, 2, 3, 4]


@every_mechanism
def test_combine_gives_one_direction(mechanism: Mechanism) -> None:
    session, _ = small_session(mechanism, 1)
    given = torch.tensor([[1.0, 2.0, 3.0]])
    kept = given.clone()
    found = session.combine(list(given))
    assert (found.shape, found.dtype) == ((3,), torch.float32)
    assert torch.isfinite(found).all()
    assert torch.equal(given, kept)


@every_mechanism
def test_means_where_records_are_not_free(mechanism: Mechanism) -> None:
    """Only sessions that are not raw are asked for them; others must still say the truth."""
    session, batch = small_session(mechanism, 1)
    found = session.mean([(lambda x, y: x * y, batch)], "support", 4)
    assert (found.shape, found.dtype) == ((4,), torch.float32)
    assert torch.isfinite(found).all()
    assert not found.requires_grad
    if session.raw:
        torch.testing.assert_close(found, (X * Y[:, None]).mean(dim=0))


@every_mechanism
def test_nothing_is_served_that_was_not_charged(mechanism: Mechanism) -> None:
    """A second sum, where one was paid for; raw sessions are charged for all that they hold."""
    session, batch = small_session(mechanism, 1)
    session.gradient(squares, [(PHI, batch)], "support", MASK)
    if session.raw:
        return
    with pytest.raises(RuntimeError, match="was not charged"):
        session.gradient(squares, [(PHI, batch)], "support", MASK)
    moved = batch._replace(rows=np.arange(1, 6))
    with pytest.raises(RuntimeError, match="was not charged"):
        session.mean([(lambda x, y: x, moved)], "support", 4)


def test_tasks_are_combined_once_and_as_many_as_were_charged() -> None:
    session, _ = small_session(protecting("task"), 1)
    with pytest.raises(RuntimeError, match="2 tasks, but 1 were charged"):
        session.combine([PHI, PHI])
    session.combine([PHI])
    with pytest.raises(RuntimeError, match="1 tasks, but 0 were charged"):
        session.combine([PHI])


# ------------------------------------------------------------------------- what is sealed


@every_mechanism
def test_what_is_sealed_can_be_sent(mechanism: Mechanism) -> None:
    mark = Mark("0123456789abcdef", 4, "00" * 32)
    update = torch.linspace(-0.1, 0.1, 6, dtype=torch.float64)
    kept = update.clone()
    release = mechanism.release("a", 3, update, torch.tensor(0.25), mark)
    assert type(release) is Release
    assert (release.hospital, release.round, release.mark) == ("a", 3, mark)
    assert (release.update.shape, release.update.dtype) == ((6,), np.float32)
    np.testing.assert_array_equal(release.update, kept.float().numpy())
    assert torch.equal(update, kept)
    update += 1
    assert release.update[0] == np.float32(-0.1), "a view of the hospital's own tensor"
    scores = mechanism.scores("a", 3, ("hits",), [[0.25, 0.5]], [[0.75, 1.0]])
    assert type(scores) is Scores
    assert scores.names == ("hits",)
    assert (scores.before.tolist(), scores.after.tolist()) == ([[0.25, 0.5]], [[0.75, 1.0]])
    for answer in (release, scores):
        assert type(decode_answer(encode_answer(answer))) is type(answer)


@every_mechanism
def test_the_training_loss_leaves_under_none_only(mechanism: Mechanism) -> None:
    release = mechanism.release("a", 3, torch.zeros(2), torch.tensor(0.25), None)
    assert release.loss == (None if mechanism.unit.protected else 0.25)
    assert release.mark is None


@every_mechanism
def test_it_says_what_it_protects(mechanism: Mechanism) -> None:
    assert MECHANISMS[mechanism.name] is type(mechanism)
    assert UNITS[mechanism.unit.name] is mechanism.unit
    assert all(text.endswith(".") for text in mechanism.treatment)
    assert len(mechanism.claim.split()) > 5
    assert "\n" not in mechanism.claim
    assert ("NO PRIVACY" in mechanism.claim) == (mechanism.budget is None)
    assert (mechanism.clip is None) == (mechanism.budget is None)
    if mechanism.budget is not None:
        assert f"{mechanism.budget.epsilon:g}" in mechanism.claim
        assert f"{mechanism.budget.delta:g}" in mechanism.claim
        assert re.search(r"right at most (100\.0|[5-9]\d\.\d+) % of the time", mechanism.claim)


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ("epsilon: 1.0", "55.4"),
        ("epsilon: 8.0", "79.8"),
        ("epsilon: 8.0, sampling_rate: 0.5", "99.97"),
        ("epsilon: 1.0, sampling_rate: 0.5", "73.2"),
    ],
)
def test_the_claim_says_what_an_attacker_may_reach(options: str, right: str) -> None:
    """Phi(mu / 2), or e^epsilon / (1 + e^epsilon) up to delta where units are drawn."""
    run = small(
        f"privacy={{mechanism: sums, unit: record, delta: 1.0e-5, {options}}}",
        "client.schedule=passes",
    )
    assert f"is right at most {right} % of the time" in run.privacy.claim
