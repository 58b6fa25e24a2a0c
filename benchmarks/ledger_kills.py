"""Kill hospital processes at random moments and check that the ledger kept its promises.

Two processes at a time serve the same requests: charge, compute, store the reply, send it (a line
in a file, synced). Each is killed (SIGKILL) at a random moment; the next one starts with the last
request that was sent, as after a broken connection. After all kills:

- the chain and every table verify; no unit's spend is above the budget (added up again here);
- every reply that was sent has its charge and its stored hash before it in the chain;
- no request was answered with two different replies, or both answered and refused.

A kill shows what the death of a process does. Safety in a power cut is left to SQLite
(synchronous = EXTRA).

    python benchmarks/ledger_kills.py [--kills 1000] [--seed 1] [--out benchmarks/results/...json]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metaward.privacy.description import ChargeDescription, SumDescription
from metaward.privacy.event import Budget, Charge, Protection, gaussian
from metaward.privacy.ledger import BudgetSpent, Entry, Events, Ledger, RequestKey, verify

STAGES = ("start", "begin", "check", "commit", "compute", "store", "send", "sent", "refuse")
LONGEST_LIFE = 0.12
"""Seconds; several requests long, so that every stage is met."""
COMPUTE = 0.003
"""Seconds that an update takes."""
NOISE = 2.0
CAP = 17.5
BUDGET = Budget(epsilon=CAP, delta=1e-5)
"""Here the cap is on the sum of count / noise_multiplier^2 (mu squared), which needs no accountant
and can be added up again by other means."""
FOR = ChargeDescription(
    Protection("sums", "record"),
    tasks=1,
    participations=9,
    sums=(SumDescription("support", 1.0, NOISE, 1.0, 12.0, sums=15, vectors=180, count=15),),
)


@dataclass(frozen=True)
class Scene:
    """The ledger, the file of what was sent, and a byte that holds the stage reached."""

    ledger: Path
    sent: Path
    stage: mmap.mmap

    def at(self, stage: str) -> None:
        """This process is now at this stage; the byte outlives it."""
        self.stage[0] = STAGES.index(stage)

    def send(self, line: dict[str, Any]) -> None:
        """What is written here has left the hospital."""
        handle = os.open(self.sent, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, json.dumps(line).encode() + b"\n")
        os.fsync(handle)
        os.close(handle)


Serve = Callable[[Scene, Ledger, int], None]

# ------------------------------------------------------------------------- the hospital


def request(number: int) -> RequestKey:
    """The ``number``-th request of the run."""
    return RequestKey("kills", number, "train", hashlib.sha256(b"%d" % number).hexdigest())


def charges(number: int) -> list[Charge]:
    """Twelve records, four of which change every third request: each is asked for nine times,
    which costs more than the budget, so that some requests must be refused."""
    start = 4 * (number // 3)
    records = tuple(f"record:{index}" for index in range(start, start + 12))
    return [Charge(records, (gaussian(NOISE, 5 + 5 * (number % 3)),))]


def mu_squared(events: Events) -> float:
    """Sum of count / noise_multiplier^2."""
    return sum(event.count / (event.noise_multiplier or 0.0) ** 2 for event in events)


def allows(spent: Events, new: Events, budget: Budget) -> bool:
    """Does it fit under the cap?"""
    return mu_squared(spent) + mu_squared(new) <= budget.epsilon


def serve(scene: Scene, ledger: Ledger, number: int) -> None:
    """One request in the order that the ledger asks for."""
    scene.at("begin")
    try:
        entry = charge(scene, ledger, number)
    except BudgetSpent as error:
        scene.at("refuse")
        ledger.refuse(error.code, str(error), "kills", number)
        scene.send({"request": number, "refused": error.code})
        return
    if entry.reply is None:
        computed = compute(scene, number)
        scene.at("store")
        entry = ledger.answer(entry, computed)
    scene.at("send")
    reply = (entry.reply or b"").hex()
    scene.send({"request": number, "charge": entry.sequence, "reply": reply})
    scene.at("sent")


def charge(scene: Scene, ledger: Ledger, number: int) -> Entry:
    """Pay; the call of the accountant tells how far the transaction has come."""

    def asked(spent: Events, new: Events, budget: Budget) -> bool:
        scene.at("check")
        allowed = allows(spent, new, budget)
        scene.at("commit")
        return allowed

    return ledger.charge(request(number), FOR, charges(number), BUDGET, asked)


def compute(scene: Scene, number: int) -> bytes:
    """Fresh noise each time: whoever computes twice gets two different replies."""
    scene.at("compute")
    time.sleep(COMPUTE)
    return b"%d:" % number + os.urandom(64)


# -------------------------------------------------------------------------- the killing


def kill_many(
    folder: Path, kills: int, rng: np.random.Generator, work: Serve = serve
) -> Counter[str]:
    """Kill ``kills`` processes, two at a time; return counts of the stages at which they died.

    ``journals`` counts the pairs that left SQLite's rollback journal behind: a kill in the middle
    of a commit, which the next process had to take back.
    """
    path = folder / "kills.ledger"
    if not path.exists():
        Ledger.create(path, "kills")
    charges(0)  # loads the library of events, which takes longer than a process here lives
    scenes = [Scene(path, folder / "sent.jsonl", mmap.mmap(-1, 1)) for _ in range(2)]
    deaths: Counter[str] = Counter()
    for left in range(kills, 0, -2):
        pair = scenes[:left]
        children = [(start(scene, work), float(rng.uniform(0, LONGEST_LIFE))) for scene in pair]
        end(children)
        deaths.update(STAGES[scene.stage[0]] for scene in pair)
        deaths["journals"] += path.with_name(path.name + "-journal").exists()
    return deaths


def start(scene: Scene, work: Serve) -> int:
    """Fork a hospital process that serves request after request; its id."""
    scene.at("start")
    child = os.fork()
    if child:
        return child
    try:
        ledger = Ledger.open(scene.ledger)
        number = last_sent(scene.sent)
        while True:
            work(scene, ledger, number)
            number += 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def end(children: Sequence[tuple[int, float]]) -> None:
    """Kill each process at its time; RuntimeError if one had failed before."""
    begun = time.monotonic()
    for child, moment in sorted(children, key=lambda pair: pair[1]):
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        os.kill(child, signal.SIGKILL)
    failed = [child for child, _ in children if os.WIFEXITED(os.waitpid(child, 0)[1])]
    if failed:
        raise RuntimeError(f"{len(failed)} processes failed before they were killed; see above")


def last_sent(sent: Path) -> int:
    """The newest request that was sent; it is asked for again."""
    return max((line["request"] for line in lines(sent)), default=0)


def lines(sent: Path) -> list[dict[str, Any]]:
    """All that was ever sent."""
    return [json.loads(line) for line in sent.read_bytes().splitlines()] if sent.exists() else []


# ------------------------------------------------------------------------ the inspection


@dataclass(frozen=True)
class Books:
    """The chain's charges and replies, read by hand: row number -> body."""

    charges: dict[int, dict[str, Any]]
    replies: dict[int, dict[str, Any]]


