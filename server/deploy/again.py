"""What can be done next with a deployment that goes on serving: the same run again, if it can be.

Each run is charged to the hospitals' own ledgers, so most private runs leave too little for a
second one like them. That is looked up in the ledgers, before a command is printed that would fail.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from metaward import sim
from metaward.client.scores import known_scores
from metaward.privacy.accounting import allows
from metaward.privacy.event import Events
from metaward.privacy.ledger import History, Ledger
from metaward.privacy.policy import Policy
from metaward.server.deploy.commands import CONNECTION
from metaward.server.deploy.layout import Site
from metaward.server.engines.follow import run_config
from metaward.server.folder import Folder


def next_words(site: Site, run: sim.Sim, folder: Folder) -> str:
    """What a person can do next, with commands that can be carried out."""
    look = f"What was spent: {_command('metaward', 'privacy', 'show', site.root)}"
    spent = list(spent_hospitals(site, run, folder.id))
    if not spent:
        return f"{look}\n{_once_more(site, run, folder)}"
    names = ", ".join(spent[:5]) + (f" and {len(spent) - 5} more" if len(spent) > 5 else "")
    policy = site.hospitals(spent)[0].policy
    return (
        f"{look}\nThe same run once more would be refused (budget-spent): too little is left at "
        f"{names}. A hospital's privacy officer may raise `epsilon` in its policy, such as "
        f"{policy}; else start a new deployment with other records: metaward deploy up --dir NEW"
    )


def spent_hospitals(site: Site, run: sim.Sim, id: str) -> Iterator[str]:
    """The training hospitals whose policy does not allow what the run ``id`` cost once more."""
    names = [seat.name for seat in run.client.tasks.roster() if seat.role == "train"]
    for hospital in site.hospitals(names):
        budget = Policy.open(hospital.policy, known_scores()).budget()
        after = once_more(Ledger.open(hospital.ledger).history(), id)
        if budget and not all(allows((), events, budget) for events in set(after.values())):
            yield hospital.name


def once_more(history: History, id: str) -> Mapping[int, Events]:
    """What each unit will have spent when the run ``id`` has been charged a second time."""
    after = dict(history.totals())
    for charge in history.charges:
        if charge.request.run.partition(".")[0] == id:
            charge.add_to(after)
    return after


def _once_more(site: Site, run: sim.Sim, folder: Folder) -> str:
    """The command that sends the same run once more, into a folder that is not there yet."""
    beside = next(one for one in _beside(folder.path) if not one.exists())
    config = site.home / "again.toml"
    config.write_text(run_config(run, Folder(beside)), encoding="utf-8")
    flower = Path(sys.executable).with_name("flwr")  # whatever the shell's PATH is
    words = [flower, "run", sim.HERE, CONNECTION, "--stream", "--run-config", config]
    command = f"FLWR_HOME={shlex.quote(str(site.home))} {_command(*words)}"
    return f"The same run once more, into {beside}:\n  {command}"


def _beside(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}-again")
    for number in range(2, sys.maxsize):
        yield path.with_name(f"{path.name}-again-{number}")


def _command(*words: object) -> str:
    return shlex.join(map(str, words))
