"""The table of all attacks that tests try: what the attacker does, and what is seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.attacks.elsewhere import ELSEWHERE
from tests.attacks.on_hospital import REFUSED
from tests.attacks.on_network import SENT
from tests.attacks.on_server import FORGED
from tests.server.engines.test_careful_grid import HOSTILE

HERE = "tests/attacks"


@dataclass(frozen=True)
class Attack:
    """``who`` does what, what is ``seen`` of it, and the test ``by`` which it is tried."""

    who: str
    does: str
    seen: str
    by: str


WHO = {
    "hospital": (
        "A hospital, or somebody with its keys, against the server",
        "Unless a line says otherwise, theta is that of the other hospitals to the last bit, the "
        "run goes on, and `audit.jsonl`, the table and the reports name the hospital with the "
        "word that stands here.",
    ),
    "server": (
        "The server, or whoever controls its requests, against a hospital",
        "Unless a line says otherwise, the word that stands here is all that leaves, and the "
        "hospital's ledger has it with the reason; nothing is charged, no record is computed on.",
    ),
    "network": (
        "Somebody in the network, or on one of the machines",
        "Nothing but calls of the fleet interface comes through either gate, and none twice.",
    ),
}
"""The attackers, and what holds for each attack of theirs unless the table says otherwise."""


def attacks() -> Iterator[Attack]:
    """Every attack, from the lists that the tests themselves go through."""
    for forged in FORGED:
        by = f"{HERE}/test_on_server.py::test_an_answer_that_must_not_count"
        yield Attack("hospital", f"sends {forged.does}", f"`{forged.reason}`", by)
    for name in HOSTILE:
        by = "tests/server/engines/test_careful_grid.py"
        by += "::test_a_reply_that_is_no_message_costs_nobody_else_a_round"
        yield Attack("hospital", f"sends bytes that are no message: {name}", UNREAD, by)
    for asked in REFUSED:
        by = f"{HERE}/test_on_hospital.py::test_a_request_that_is_refused"
        yield Attack("server", f"asks for {asked.does}", f"`{asked.code}`", by)
    for sent in SENT:
        seen = "at most one call of the fleet arrives" if sent.harmless else "nothing arrives"
        by = f"{HERE}/test_on_network.py::test_the_gate_of_the_server"
        yield Attack("network", f"sends {sent.does}", seen, by)
    for who, does, seen, by in ELSEWHERE:
        yield Attack(who, does, seen, by)


UNREAD = "`malformed-message`"
