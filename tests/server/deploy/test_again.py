"""What `metaward deploy up --keep` says can be done next, and that it can be done."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from metaward import sim
from metaward.privacy.event import Budget, gaussian
from metaward.privacy.ledger import Ledger
from metaward.server.deploy.again import next_words
from metaward.server.deploy.layout import Site
from metaward.server.folder import Folder
from tests.server.office.privacy_desk import pay

CONFIG = sim.HERE / "configs" / "deploy.yaml"
SPENDS_ALL = gaussian(0.61, 1)
"""Epsilon 7.8 at delta 1e-5: once it is within the example policy's budget, twice it is not."""


class Kept:
    """A deployment after a run that cost each record of a hospital ``event``."""

    def __init__(self, folder: Path, event: object, *settings: str) -> None:
        self.run = sim.load(CONFIG, list(settings))
        self.site, self.folder = Site(folder / "a dep"), Folder(folder / "run")
        self.folder.create(self.run)
        self.site.home.mkdir(parents=True)
        self.names = [s.name for s in self.run.client.tasks.roster() if s.role == "train"]
        for files in self.site.hospitals(self.names):
            files.folder.mkdir(parents=True)
            files.policy.write_bytes((sim.HERE / "policies" / "research.yaml").read_bytes())
            ledger = Ledger.create(files.ledger, files.name)
            if event is not None:
                key = f"{self.folder.id}.metric"
                pay(ledger, 1, event=event, budget=Budget(8.0, 1e-5), run=key)  # type: ignore[arg-type]

    @property
    def words(self) -> str:
        return next_words(self.site, self.run, self.folder)

    def command(self) -> list[str]:
        (line,) = [line for line in self.words.splitlines() if line.startswith("  ")]
        return shlex.split(line)


def test_a_run_that_fits_once_more_is_offered_with_its_own_configuration(tmp_path: Path) -> None:
    kept = Kept(tmp_path, gaussian(10.0, 1))
    home, program, *words = kept.command()
    assert home == f"FLWR_HOME={kept.site.home}"
    assert Path(program).is_file(), "a path, for the environment need not be activated"
    assert words[:2] == ["run", str(sim.HERE)]
    values = tomllib.loads(Path(words[words.index("--run-config") + 1]).read_text())
    assert sim.load_json(values["sim-json"]) == kept.run
    assert values["out"] == str(tmp_path / "run-again")


def test_the_folder_that_is_offered_is_always_a_new_one(tmp_path: Path) -> None:
    kept = Kept(tmp_path, gaussian(10.0, 1))
    (tmp_path / "run-again").mkdir()
    assert f"into {tmp_path / 'run-again-2'}:" in kept.words


def test_a_run_for_which_too_little_is_left_is_not_offered(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SPENDS_ALL)
    assert "flwr run" not in kept.words
    assert "refused (budget-spent): too little is left at phantom-01, phantom-02." in kept.words
    assert str(kept.site.hospitals(kept.names)[0].policy) in kept.words
    assert f"metaward privacy show '{kept.site.root}'" in kept.words
    policy = kept.site.hospitals(kept.names)[0].policy
    policy.write_text(policy.read_text().replace("epsilon: 8.0", "epsilon: 20.0"))
    assert "too little is left at phantom-02." in kept.words


def test_without_privacy_there_is_no_budget_to_spend(tmp_path: Path) -> None:
    kept = Kept(tmp_path, None, "privacy={mechanism: none}")
    for files in kept.site.hospitals(kept.names):
        files.policy.write_bytes((sim.HERE / "policies" / "open.yaml").read_bytes())
    assert kept.command()[2] == "run"


@pytest.mark.parametrize("first", [gaussian(0.9, 1), gaussian(2.0, 1)])
def test_other_runs_count_once_and_this_one_twice(tmp_path: Path, first: object) -> None:
    """0.9 alone fits, also twice beside nothing; with an earlier run of 0.8 it does not."""
    kept = Kept(tmp_path, first)
    assert "flwr" in kept.words
    ledger = Ledger.open(kept.site.hospitals(kept.names)[0].ledger)
    pay(ledger, 2, event=gaussian(0.8, 1), budget=Budget(50.0, 1e-5), run="earlier.metric")
    assert ("too little is left at phantom-01." in kept.words) == (first == gaussian(0.9, 1))
