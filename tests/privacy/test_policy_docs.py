"""The privacy pages agree with the code: codes, keys, the policy they show, their figures."""

import re
from dataclasses import fields
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
import yaml

from metaward.options import build
from metaward.privacy.accounting.gdp import epsilon as epsilon_of_mu
from metaward.privacy.accounting.gdp import mu_of
from metaward.privacy.asked import Asked
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.ledger.errors import CODES
from metaward.privacy.policy import Policy
from metaward.privacy.release import POLICY_CODES

DOCS = Path(__file__).resolve().parents[2] / "docs"
USER = (DOCS / "privacy.md").read_text()
THREATS = (DOCS / "threat-model.md").read_text()
NORMAL = NormalDist()


def row(text: str, first: str) -> list[str]:
    """The cells of the one table row that begins with ``first``."""
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_every_code_of_a_refusal_is_explained() -> None:
    assert {*POLICY_CODES, *CODES, "ledger-rewound"} - set(re.findall(r"`([a-z-]+)`", USER)) == {
        "ledger-exists"  # met by `ledger init` alone, never by a request
    }


def test_no_code_is_invented() -> None:
    named = set(re.findall(r"`((?:policy|ledger|budget)-[a-z]+)`", USER + THREATS))
    assert named <= {*POLICY_CODES, *CODES, "ledger-rewound"}


def test_every_key_of_a_policy_stands_in_the_table() -> None:
    table = USER[USER.index("| key | a request is refused") :].split("\n\n")[0]
    first = {key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line[:30])}
    assert first == {field.name for field in fields(Policy)}


def test_the_unprotected_policy_on_the_page_is_one() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", USER, re.DOTALL)
    (shown,) = [block for block in blocks if block.startswith("hospital:")]
    faults: list[str] = []
    policy = build(Policy, yaml.safe_load(shown), "", faults)
    assert faults == []
    assert policy.budget() is None
    policy.admit(Asked("train", "any", "none", "none", 1000, 1, 100, 100, metrics=("loss",)))


@pytest.mark.parametrize("epsilon", [1, 3, 8])
def test_the_attackers_figures_are_right(epsilon: int) -> None:
    """mu-GDP: right at even odds Phi(mu/2); true positives at false ones f: Phi(mu + Phi^-1(f))."""
    mu = mu_of(epsilon, 1e-5)
    _, right, found = row(THREATS, str(epsilon))
    assert right == f"{100 * NORMAL.cdf(mu / 2):.1f} %"
    assert found == f"{100 * NORMAL.cdf(mu + NORMAL.inv_cdf(0.01)):.1f} %"


def test_what_a_budget_of_one_unit_can_be_for_another() -> None:
    """Taking one record out of a clipped whole can move it twice as far as its unit pays for."""
    pair = torch.tensor([[10.0, 0.0], [-5.0, 0.0]])
    group, label = torch.zeros(2, dtype=torch.int64), torch.zeros(2)
    rest = pair * torch.tensor([[0.0], [1.0]])
    sums = [clipped_sum(lambda x, _: x, x, label, group, 1, 1.0) for x in (pair, rest)]
    moved = float((sums[0] - sums[1]).norm())
    assert moved == pytest.approx(2.0)
    cost = epsilon_of_mu(moved * mu_of(8.0, 1e-5), 1e-5)
    assert f"can be an epsilon of {cost:.1f} for one of its records" in " ".join(USER.split())


def test_the_figures_for_several_records_of_one_person_are_right() -> None:
    """k records: the sum moves k times as far, so k * mu (Dong, Roth, Su 2019, group privacy)."""
    mu = mu_of(3, 1e-5)
    for count, word in ((2, "two"), (5, "five")):
        share = f"{100 * NORMAL.cdf(count * mu / 2):.1f} %"
        assert re.search(rf"{word}\b[^.]*? {re.escape(share)}", THREATS), (word, share)
