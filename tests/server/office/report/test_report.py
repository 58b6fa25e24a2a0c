"""The privacy report of real runs: true to the raw ledgers, written however a run ends."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from math import inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metaward.client import work
from metaward.client.charging import plan
from metaward.client.errors import DataError
from metaward.privacy.accounting import allows, gdp
from metaward.privacy.event import Charge
from metaward.privacy.ledger import Ledger
from metaward.privacy.report.document import PrivacyReport
from metaward.server.folder import Folder
from metaward.server.office.report import touches as report_words
from metaward.server.run import Observer
from metaward.server.version import code_version
from metaward.strategies.quorum import QuorumError
from metaward.strategies.roster import RosterError
from tests.mechanisms import protecting
from tests.server.office.privacy_desk import private
from tests.server.office.report.report_desk import (
    NO_BASELINES,
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
    return executed(phantom(), tmp_path_factory.mktemp("wards") / "run")


# --------------------------------------------------------------- true to the raw ledgers


def raw_events(path: Path) -> dict[str, Counter[float]]:
    """Sums at each noise multiplier that each unit paid for, from the chain's own rows."""
    found: dict[str, Counter[float]] = {}
    names: list[str] = []
    for charge in Ledger.open(path).history().charges:
        names += charge.new
        for payment in charge.payments:
            for unit in payment.units:
                for event in payment.events:
                    spent = found.setdefault(names[unit - 1], Counter())
                    spent[event.noise_multiplier] += event.count
    return found


def pld_epsilon(spent: Counter[float], delta: float) -> float:
    """The same sums by Google's accountant, straight from its own functions."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    parts = [
        pld.from_gaussian_mechanism(sigma, value_discretization_interval=1e-3).self_compose(count)
        for sigma, count in spent.items()
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.compose(part)
    return float(whole.get_epsilon_for_delta(delta))


def test_the_report_is_written_and_keeps_to_the_published_format(original: Folder) -> None:
    report = saved(original)
    assert report.verdict.headline == "A deployment would be protected"
    assert report.verdict.concerns == ()
    run = report.run
    assert (run.name, run.id, run.seed) == ("wards", original.id, 3)
    assert (run.setting, run.status, run.rounds, run.rounds_planned) == (
        "simulation",
        "finished",
        2,
        2,
    )
    assert run.started <= (run.finished or "")
    assert run.evaluation_hospitals == 1
    assert report.guarantee.cap_per_person is None
    assert report.evidence.code_version == code_version()
    result = json.loads((original.path / "result.json").read_text())
    assert report.evidence.config_sha256 == result["config_sha256"]


def test_numbers_are_those_of_another_accountant_on_the_raw_charges(original: Folder) -> None:
    report = saved(original)
    assert [h.name for h in report.hospitals] == ["phantom-01", "phantom-02", "phantom-03"]
    for hospital in report.hospitals:
        raw = raw_events(ledger_of(original, hospital.name))
        different = {tuple(sorted(c.items())): c for c in raw.values()}.values()
        worst = max(different, key=lambda c: sum(n / s**2 for s, n in c.items()))
        assert hospital.mu == pytest.approx(sqrt(sum(n / s**2 for s, n in worst.items())))
        for at in (hospital.spent, *hospital.epsilons):
            assert at.epsilon == pytest.approx(pld_epsilon(worst, at.delta), rel=0.01)
        assert hospital.units == sum(name.startswith("record:") for name in raw) > 20
        assert hospital.this_run == hospital.spent.epsilon


def test_budget_participations_history_and_ledger_are_the_hospitals_own(original: Folder) -> None:
    report = saved(original)
    for hospital, risk in zip(report.hospitals, report.risks, strict=True):
        assert (hospital.budget, hospital.participations) == (8.0, 2)
        assert 0 < hospital.spent.epsilon <= 8.0
        assert risk.left == pytest.approx(8.0 - hospital.spent.epsilon, abs=1e-9)
        assert [(p.run, p.round) for p in hospital.history] == [("wards", 1), ("wards", 2)]
        assert hospital.history[0].epsilon <= hospital.history[1].epsilon
        assert hospital.history[-1].epsilon == pytest.approx(hospital.spent.epsilon)
        mark = Ledger.open(ledger_of(original, hospital.name)).mark()
        assert hospital.ledger is not None
        assert (hospital.ledger.id, hospital.ledger.head) == (mark.ledger, mark.head)
        assert (hospital.ledger.sequence, hospital.ledger.chain) == (mark.sequence, "verified")
        assert hospital.ledger.high_water == "held"


def test_sums_are_those_that_were_priced(original: Folder) -> None:
    """Against the real pricing of each hospital's real tasks; the report itself opens no data."""
    run = original.config()
    desk, setting = run.desk(), work.open_setting(run.desk())
    theta = run.client.inner.initial(setting, 0)
    priced, participations = [], []
    for index in range(3):
        hospital = work.open_hospital(desk.source, index, None, desk.seed)
        for number in (1, 2):
            share = work.tasks_of(desk, hospital, index, number)
            rng = np.random.default_rng(0)
            priced.append(plan(run.privacy, run.client.inner, setting, theta, share, rng))
            participations.append(share.participations)
    mechanism = saved(original).mechanism
    assert {s.kind: s.count for s in mechanism.sums} == {"support": 2, "query": 1}
    assert {s.kind: s.clip_norm for s in mechanism.sums} == {"support": 1.0, "query": 0.5}
    for one in mechanism.sums:
        least = min(price.noise[one.kind] for price in priced)
        assert one.noise_multiplier == pytest.approx(least, rel=1e-12)
        sizes = [len(use.rows) for price in priced for use in price.uses if use.kind == one.kind]
        assert one.batch == min(sizes)
    assert mechanism.participations == max(participations)
    assert mechanism.noise_source == "seeded"


