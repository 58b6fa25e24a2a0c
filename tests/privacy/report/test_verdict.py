"""Figures and verdict: known odds, sound sums, and every fault a concern."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metaward.privacy import UNITS
from metaward.privacy.report import promise
from metaward.privacy.report.document import PrivacyReport
from metaward.privacy.report.sections import AtDelta, Audit, CrossCheck, Gap
from metaward.privacy.report.verdict import advantage
from tests.privacy.report.report_examples import (
    ACCOUNTING,
    DELTA,
    DEPLOYED,
    EVIDENCE,
    EXAMPLES,
    MECHANISM,
    REAL,
    deployment,
    epsilon,
    hospital,
    report,
    simulation,
    time,
)

A = hospital("A", 1.0)


SHIPPED, OTHER = "a1" * 32, "b2" * 32
"""Hashes of bundles of code."""


@pytest.mark.parametrize(
    ("shipped", "let_in", "wrong"),
    [
        ((), (), False),
        ((), (OTHER,), False),
        ((SHIPPED,), (), False),
        ((SHIPPED,), (SHIPPED,), False),
        ((SHIPPED, OTHER), (SHIPPED, OTHER), False),
        ((SHIPPED,), (OTHER,), True),
        ((SHIPPED,), (SHIPPED, OTHER), True),
    ],
)
def test_code_that_the_server_did_not_ship_is_a_concern(
    shipped: tuple[str, ...], let_in: tuple[str, ...], wrong: bool
) -> None:
    evidence = replace(EVIDENCE, bundles=shipped)
    made = report(
        run=DEPLOYED, mechanism=REAL, evidence=evidence, hospitals=(replace(A, code=let_in),)
    )
    found = [text for text in made.verdict.concerns if "bundle of code" in text]
    assert len(found) == wrong
    assert all(OTHER[:16] in text and text.startswith("A: ") for text in found)
    assert (made.verdict.level == "attention") == wrong


# ------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("eps", "mu", "accuracy"), [(1, 0.2681, 55.3), (3, 0.7191, 64.0), (8, 1.666, 79.8)]
)
def test_attack_accuracy_of_known_epsilons(eps: float, mu: float, accuracy: float) -> None:
    assert epsilon(mu) == pytest.approx(eps, rel=2e-3)
    assert 50 * (1 + advantage(mu, ())) == pytest.approx(accuracy, abs=0.05)


def test_attack_accuracy_is_what_the_best_attack_reaches() -> None:
    """Telling N(0, 1) from N(mu, 1) by the threshold mu / 2 is the best test there is.

    2e5 guesses have a standard deviation of at most 0.5 / sqrt(2e5) = 0.0011; four of them.
    """
    draw = np.random.default_rng(3).normal(size=200_000)
    for mu in (0.3, 1.0, 2.5):
        reached = float(np.mean(draw < mu / 2))  # of one world; the other is its mirror image
        assert (1 + advantage(mu, ())) / 2 == pytest.approx(reached, abs=4 * 0.0011)
        assert abs((1 + advantage(1.2 * mu, ())) / 2 - reached) > 4 * 0.0011


def test_without_mu_the_bound_from_epsilon_holds_and_is_the_best_of_several() -> None:
    for mu in (0.2, 1.0, 2.0):
        at = [AtDelta(delta, epsilon(mu, delta)) for delta in (1e-3, 1e-5, 1e-6)]
        exact = advantage(mu, ())
        assert exact < advantage(None, tuple(at)) == advantage(None, (at[0],)) < 1
    # randomised response with e^eps = 3 tells the truth 3 times in 4: advantage 1/2
    assert advantage(None, (AtDelta(1e-12, math.log(3)),)) == pytest.approx(0.5)
    assert advantage(None, (AtDelta(0.1, 0.0),)) == pytest.approx(0.1)
    assert advantage(None, (AtDelta(DELTA, math.inf),)) == advantage(None, ()) == 1
    assert advantage(math.inf, ()) == 1


def test_federation_and_risks() -> None:
    made = report(hospitals=(hospital("A", 0.3), hospital("B", 0.4, units=50)))
    assert made.federation.maximum_hospital == "B"
    assert made.federation.maximum == epsilon(0.4)
    assert made.federation.total == pytest.approx(epsilon(0.3) + epsilon(0.4))
    assert made.federation.total_delta == pytest.approx(2e-5)
    assert made.federation.units == 350
    # squares of mu add up: 0.3^2 + 0.4^2 = 0.5^2
    assert made.federation.advantage_together == pytest.approx(advantage(0.5, ()))
    assert made.risks[1].left == pytest.approx(8 - epsilon(0.4))
    assert made.risks[1].delta_times_units == pytest.approx(5e-4)


def test_a_person_everywhere_without_mu() -> None:
    found = [replace(hospital(name, 0.3), mu=None) for name in "AB"]
    each = advantage(None, found[0].epsilons)
    made = report(hospitals=tuple(found))
    assert made.federation.advantage_together == pytest.approx(2 * each)


# ------------------------------------------------------------------------------- verdict


def test_the_verdict_in_words() -> None:
    made = deployment().verdict
    assert (made.level, made.headline) == ("protected", "Protected")
    assert made.sentence == (
        "Every patient of the 2 training hospitals is protected: nobody who sees everything that "
        "left can tell whether a given patient took part better than 70.1 % of the time "
        "(50 % is a coin)."
    )
    assert made.concerns == made.notes == ()


def test_a_simulation_says_that_its_noise_was_seeded() -> None:
    made = simulation().verdict
    assert made.headline == "A deployment would be protected"
    assert "would be protected" in made.sentence
    assert "drawn from a seed" in made.notes[0]
    assert "would claim" in made.notes[0]


def test_learners_that_were_trained_beside_it_are_in_no_number_and_that_is_said() -> None:
    beside = (*promise.NOT_COVERED, Gap("baselines", "FedAvg, trained on the same records."))
    assert "in none of the numbers" in deployed(not_covered=beside).verdict.notes[0]
    assert deployed().verdict.notes == ()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("failed", "The run failed: 12 of 12 rounds are done."),
        ("stopped", "The run was stopped: 12 of 12 rounds are done."),
        ("running", "The run goes on: 12 of 12 rounds are done."),
    ],
)
def test_a_run_that_did_not_finish_says_so(status: Any, said: str) -> None:
    run = replace(DEPLOYED, status=status, rounds=12, rounds_planned=12)
    assert deployed(run=run).verdict.notes == (said,)


@pytest.mark.parametrize("unit", ["record", "patient", "task", "hospital"])
def test_who_ships_the_program_is_among_the_trusted(unit: str) -> None:
    """A hospital of Flower's runs what the server sends, and no page may be silent about it."""
    promised = promise.guarantee(UNITS[unit], DELTA)
    assert "whoever ships the program" in promised.trust
    assert "The server, with the agreed code" in {one.who for one in promised.observers}


