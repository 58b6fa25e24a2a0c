"""The privacy report where something is wrong, or where the server has no ledgers."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from math import inf, sqrt
from pathlib import Path

import pytest
import torch

from metaward.options import ConfigError
from metaward.privacy.event import Mark
from metaward.privacy.ledger import Ledger
from metaward.privacy.report.page import page
from metaward.server.folder import Folder
from metaward.strategies.marks import SeenMark
from tests.server.office.report.report_desk import (
    NO_BASELINES,
    deployed,
    executed,
    ledger_of,
    named,
    of_folder,
    phantom,
    saved,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    torch.set_num_threads(1)
    return executed(phantom(NO_BASELINES), tmp_path_factory.mktemp("wards") / "run")


@pytest.fixture
def folder(original: Folder, tmp_path: Path) -> Folder:
    """A copy of the run, to be spoiled."""
    return Folder(Path(shutil.copytree(original.path, tmp_path / "copy")))


# ----------------------------------------------------------------------- wrong ledgers


def change_a_row(path: Path) -> None:
    with sqlite3.connect(path) as db:
        (trigger,) = db.execute("SELECT sql FROM sqlite_master WHERE name='entry_stays'").fetchone()
        db.execute("DROP TRIGGER entry_stays")
        (body,) = db.execute("SELECT body FROM entry WHERE seq = 4").fetchone()
        assert b'"round":2' in body
        db.execute(
            "UPDATE entry SET body = ? WHERE seq = 4",
            (body.replace(b'"round":2', b'"round":7'),),
        )
        db.execute(trigger)
    db.close()


def spoil(path: Path) -> None:
    path.write_bytes(b"no ledger" * 1000)


def remove(path: Path) -> None:
    path.unlink()


def set_back(path: Path) -> None:
    """The last charge and its reply are gone; what remains is a perfect chain."""
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM entry WHERE seq > 3")
    db.close()


@pytest.mark.parametrize(
    ("harm", "concern", "unlimited"),
    [
        (change_a_row, "the chain of its ledger is broken: row 4 was changed", False),
        (spoil, "epsilon is unlimited", True),
        (remove, "epsilon is unlimited", True),
        (set_back, "its ledger went back behind an entry that the server has a mark of", False),
    ],
)
def test_a_wrong_ledger_is_what_the_verdict_speaks_of(
    folder: Folder, harm: Callable[[Path], None], concern: str, unlimited: bool
) -> None:
    harm(ledger_of(folder, "phantom-02"))
    report = of_folder(folder)
    assert report.verdict.headline == "Not ready to be signed"
    assert any(c.startswith("phantom-02") and concern in c for c in report.verdict.concerns)
    assert not any(c.startswith("phantom-01") for c in report.verdict.concerns)
    hospital = named(report, "phantom-02")
    assert (hospital.spent.epsilon == inf) == unlimited
    assert hospital.ledger is not None
    assert hospital.ledger.chain == "broken"
    assert concern in page(report)


# ---------------------------------------------------------------------- at the server


def test_a_server_without_ledgers_counts_an_upper_bound(folder: Folder, original: Folder) -> None:
    deployed(folder)
    report = of_folder(folder)
    assert report.run.setting == "deployment"
    assert report.mechanism.noise_source == "operating system"
    assert report.accounting.error == "never below the truth"
    assert report.accounting.cross_check is not None
    assert "No ledger is here" in report.mechanism.words
    for hospital, true in zip(report.hospitals, saved(original).hospitals, strict=True):
        assert true.spent.epsilon <= hospital.spent.epsilon <= 8.0
        assert (hospital.counted_from, hospital.participations) == ("run", 2)
        assert hospital.ledger is not None
        assert hospital.ledger.chain == "not checked"
        assert hospital.units == 60  # as the configuration says
    kinds = {s.kind: s.noise_multiplier for s in report.mechanism.sums}
    for one in saved(original).mechanism.sums:
        assert 0 < kinds[one.kind] <= one.noise_multiplier * (1 + 1e-9)
    assert report.verdict.level == "unchecked"
    assert report.verdict.headline != "Protected"
    text = " ".join(page(report).split())
    assert "No ledger is here" in text
    assert 'class="verdict unchecked"' in text
    assert "Most spent, at most" in text
    assert "0 of 3</b>3 not here, not checked" in text
    assert "no ledger here says when a finite epsilon was spent" not in text
    assert "the ledgers, which say when epsilon was spent, lie at the hospitals" in text


def test_a_round_that_was_charged_twice_counts_twice(folder: Folder) -> None:
    deployed(folder)
    once = named(of_folder(folder), "phantom-01")
    last = next(s for s in reversed(folder.marks().seen) if s.hospital == "phantom-01")
    again = SeenMark(last.hospital, last.run, last.round, Mark("l", 99, "a" * 64))
    folder.marks().note([again])
    twice = named(of_folder(folder), "phantom-01")
    assert once.mu is not None
    assert twice.mu == pytest.approx(sqrt(2) * once.mu)


def test_with_the_hospitals_ledgers_the_server_knows_the_numbers(
    folder: Folder, original: Folder
) -> None:
    paths = deployed(folder)
    report = of_folder(folder, list(paths.values()))
    wanted = [(h.mu, h.spent, h.units, h.ledger) for h in saved(original).hospitals]
    assert [(h.mu, h.spent, h.units, h.ledger) for h in report.hospitals] == wanted
    assert report.accounting.error == "exact"
    assert report.verdict.headline == "Protected"


def test_a_ledger_of_somebody_else_is_refused(folder: Folder, tmp_path: Path) -> None:
    other = Ledger.create(tmp_path / "other.sqlite", "Elsewhere")
    with pytest.raises(ConfigError, match=r"ledger of 'Elsewhere'.*no training hospital"):
        of_folder(folder, [other.path])


# ----------------------------------------------------------------------------- evidence

AUDIT = {
    "at": "2026-03-02T08:15:30Z",
    "mu_lower": 9.5,
    "mu_claimed": 1.5,
    "confidence": 0.95,
    "faults": [],
}


def test_an_audit_in_the_folder_is_evidence(folder: Folder) -> None:
    folder.write_json("audit.json", AUDIT)
    report = of_folder(folder)
    assert report.evidence.audit is not None
    assert report.evidence.audit.mu_lower == 9.5
    assert report.verdict.level == "attention"


def test_a_damaged_audit_is_no_evidence(folder: Folder) -> None:
    folder.write_json("audit.json", AUDIT | {"confidence": 2})
    with pytest.raises(ConfigError, match=r"audit\.json.*is not an audit"):
        of_folder(folder)


def test_refusals_are_counted_once(folder: Folder) -> None:
    """The ledger notes it, and the server hears of it: the same refusals."""
    ledger = Ledger.open(ledger_of(folder, "phantom-03"))
    key = f"{folder.id}.fomaml"
    for _ in range(33):  # rows for the first 20 and the 32nd
        ledger.refuse("policy-steps", "too many", key, 2)
    ledger.refuse("policy-steps", "another run", "other.fomaml", 1)
    rows = [row | {"rejected": {"phantom-03": "policy-steps"}} for row in folder.rows()]
    folder.rewind(0)
    for row in rows:
        folder.add(row)
    found = {r.code: r.count for r in named(of_folder(folder), "phantom-03").refusals}
    assert found == {"policy-steps": 32}