def test_second_account_is_done_for_the_worst_hospital(original: Folder) -> None:
    report = saved(original)
    check = report.accounting.cross_check
    assert check is not None
    assert check.hospital == report.federation.maximum_hospital
    assert abs(check.relative_difference) < 0.01
    assert {"dp-accounting", "scipy"} <= {one.name for one in report.accounting.libraries}


def test_what_was_trained_beside_is_named(original: Folder) -> None:
    gaps = {gap.name: gap.words for gap in saved(original).not_covered}
    assert "FedAvg + fine-tune" in gaps["baselines"]
    assert "baselines" not in {gap.name for gap in report_words.beside(phantom(NO_BASELINES))}


def test_what_was_trained_beside_it_without_noise_is_told_apart() -> None:
    (gap,) = report_words.beside(phantom("server.evaluation.baselines=[no_privacy, fedavg]"))
    assert gap.words.endswith("without any bound, were the updates of fomaml, NO PRIVACY.")
    (gap,) = report_words.beside(phantom())
    assert "without any bound" not in gap.words


# -------------------------------------------------------------------------- mechanisms


def test_without_a_mechanism_it_says_no_privacy(tmp_path: Path) -> None:
    run = phantom("privacy={mechanism: none}", NO_BASELINES)
    report = saved(executed(run, tmp_path / "run"))
    assert report.verdict.headline == "NO PRIVACY"
    assert "NO PRIVACY" in (tmp_path / "run" / "privacy.html").read_text(encoding="utf-8")
    assert report.federation.maximum == inf
    assert [h.participations for h in report.hospitals] == [2, 2, 2]
    assert {t.covered for t in report.touches if t.name in ("training", "query")} == {"no"}


def run_of(tmp_path: Path, unit: str, *settings: str) -> PrivacyReport:
    run = private(
        f"privacy.mechanism={protecting(unit).name}",
        f"privacy.unit={unit}",
        "server.rounds=2",
        NO_BASELINES,
        *settings,
    )
    return saved(executed(run, tmp_path / unit))


def test_unit_hospital_is_the_servers_account_of_one_sum_a_round(tmp_path: Path) -> None:
    report = run_of(tmp_path, "hospital", "privacy.noise_multiplier=2.0")
    seen = {h.name: h.participations for h in report.hospitals}
    assert sum(seen.values()) == 6  # three of four hospitals in each of two rounds
    for hospital in report.hospitals:
        mu = sqrt(hospital.participations) / 2.0
        assert hospital.mu == pytest.approx(mu, rel=1e-12)
        assert hospital.spent.epsilon == pytest.approx(gdp.epsilon(mu, 1e-5))
        assert hospital.units == 1
    assert not next(o for o in report.guarantee.observers if o.who.startswith("The server")).covered
    assert report.mechanism.participations == 2


