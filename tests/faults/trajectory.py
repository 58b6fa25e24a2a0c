"""Theta computed again from the replies that hospitals have stored, round by round.

So it is with noise from the operating system, which no second run can repeat: what the ledgers
hold, combined as the configuration says, must give every theta that the server has asked with and
saved, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from metaward.errors import MetawardError
from metaward.privacy.ledger import RequestKey
from metaward.privacy.wire import Request, digest
from metaward.server.baselines import own
from metaward.server.checkpoint import PATTERN, load_state
from metaward.server.folder import Folder
from metaward.server.run import Run, outer_of
from metaward.sim import Sim
from tests.faults.books import Books, Violation


def trajectory_violations(
    folder: Folder, run: Sim, lines: Sequence[dict[str, Any]], books: Mapping[str, Books]
) -> Iterator[Violation]:
    """Rounds that were asked for with another theta, or saved with another one, than they follow
    from the stored replies."""
    if run.privacy.unit.noise_at_server:
        return  # the server's noise is in no ledger
    asked = asked_with(lines)
    saved = saved_thetas(folder, run)
    name = f"{folder.id}.{own(run).key}"
    job = Run(run, None, folder, lambda row: None, simulated=True)  # type: ignore[arg-type]
    theta, outer = job.start(job.own), outer_of(run, job.setting)
    state = outer.init(theta)
    for row in (row for row in folder.rows() if "accepted" in row):
        number = row["round"]
        request = digest(Request(number, run.desk().json(), theta, run=name))
        if request not in asked.get((name, number), ()):
            yield Violation("other-trajectory", f"round {number} was asked with another theta")
            return
        key = RequestKey(name, number, "train", request)
        found = [books[h].stored(key) if h in books else None for h in sorted(row["accepted"])]
        updates = [release.update for release in found if release is not None]
        if len(updates) < len(found):
            return  # an update that is not stored has a violation of its own
        combined = run.strategies.combine(np.stack(updates))
        at = min((number - 1) / run.server.rounds, 1.0)
        theta, state = outer.step(theta, combined, state, at)
        if number in saved and saved[number] != theta.tobytes():
            yield Violation("other-trajectory", f"the theta saved after round {number} is another")
            return


def asked_with(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, int], set[str]]:
    """The digests of all requests of each run and round."""
    found: dict[tuple[str, int], set[str]] = {}
    for line in lines:
        if line["what"] == "asked to train":
            found.setdefault((line["run"], line["round"]), set()).add(line["request"])
    return found


def saved_thetas(folder: Folder, run: Sim) -> dict[int, bytes]:
    """The bytes of theta in every checkpoint that can be read."""
    found: dict[int, bytes] = {}
    for path in sorted(folder.checkpoints.glob(PATTERN)):
        try:
            state = load_state(path, run.canonical())
        except MetawardError:  # has a violation of its own
            continue
        found[state.round] = state.theta.tobytes()
    return found
