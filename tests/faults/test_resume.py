"""A resumed run asks as it asked before, so that no hospital pays twice for one round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.node import Node
from metaward.privacy import Release
from metaward.privacy.ledger import Ledger
from metaward.privacy.wire import Request
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from tests.faults.history import violations
from tests.faults.test_history import HOSPITALS, SETTINGS, ledgers
from tests.server.small import small

ABSENT = HOSPITALS[1]


def test_rounds_after_a_crash_are_not_charged_anew_though_other_hospitals_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hospital fails in round 1, the server dies in round 2, and then the hospital is well.

    Were round 1 done again, the hospital would take part in it. Round 2 would begin with another
    theta, and the others would have to pay for it a second time, out of a budget for three rounds.
    """
    train, ill = work.train, iter([True])

    def fails(desk: Desk, request: Request, node: Node) -> Release:
        if request.round == 1 and HOSPITALS[node.index] == ABSENT and next(ill, False):
            raise RuntimeError("ill")
        return train(desk, request, node)

    def dies(row: Mapping[str, Any]) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(work, "train", fails)
    run, folder = small(*SETTINGS, "server.checkpoint.every=3"), Folder(tmp_path / "run")
    folder.create(run)
    with pytest.raises(KeyboardInterrupt):
        ENGINES["inprocess"](run, folder, dies)
    ENGINES["inprocess"](run, folder, lambda row: None)
    assert violations(folder.path, ledgers(folder)) == []
    for name, path in ledgers(folder).items():
        charged = Counter(one.request.round for one in Ledger.open(path).history().charges)
        expected = {2: 1, 3: 1} if name == ABSENT else {1: 1, 2: 1, 3: 1}
        assert charged == expected, name
