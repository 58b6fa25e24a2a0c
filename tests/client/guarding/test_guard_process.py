"""A guard in a process of its own: what is asked through it, and what stands behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from metaward.client.guarding.letters import packed
from metaward.privacy import Attendance, Refusal, Release
from metaward.privacy.signing import public_text, read_signing_key
from metaward.privacy.wire import (
    content_digest,
    decode_answer,
    decode_signature,
    digest,
    encode_request,
)
from metaward.strategies.proof import SeatKeys, read_keys, seat_line
from tests.client.bedside import request
from tests.client.guarding.post import COMMAND, Post, post

__all__ = ["post"]
pytestmark = pytest.mark.timeout(900)
BAD = request(desk='{"seed": 3}')


def straight(post: Post, path: str, **content: Any) -> httpx.Response:
    """A question without the app between, as code that a server shipped might ask."""
    way = httpx.HTTPTransport(uds=str(post.socket))
    with httpx.Client(transport=way, base_url="http://guard", timeout=400) as client:
        return client.request("POST" if content else "GET", path, **content)


def lines(post: Post) -> list[dict[str, Any]]:
    return [json.loads(line) for line in post.audit.read_text().splitlines()]


def test_a_round_through_the_guard_is_charged_stored_signed_and_noted(post: Post) -> None:
    asked = request(round=1)
    reply = post.reply("train", asked)
    answer = decode_answer(reply)
    assert isinstance(answer, Release)
    assert post.charged(1) == 1
    name = "sine-01"
    line = seat_line(name, public_text(read_signing_key(post.key)))
    assert SeatKeys(read_keys([line])).fault(answer, decode_signature(reply), asked) is None
    noted = lines(post)[-1]
    assert (noted["run"], noted["round"], noted["request"]) == ("run-1", 1, digest(asked))
    assert (noted["answer"], noted["content"]) == ("release", content_digest(answer))
    assert answer.mark is not None
    assert (noted["ledger"], noted["sequence"]) == (answer.mark.ledger, answer.mark.sequence)


def test_the_same_question_has_the_same_answer_and_one_charge(post: Post) -> None:
    asked = request(round=2)
    first, second = post.put("train", asked), post.put("train", asked)
    assert isinstance(first, Release)
    assert isinstance(second, Release)
    assert first.update.tobytes() == second.update.tobytes()
    assert post.charged(2) == 1


def test_the_roll_call_passes(post: Post) -> None:
    assert post.put("query.roster", request(theta=None)) == Attendance("sine-01", 0)


def test_what_the_policy_forbids_is_refused_with_the_guards_signature(post: Post) -> None:
    asked = request(episodes=4)
    reply = post.reply("evaluate", asked)
    assert decode_answer(reply) == Refusal("policy-purpose"), "it is in the roster to train"
    assert decode_signature(reply) is not None
    assert lines(post)[-1]["code"] == "policy-purpose"
    assert "policy-purpose" in post.refusals()


def test_the_app_cannot_name_the_hospital(post: Post) -> None:
    """Which place in the roster it has is the guard's own setting."""
    reply = post.reply("query.roster", request(theta=None), index=3)
    assert decode_answer(reply) == Attendance("sine-01", 0)


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v1/answer/train/7", b"\xff\xff no records", 400),
        ("/v1/answer/adapt/7", b"", 404),
        ("/v1/answer/train/seven", b"", 404),
        ("/v1/answer/train/-7", b"", 404),
        ("/v1/answer/../../etc/passwd", b"", 404),
        ("/ledger", b"", 404),
    ],
)
def test_other_questions_are_refused(post: Post, path: str, content: bytes, status: int) -> None:
    assert straight(post, path, content=content).status_code == status


def test_nothing_can_be_fetched_but_the_version(post: Post) -> None:
    assert straight(post, "/v1/answer/train/7").status_code == 405
    about = straight(post, "/v1/about").json()
    assert set(about) == {"version"}


def test_records_that_are_no_request_are_refused_by_code(post: Post) -> None:
    assert post.put("train", BAD) == Refusal("bad-request")


def test_a_second_guard_is_refused_and_the_first_goes_on(post: Post) -> None:
    done = subprocess.run(
        [*COMMAND, str(post.settings)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 2
    assert "a guard is there already" in done.stderr
    assert isinstance(post.put("query.roster", request(theta=None)), Attendance)


# Where a connection is refused, httpcore leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_guard_that_is_killed_while_it_works_is_asked_again(post: Post) -> None:
    """The app waits until it is back. The charge that it made is the only one."""
    asked, found = request(round=3), []
    before = post.charges()
    asking = threading.Thread(target=lambda: found.append(post.put("train", asked)))
    asking.start()
    deadline = time.monotonic() + 200
    while post.charges() == before and time.monotonic() < deadline:
        time.sleep(0.001)
    post.process.send_signal(signal.SIGKILL)
    post.process.wait()
    post.start()
    asking.join(400)
    (answer,) = found
    assert isinstance(answer, Release)
    assert post.charged(3) == 1


def test_a_guard_that_is_asked_to_end_leaves_no_socket(post: Post) -> None:
    post.process.terminate()
    assert post.process.wait(120) in (0, 130, -signal.SIGTERM)
    assert not post.socket.exists()
    post.start()


SPY = """
import json, os, sys
from pathlib import Path
from metaward.client.guarding.letters import unpacked
from metaward.client.guarding.relay import relay

folder, group, letter = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).read_bytes()
asked = unpacked(letter)
os.setgroups([]); os.setgid(group); os.setuid(65534)

def tried(what):
    try:
        what()
    except PermissionError:
        return "refused"
    return "done"

files = {path.name: tried(path.read_bytes) for path in folder.iterdir() if path.is_file()}
written = tried(lambda: (folder / "policy.yaml").write_text("epsilon: 1000"))
removed = tried((folder / "hospital.ledger").unlink)
taken = tried((folder / "run" / "guard.sock").unlink)
answer = relay(folder / "run" / "guard.sock", "train", asked, 7)
print(json.dumps([files, written, removed, taken, sorted(answer)]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another account")
def test_code_of_another_account_gets_answers_and_nothing_else(post: Post, tmp_path: Path) -> None:
    """What a server could ship, run as the SuperNode's account: it reads no record, key or ledger,
    changes no policy, and what it gets through the socket was charged."""
    group = 65533
    os.chown(post.socket.parent, 0, group)
    post.socket.parent.chmod(0o750)
    os.chown(post.socket, 0, group)
    for path in post.folder.iterdir():
        if path.is_file():
            path.chmod(0o600)
    letter = tmp_path / "letter"
    letter.write_bytes(packed(encode_request(request(round=4))))
    words = [sys.executable, "-c", SPY, str(post.folder), str(group), str(letter)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    files, written, removed, taken, answer = json.loads(done.stdout)
    assert {"policy.yaml", "hospital.ledger", "signing.key", "audit.jsonl"} <= set(files)
    assert set(files.values()) == {"refused"}
    assert (written, removed, taken) == ("refused", "refused", "refused")
    assert answer == ["arrays", "release", "signature"]
    assert post.charged(4) == 1