def read_books(path: Path) -> Books:
    """Read from the table itself, because the package's own reader is under test here."""
    bodies: dict[str, dict[int, dict[str, Any]]] = {"charge": {}, "reply": {}}
    db = sqlite3.connect(path)
    for seq, kind, body in db.execute("SELECT seq, kind, body FROM entry ORDER BY seq"):
        if kind in bodies:
            bodies[kind][seq] = json.loads(body)
    db.close()
    return Books(bodies["charge"], bodies["reply"])


def inspect(folder: Path) -> list[str]:
    """Every broken promise, one line each."""
    path = folder / "kills.ledger"
    faults = verify(path)
    books, sent = read_books(path), lines(folder / "sent.jsonl")
    return [*faults, *overspent(books), *unpaid(books, sent), *contradictions(sent)]


def overspent(books: Books) -> list[str]:
    """Units above the cap, from the raw charges."""
    spent: dict[int, float] = {}
    for body in books.charges.values():
        for payment in body["payments"]:
            cost = sum(n / event["noise_multiplier"] ** 2 for event, n in payment["events"])
            for unit in unpack(payment["units"]):
                spent[unit] = spent.get(unit, 0.0) + cost
    return [f"unit {unit} has spent {cost}" for unit, cost in spent.items() if cost > CAP]


def unpack(text: str) -> list[int]:
    """Unit numbers: base64 of little-endian 32-bit integers."""
    raw = base64.b64decode(text)
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]


def unpaid(books: Books, sent: Sequence[dict[str, Any]]) -> list[str]:
    """Replies that left without a charge and a stored hash before them."""
    stored = {(body["charge"], body["sha256"]): seq for seq, body in books.replies.items()}
    faults = []
    for line in sent:
        if "reply" not in line:
            continue
        paid = books.charges.get(line["charge"], {}).get("request", {}).get("round")
        sha256 = hashlib.sha256(bytes.fromhex(line["reply"])).hexdigest()
        if paid != line["request"] or stored.get((line["charge"], sha256), 0) <= line["charge"]:
            faults.append(f"request {line['request']}: a reply left that was not paid and stored")
    return faults


def contradictions(sent: Sequence[dict[str, Any]]) -> list[str]:
    """Requests that were answered in two ways."""
    answers: dict[int, set[str]] = {}
    for line in sent:
        answers.setdefault(line["request"], set()).add(line.get("reply", "refused"))
    return [f"request {n}: {len(a)} different answers" for n, a in answers.items() if len(a) > 1]


def summary(folder: Path) -> dict[str, int]:
    """How much happened: a run in which nothing was sent or refused shows nothing."""
    books, sent = read_books(folder / "kills.ledger"), lines(folder / "sent.jsonl")
    replied = [line["request"] for line in sent if "reply" in line]
    return {
        "charges": len(books.charges),
        "replies_stored": len(books.replies),
        "replies_sent": len(replied),
        "requests_answered": len(set(replied)),
        "requests_refused": len({line["request"] for line in sent if "refused" in line}),
    }


def main() -> None:
    """Kill, inspect, write the figures; status 1 for any broken promise."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ledger_kills.json"))
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stages = kill_many(folder, options.kills, np.random.default_rng(options.seed))
        faults, figures = inspect(folder), summary(folder)
    journals = stages.pop("journals")
    shown = {stage: stages[stage] for stage in STAGES}
    result = {"kills": options.kills, "seed": options.seed, "stages": shown, "journals": journals}
    result |= figures | {"faults": faults, "seconds": round(time.monotonic() - begun, 1)}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