def test_no_mechanism_says_no_privacy() -> None:
    made = EXAMPLES["unprotected"]().verdict
    assert (made.level, made.headline, made.attack_accuracy) == ("none", "NO PRIVACY", 1.0)


def test_a_large_epsilon_is_weak() -> None:
    above, below = (
        report(hospitals=(replace(hospital("A", mu), budget=50.0),)).verdict for mu in (2.1, 1.9)
    )
    assert epsilon(2.1) > 10 > epsilon(1.9)
    assert (above.level, below.level) == ("weak", "protected")
    assert "only weakly" in above.headline


def test_a_hospital_level_promise_names_the_trusted_server() -> None:
    made = report("hospital", hospitals=(A,)).verdict
    assert "Every update of the training hospital" in made.sentence
    assert any("has to be trusted" in note for note in made.notes)


def deployed(**parts: Any) -> PrivacyReport:
    given = {
        "run": DEPLOYED,
        "hospitals": (A,),
        "mechanism": replace(MECHANISM, noise_source="operating system"),
    }
    return report(**{**given, **parts})


def at_a(**changed: Any) -> dict[str, Any]:
    return {"hospitals": (replace(A, **changed),)}


LEDGER = A.ledger


@pytest.mark.parametrize("mu", [1.0, 2.1])
def test_ledgers_that_were_not_looked_at_are_no_protection_to_sign(mu: float) -> None:
    """As at a server: what it counts is an upper bound, which the hospitals' ledgers must bear."""
    far = replace(hospital("A", mu), counted_from="run", history=(), budget=50.0)
    assert far.ledger is not None
    far = replace(far, ledger=replace(far.ledger, chain="not checked", high_water="not checked"))
    made = deployed(hospitals=(far, replace(A, name="B"))).verdict
    assert made.level == "unchecked"
    assert made.headline.endswith("by the server's account; ledgers not checked")
    assert ("only weakly" in made.headline) == (mu > 2)
    assert any("The ledgers of A are not here" in note for note in made.notes)
    alone = deployed(hospitals=(far,)).verdict
    assert any(note.startswith("The ledgers are not here") for note in alone.notes)
    assert not any("ledgers" in note for note in deployed().verdict.notes)
    assert deployed().verdict.level == "protected"


