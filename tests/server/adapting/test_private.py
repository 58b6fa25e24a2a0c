"""`metaward adapt --private`: what is charged, refused, published, and kept at the hospital."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from metaward.client.charging import charges
from metaward.client.tasks.folder import OwnFiles
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.ledger import Ledger, verify
from metaward.privacy.noise import SystemNoise
from metaward.server.adapting import fit, private_ways, publish, report, write
from metaward.server.adapting.adapt import AdaptedRun, Wish, adapt_run
from metaward.server.adapting.promise import spent_by_name
from metaward.server.adapting.terms import terms_of
from metaward.server.adapting.write import write_adapted
from metaward.server.evaluations.finished import open_learned
from tests.server.adapting.private_desk import Onlooker
from tests.server.test_cli import metaward

WISH = Wish(None, steps=2, draws=2)
MODEL = ["model-card.md", "model.onnx", "model.pt2", "model.safetensors"]
LOCAL = ["adapt.json", "confusion.png", "reliability.png", "report.html", "report.md"]
NORM = ("--clip-features", 1)
"""A clip norm that the policy allows."""
POLICY = Path(__file__).parents[3] / "policies" / "research.yaml"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: metaward(*map(str, arguments), monkeypatch=monkeypatch)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    Ledger.create(tmp_path / "ledger.sqlite", "west")
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ways are judged, and none is drawn."""
    usual = private_ways.PrivateWays.of
    first = lambda self, steps: islice(usual(self, steps), private_ways.BEFORE + 1)  # noqa: E731
    monkeypatch.setattr(private_ways.PrivateWays, "of", first)
    monkeypatch.setattr(write, "_draw", lambda *_: None)