def test_what_the_server_may_have_summed_again_counts_again(tmp_path: Path) -> None:
    """It began three times, at a real site: the first round's sums may have been noised thrice."""
    run_of(tmp_path, "hospital", "privacy.noise_multiplier=2.0")
    folder = Folder(tmp_path / "hospital")
    folder.hospitals.rename(tmp_path / "elsewhere")
    folder.write_json("run.json", folder.about() | {"simulated": False, "starts": 3})
    report = of_folder(folder, list((tmp_path / "elsewhere").glob("*/*.sqlite")))
    took_part = [hospital for hospital in report.hospitals if hospital.participations]
    assert len(took_part) >= 3
    for hospital in took_part:
        assert hospital.mu == pytest.approx(sqrt(hospital.participations + 2) / 2.0)
        assert hospital.history[-1].epsilon == pytest.approx(hospital.spent.epsilon)


def test_every_run_in_a_hospitals_ledger_counts(tmp_path: Path) -> None:
    """As they count for its budget: a second run in the same ledgers, under a name of its own."""
    first = run_of(tmp_path, "hospital", "privacy.noise_multiplier=2.0")
    folder = Folder(tmp_path / "hospital")
    for path in folder.hospitals.glob("*/*.sqlite"):
        ledger = Ledger.open(path)
        charge = ledger.history().charges[0]
        keys = ("record:a", f"hospital:{ledger.hospital}")
        paid = [Charge(keys, charge.payments[0].events)]
        other = replace(charge.request, run="other.reptile")
        ledger.charge(other, charge.description, paid, charge.budget, allows)
    second = of_folder(folder)
    pairs = zip(first.hospitals, second.hospitals, strict=True)
    for before, after in ((one, other) for one, other in pairs if one.participations):
        assert (after.participations, after.this_run) == (before.participations, before.this_run)
        assert after.mu == pytest.approx(sqrt(before.participations + 1) / 2.0)


def test_unit_task_counts_tasks_and_unit_patient_patients(tmp_path: Path) -> None:
    tasks = run_of(tmp_path, "task")
    # 120 records a hospital, four curves of 30 points, tasks of one curve each: two a round
    charged = {h.participations: h.units for h in tasks.hospitals}
    assert charged[2] == 2 * (charged.get(1) or 2)
    assert [s.kind for s in tasks.mechanism.sums] == ["update"]
    patients = run_of(tmp_path, "patient")
    assert {h.participations: h.units for h in patients.hospitals}[2] == 4  # one patient a curve
    assert patients.guarantee.cap_per_person == 1


def test_secret_draws_are_reported_by_pld_and_enforced_by_renyi(tmp_path: Path) -> None:
    report = run_of(tmp_path, "record", "privacy.sampling_rate=0.5")
    assert report.accounting.error == "never below the truth"
    assert not report.accounting.adaptive
    assert report.mechanism.amplification
    hospital = named(report, report.federation.maximum_hospital)
    assert hospital.mu is None
    assert 0 < hospital.spent.epsilon < hospital.history[-1].epsilon <= 8.0


# ------------------------------------------------------------------------ bad endings


def stopping(at: int, error: type[BaseException]) -> Observer:
    def observe(row: Any) -> None:
        if row["round"] == at and "accepted" in row:
            raise error("stopped here")

    return observe


def test_a_run_that_was_stopped_has_a_report_and_is_resumed_to_the_same_one(
    tmp_path: Path, original: Folder
) -> None:
    with pytest.raises(KeyboardInterrupt):
        executed(phantom(), tmp_path / "run", stopping(1, KeyboardInterrupt))
    folder = Folder(tmp_path / "run")
    early = saved(folder)
    assert (early.run.status, early.run.rounds) == ("stopped", 1)
    assert {h.participations for h in early.hospitals} == {1}
    assert early.mechanism.participations == saved(original).mechanism.participations
    late = saved(executed(phantom(), tmp_path / "run"))
    assert (late.run.status, late.run.rounds, late.run.id) == ("finished", 2, early.run.id)
    wanted = [(h.name, h.participations, h.mu, h.units) for h in saved(original).hospitals]
    assert [(h.name, h.participations, h.mu, h.units) for h in late.hospitals] == wanted


def test_a_run_that_fails_says_what_it_has_cost(tmp_path: Path) -> None:
    with pytest.raises(QuorumError):
        executed(phantom(), tmp_path / "run", stopping(2, QuorumError))
    report = saved(Folder(tmp_path / "run"))
    assert report.run.status == "failed"
    assert {h.participations for h in report.hospitals} == {2}


def test_a_run_that_touched_nothing_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise DataError("no data here")

    monkeypatch.setattr(work, "open_hospital", closed)
    with pytest.raises(RosterError):
        executed(phantom(), tmp_path / "run")
    assert not (tmp_path / "run" / "privacy.json").exists()