assert LEDGER
ENDLESS = tuple(AtDelta(at.delta, math.inf) for at in A.epsilons)
CONCERNS: dict[str, dict[str, Any]] = {
    "A: epsilon 4.38 is above its budget of 4.37": at_a(budget=4.37),
    "A: delta 0.00001 is too large for 100000 units": at_a(units=100_000),
    "A: it keeps no ledger": at_a(ledger=None),
    "A: the chain of its ledger is broken: entry 3": at_a(
        ledger=replace(LEDGER, chain="broken", faults=("entry 3",))
    ),
    "A: its ledger went back": at_a(ledger=replace(LEDGER, high_water="went back")),
    "A: its records left without": at_a(
        mu=math.inf, spent=AtDelta(DELTA, math.inf), epsilons=ENDLESS
    ),
    "drawn from a seed": {"mechanism": MECHANISM},
    "may lie below the truth": {"accounting": replace(ACCOUNTING, error="either side")},
    "A second accountant finds more": {
        "accounting": replace(
            ACCOUNTING,
            cross_check=CrossCheck.of("PLD", "A", A.spent.epsilon, 1.02 * A.spent.epsilon),
        )
    },
    "the mechanism is faulty": {
        "evidence": replace(EVIDENCE, audit=Audit(time(1), 1.5, 1.4, 0.95, ()))
    },
    "The audit found a fault: noise repeats": {
        "evidence": replace(EVIDENCE, audit=Audit(time(1), 1.2, 1.4, 0.95, ("noise repeats",)))
    },
}


def test_a_sound_deployment_raises_no_concern() -> None:
    assert deployed().verdict.level == "protected"
    assert deployed(**at_a(budget=A.spent.epsilon)).verdict.level == "protected"


@pytest.mark.parametrize("words", CONCERNS)
def test_each_fault_is_a_concern_and_stops_the_signature(words: str) -> None:
    made = deployed(**CONCERNS[words]).verdict
    assert len(made.concerns) == 1
    assert words in made.concerns[0]
    assert (made.level, made.headline) == ("attention", "Not ready to be signed")
    assert "Do not rely on this" in made.sentence


def test_a_concern_names_its_hospital_to_the_letter() -> None:
    """The words are a template: it neither escapes a name, nor takes one for the end of a line."""
    name = "A  & <b>\u2028c\x85d"
    made = deployed(**at_a(name=name, ledger=None, budget=4.37)).verdict
    assert made.concerns == (
        f"{name}: epsilon 4.38 is above its budget of 4.37.",
        f"{name}: it keeps no ledger, so nothing stops a later run from spending again.",
    )