@pytest.fixture
def light(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the model written in other programs' forms."""
    monkeypatch.setattr(write, "write_exports", lambda *_: {})


@pytest.fixture
def west(place: Path) -> Path:
    return place / "consortium" / "west"


@pytest.fixture
def typed(call: Any, place: Path, west: Path, ledger: Path) -> Any:
    """The command with its usual arguments; later options win."""

    def typed(*more: Any) -> Any:
        quick = ("--steps", 2, "--draws", 2, "--epsilon", 2, "--ledger", ledger)
        return call("adapt", place / "run", "--data", west, "--private", *quick, *more)

    return typed


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def made(place: Path, ledger: Path, **asked: Any) -> AdaptedRun:
    finished = open_learned(place / "run")
    terms = terms_of(finished, {"epsilon": 2.0} | asked, ledger, None)
    return adapt_run(finished, place / "consortium" / "west", WISH, terms)


def test_what_may_be_published_lies_apart_and_says_what_it_promises(
    typed: Any,
    call: Any,
    west: Path,
    tmp_path: Path,
    ledger: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed("--out", tmp_path / "o", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["local", "model"]
    assert [*files(tmp_path / "o" / "model")] == MODEL
    assert [*files(tmp_path / "o" / "local")] == LOCAL
    card = (tmp_path / "o" / "model" / "model-card.md").read_text()
    for words in ("epsilon at most 2.00 at delta 0.00001", "2 sums over 240 records", "0.00 is"):
        assert words in card
    assert "Scores on this hospital's own records" in card
    assert "accuracy" not in card
    assert found["privacy"]["epsilon"] == pytest.approx(2.0, rel=1e-6)
    assert found["fitted_to"] == 240
    assert verify(ledger) == []
    assert spent_by_name(Ledger.open(ledger).history(), 1e-5) == pytest.approx(2.0, rel=1e-6)
    assert call("predict", tmp_path / "o", "--data", west, "--out", tmp_path / "p.csv") == 0


@pytest.mark.usefixtures("light")
def test_the_same_command_again_costs_nothing_and_gives_the_same_bytes(
    typed: Any, tmp_path: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever judges the model; another epsilon is another model, which the ledger must pay."""
    assert typed("--out", tmp_path / "a") == 0
    assert typed("--out", tmp_path / "b", "--seed", 3) == 0
    assert "this one cost nothing" in capsys.readouterr().out
    first, second = (files(tmp_path / name / "model") for name in "ab")
    assert first["model.safetensors"] == second["model.safetensors"]
    assert first["model-card.md"] == second["model-card.md"]
    assert len(Ledger.open(ledger).history().charges) == 1
    assert typed("--out", tmp_path / "c", "--epsilon", 1) == 2
    said = capsys.readouterr().err
    assert "nothing was charged" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "c").exists()
    history = Ledger.open(ledger).history()
    assert [one.code for one in history.refusals] == ["budget-spent"]
    assert len(history.charges) == 1


@pytest.mark.usefixtures("light")
def test_under_a_policy_its_budget_counts(typed: Any, tmp_path: Path, ledger: Path) -> None:
    for name, epsilon in (("a", 2), ("b", 3)):
        out = ("--epsilon", epsilon, "--policy", POLICY, "--out", tmp_path / name, *NORM)
        assert typed(*out) == 0
    history = Ledger.open(ledger).history()
    assert spent_by_name(history, 1e-5) > 3
    assert history.charges[1].budget is not None
    assert history.charges[1].budget.epsilon == 8.0
    assert "of 8 at delta" in (tmp_path / "b" / "model" / "model-card.md").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps: 1 ", "policy-steps: steps: 2 is asked"),
        ("train: false ", "policy-purpose"),
        ("noise_multiplier: 60 ", "policy-noise"),
        ("clip: 0.5 ", "policy-clip"),
        ("hospital: east ", "policy-hospital"),
        ("units: [patient]\nmechanisms: [sums]", "policy-unit: unit: 'record' is asked"),
        ("epsilon: 1.0 ", "would exceed epsilon = 1"),
    ],
)
def test_what_the_policy_forbids_is_refused_before_any_charge(
    typed: Any,
    tmp_path: Path,
    ledger: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    words: str,
) -> None:
    keys = tuple(one.partition(" ")[0] for one in change.splitlines())
    lines = POLICY.read_text(encoding="utf-8").splitlines()
    text = "\n".join([*(one for one in lines if not one.startswith(keys)), change])
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    asked = ("--policy", tmp_path / "policy.yaml", "--out", tmp_path / "o", *NORM)
    assert typed(*asked) == 2
    assert words in capsys.readouterr().err
    history = Ledger.open(ledger).history()
    assert (len(history.charges), len(history.refusals)) == (0, 1)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epsilon", 0), "--epsilon: 0"),
        (("--epsilon", 200), "--epsilon: 200"),
        (("--delta", 0.5), "--delta: 0.5"),
        (("--delta", 0.005), "--delta: 0.005 is not below 1 / 240"),
        (("--unit", "task"), "--unit: task cannot be protected"),
        (("--unit", "person"), "--unit: 'person' is refused"),
        (("--clip", -1), "--clip: -1"),
        (("--clip-features", -1), "--clip-features: -1"),
        (("--train", "tail"), "--train: 'tail' is refused"),
        (("--ledger", "nowhere.sqlite"), "nowhere.sqlite"),
        (("--policy", "nowhere.yaml"), "policy-missing"),
    ],
)
def test_bad_terms_are_named_and_cost_nothing(
    typed: Any,
    tmp_path: Path,
    ledger: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[Any, ...],
    words: str,
) -> None:
    assert typed("--out", tmp_path / "o", *options) == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert said.count("\n") == 1
    assert not Ledger.open(ledger).charged()
    assert not (tmp_path / "o").exists()


def test_terms_need_private_and_private_needs_terms(
    call: Any, place: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("adapt", place / "run", "--data", place / "consortium" / "west")
    for options, words in (
        (("--ledger", ledger), "--ledger: is for a model that may be published"),
        (("--private", "--epsilon", 1), "metaward ledger init"),
        (("--private", "--ledger", ledger), "--epsilon: --private needs"),
    ):
        assert call(*plain, *options) == 2
        assert words in capsys.readouterr().err


# ------------------------------------------------------------------------ charge, then noise


@pytest.mark.usefixtures("light")
def test_nothing_is_computed_before_it_is_paid_and_no_charge_is_answered_twice(
    place: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while noise is drawn leaves the charge; the next call uses it again."""

    def gone(self: SystemNoise, n: int) -> Any:
        assert Ledger.open(ledger).charged(), "noise is drawn before the charge"
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(SystemNoise, "gaussian", gone)
        with pytest.raises(MemoryError):
            made(place, ledger)
    first = made(place, ledger)
    history = Ledger.open(ledger).history()
    assert (len(history.charges), len(history.replies)) == (1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(SystemNoise, "gaussian", gone)  # a second noise would be a second release
        again = made(place, ledger)
    assert again.stored == first.stored
    assert again.pledge is not None
    assert again.pledge.again


@pytest.mark.usefixtures("light")
def test_a_model_that_noise_made_useless_is_stored_like_any_other(
    place: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one could draw noise until it suits."""
    kept = fit.tensors_of

    def useless(module: Any, about: Any) -> bytes:
        with torch.no_grad():
            module.head.bias.fill_(torch.inf)
        return kept(module, about)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "tensors_of", useless)
        with pytest.raises(fit.InputError, match="diverge, and were charged"):
            made(place, ledger)
    with pytest.raises(fit.InputError, match="diverge, and were charged"):
        made(place, ledger)


@pytest.mark.usefixtures("light")
def test_records_pay_under_the_names_of_every_other_run(place: Path, ledger: Path) -> None:
    """As the source ``folder`` knows them, so that a hospital has one budget for all uses."""
    seen: list[Any] = []

    def watched(mechanism: Any, price: Any, hospital: Any) -> Any:
        own = OwnFiles(train=("west",), unseen=("u",), classes=held.classes, shape=(1, 28, 28))
        same = own.hospital(0, place / "consortium", 0)
        seen.append([charges(mechanism, price, one) for one in (hospital, same)])
        return seen[-1][0]

    held = made(place, ledger).held
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "charges", watched)
        with pytest.raises(publish.LedgerError, match="would exceed"):
            made(place, ledger, epsilon=1.9)
    ((here, there),) = seen
    assert here == there
    assert {key.partition(":")[0] for one in here for key in one.keys} == {"record", "content"}
    assert all(enforced_epsilon(one.events, 1e-5) <= 1.9 for one in here)


# ------------------------------------------------------------------------ two worlds


def published(place: Path, data: Path, out: Path, seen: Onlooker) -> dict[str, bytes]:
    """All that may leave, under the eyes of an onlooker."""
    path = out.parent / f"{out.name}.sqlite"
    Ledger.create(path, "west")
    finished = open_learned(place / "run")
    with seen.watching():
        terms = terms_of(finished, {"epsilon": 2.0}, path, None)
        write_adapted(adapt_run(finished, data, WISH, terms), out)
    return files(out / "model")


def changed(place: Path, folder: Path) -> Path:
    """The hospital's folder in a world in which one image is another one."""
    west = Path(shutil.copytree(place / "consortium" / "west", folder / "west"))
    images = sorted((west / "images").iterdir())
    shutil.copy(images[7], images[3])
    return west


@pytest.mark.usefixtures("few")
def test_in_two_worlds_all_that_may_leave_is_the_same_but_for_noisy_sums(
    place: Path, tmp_path: Path
) -> None:
    a = Onlooker()
    first = published(place, place / "consortium" / "west", tmp_path / "a", a)
    b = Onlooker(given=a.noised)
    second = published(place, changed(place, tmp_path), tmp_path / "b", b)
    assert first == second
    assert any((x.total != y.total).any() for x, y in zip(a.sums, b.sums, strict=True))
    local = (json.loads((tmp_path / n / "local" / "adapt.json").read_text()) for n in "ab")
    rows = [one["rows"] for one in local]
    third = published(place, place / "consortium" / "west", tmp_path / "c", Onlooker())
    assert third["model.safetensors"] != first["model.safetensors"], "noise is drawn anew"
    assert rows[0] != rows[1], "scores of the two worlds differ, so that a leak would be seen"


@pytest.mark.usefixtures("light")
def test_a_score_in_the_card_would_be_found(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = write.card

    def telling(made: AdaptedRun) -> str:
        return usual(made) + "\n".join(report.markdown(made, {}))

    monkeypatch.setattr(write, "card", telling)
    a = Onlooker()
    first = published(place, place / "consortium" / "west", tmp_path / "a", a)
    second = published(place, changed(place, tmp_path), tmp_path / "b", Onlooker(given=a.noised))
    assert first["model.safetensors"] == second["model.safetensors"]
    assert first["model-card.md"] != second["model-card.md"]
