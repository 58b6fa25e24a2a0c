"""The gate of a hospital: only code that a known key signed comes in."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.proto.fab_pb2 import Fab, GetFabRequest, GetFabResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metaward.client.errors import NodeError
from metaward.client.let_in import code_let_in
from metaward.options import ConfigError
from metaward.privacy.signing import public_text, read_public_key, read_signing_key
from metaward.server.deploy.gate.allowed import (
    Bundle,
    admitted,
    read_bundles,
    signed_bundle,
    write_bundles,
)
from metaward.server.deploy.gate.passage import (
    MAX_BUNDLE,
    MAX_QUESTION,
    application,
    bundle_of,
)
from metaward.server.deploy.gate.setting import Gate
from metaward.server.deploy.pki import Pair, ensure_authority, ensure_server, ensure_signing_key
from metaward.server.engines.processes import free_port

GOOD = b"the code that the consortium has read"
EVIL = b"code that reads the data folder"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --------------------------------------------------------------------------- the signed list


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_a_signed_bundle_is_admitted(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    entry = signed_bundle(sha(GOOD), "metaward 1", key)
    write_bundles(tmp_path / "bundles.yaml", [entry])
    listed = read_bundles(tmp_path / "bundles.yaml")
    assert admitted(sha(GOOD), listed, [public_text(key) + " a comment"]) == entry


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": sha(EVIL)},
        {"version": "metaward 2"},
        {"signature": "AAAA"},
        {"signature": "not base64!"},
        {"signer": "ssh-ed25519 AAAA"},
    ],
    ids=str,
)
def test_an_altered_entry_admits_nothing(key: Ed25519PrivateKey, change: dict[str, str]) -> None:
    entry = replace(signed_bundle(sha(GOOD), "metaward 1", key), **change)
    signers = [public_text(key), entry.signer]
    assert admitted(entry.sha256, [entry], signers) is None


def test_a_stranger_s_signature_admits_nothing(key: Ed25519PrivateKey) -> None:
    entry = signed_bundle(sha(GOOD), "metaward 1", Ed25519PrivateKey.generate())
    assert admitted(sha(GOOD), [entry], [public_text(key)]) is None
    claimed = replace(entry, signer=public_text(key))
    assert admitted(sha(GOOD), [claimed], [public_text(key)]) is None


def test_a_signature_for_another_purpose_admits_nothing(key: Ed25519PrivateKey) -> None:
    from base64 import b64encode

    raw = b64encode(key.sign(json.dumps([sha(GOOD), "metaward 1"]).encode())).decode()
    entry = Bundle(sha(GOOD), "metaward 1", public_text(key), raw)
    assert admitted(sha(GOOD), [entry], [public_text(key)]) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("bundles: [{sha256: xyz, version: a, signer: b, signature: c}]", "sha256"),
        ("bundles: [{version: a, signer: b, signature: c}]", "sha256"),
        ("bundle: []", "bundles"),
        ("[]", "bundles"),
        ("bundles: 3", "bundles"),
    ],
)
def test_a_damaged_list_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "bundles.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fault) as caught:
        read_bundles(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAAB3NzaC1yc2E="]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        read_public_key(text)


def test_a_signing_key_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "bundles.key"
    line = ensure_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_signing_key(path) == line == public_text(read_signing_key(path))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_signing_key(path)


# ------------------------------------------------------------------------------ the settings


@pytest.fixture
def gate(tmp_path: Path, key: Ed25519PrivateKey) -> Gate:
    """A gate before a server that does not exist yet."""
    authority = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    ensure_authority(authority)
    ensure_server(Pair(tmp_path / "server.crt", tmp_path / "server.key"), authority, ["127.0.0.1"])
    write_bundles(tmp_path / "bundles.yaml", [signed_bundle(sha(GOOD), "metaward 1", key)])
    (tmp_path / "gate").mkdir()
    path = tmp_path / "gate.yaml"
    path.write_text(
        f"listen: {free_port()}\nsuperlink: 127.0.0.1:{free_port()}\nca: ca.crt\n"
        f"bundles: bundles.yaml\nsigners: [{public_text(key)}]\nfolder: gate\n"
    )
    return Gate.read(path)


def test_paths_start_at_the_settings(gate: Gate, tmp_path: Path) -> None:
    assert Path(gate.ca) == tmp_path / "ca.crt"
    assert gate.audit == tmp_path / "gate" / "gate.jsonl"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("listen: ", "lisen: ", "did you mean"),
        ("listen: ", "listen: 7", "listen"),
        ("127.0.0.1:", "https://127.0.0.1:", "superlink"),
        ("signers: [ssh", "signers: [] #", "at least one public key"),
        ("signers: [ssh-ed25519", "signers: [ssh-rsa", "key"),
        ("ca: ca.crt", "ca: other.crt", "no such file"),
        ("bundles: bundles", "bundles: other", "no such file"),
    ],
)
def test_wrong_settings_are_named(
    gate: Gate, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    path = tmp_path / "gate.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=fault):
        Gate.read(path)


def test_the_gate_s_own_certificate_is_made_once(gate: Gate) -> None:
    gate.certify()
    before = gate.certificate.certificate.read_bytes()
    gate.certify()
    assert gate.certificate.certificate.read_bytes() == before
    assert gate.certificate.key.stat().st_mode & 0o777 == 0o600


# ----------------------------------------------------------------------------- the passage


class Link:
    """A SuperLink of which only the addresses matter; it keeps what it was sent."""

    def __init__(self) -> None:
        self.bundle, self.claimed, self.status = GOOD, sha(GOOD), 200
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    async def answer(self, request: Request) -> Response:
        self.seen.append((request.url.path, dict(request.headers), await request.body()))
        if request.url.path == "/v1/fleet/get-fab":
            fab = Fab(hash_str=self.claimed, content=self.bundle)
            return Response(GetFabResponse(fab=fab).SerializeToString(), self.status)
        return Response(b"answer to " + self.seen[-1][2], 200, {"x-flower": "yes"})


@contextmanager
def serving(app: Any, port: int, **options: Any) -> Iterator[None]:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="error", ws="none", **options
    )
    with at_work(uvicorn.Server(config)):
        yield


@contextmanager
def serving_socket(app: Any, door: socket.socket) -> Iterator[None]:
    with at_work(uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none")), [door]):
        yield


@contextmanager
def at_work(server: uvicorn.Server, doors: list[socket.socket] | None = None) -> Iterator[None]:
    thread = threading.Thread(target=server.run, args=(doors,), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def link(gate: Gate, tmp_path: Path) -> Iterator[Link]:
    made = Link()
    methods = ["GET", "POST", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", made.answer, methods=methods)])
    tls = {
        "ssl_certfile": str(tmp_path / "server.crt"),
        "ssl_keyfile": str(tmp_path / "server.key"),
    }
    with serving(app, int(gate.superlink.split(":")[1]), **tls):
        yield made


@pytest.fixture
def node(gate: Gate, link: Link) -> Iterator[httpx.Client]:
    """A SuperNode's client at the gate."""
    with serving(application(gate), gate.listen):
        url = f"http://127.0.0.1:{gate.listen}"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            yield client


def audit(gate: Gate) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gate.audit.read_text().splitlines()]


def test_code_on_the_list_comes_in_as_it_is(gate: Gate, node: httpx.Client) -> None:
    answer = node.post("/v1/fleet/get-fab", content=b"ask")
    assert answer.status_code == 200
    assert GetFabResponse.FromString(answer.content).fab.content == GOOD
    assert [(one["what"], one.get("bundle")) for one in audit(gate)][1:] == [
        ("admitted", sha(GOOD))
    ]


def test_the_gate_s_log_says_for_which_run_code_was_let_in(gate: Gate, node: httpx.Client) -> None:
    """And the hospital finds it there (``client.let_in``)."""
    for run in (11, 2**64 - 1):
        question = GetFabRequest(hash_str=sha(GOOD), run_id=run).SerializeToString()
        assert node.post("/v1/fleet/get-fab", content=question).status_code == 200
        assert code_let_in({"gate-log": str(gate.audit)}, run) == sha(GOOD)
    write_bundles(Path(gate.bundles), [])
    question = GetFabRequest(hash_str=sha(GOOD), run_id=12).SerializeToString()
    assert node.post("/v1/fleet/get-fab", content=question).status_code == 403
    with pytest.raises(NodeError, match="let in no code for Flower's run 12"):
        code_let_in({"gate-log": str(gate.audit)}, 12)


def test_a_question_that_is_too_long_goes_no_further(node: httpx.Client, link: Link) -> None:
    answer = node.post("/v1/fleet/get-fab", content=b"0" * (MAX_QUESTION + 1))
    assert answer.status_code == 502
    assert link.seen == []


def test_altered_code_stays_outside(gate: Gate, node: httpx.Client, link: Link) -> None:
    link.bundle = EVIL  # and the server claims that its hash is the good one
    answer = node.post("/v1/fleet/get-fab", content=b"ask")
    assert answer.status_code == 403
    assert EVIL not in answer.content
    last = audit(gate)[-1]
    assert (last["what"], last["bundle"]) == ("refused", sha(EVIL))


def test_a_bundle_can_be_withdrawn_while_the_gate_runs(gate: Gate, node: httpx.Client) -> None:
    assert node.post("/v1/fleet/get-fab").status_code == 200
    write_bundles(Path(gate.bundles), [])
    assert node.post("/v1/fleet/get-fab").status_code == 403
    Path(gate.bundles).write_text("bundles: {")
    assert node.post("/v1/fleet/get-fab").status_code == 403


def test_code_that_is_too_long_stays_outside(gate: Gate, node: httpx.Client, link: Link) -> None:
    link.bundle = b"0" * (MAX_BUNDLE + 1)
    assert node.post("/v1/fleet/get-fab").status_code == 502


def test_an_answer_that_is_no_bundle_stays_outside(node: httpx.Client, link: Link) -> None:
    link.bundle = b""
    assert node.post("/v1/fleet/get-fab").status_code == 403
    assert bundle_of(b"\xff\xff garbage").fab.content == b""


def test_what_was_looked_at_is_what_arrives() -> None:
    twice = GetFabResponse(fab=Fab(content=EVIL)).SerializeToString()
    twice += GetFabResponse(fab=Fab(content=GOOD)).SerializeToString() + b"\xfa\x01\x04evil"
    passed = bundle_of(twice).SerializeToString()
    assert passed.count(EVIL) == 0
    assert b"\xfa\x01\x04evil" not in passed


@pytest.mark.parametrize("call", ["push-messages", "pull-messages", "send-node-heartbeat"])
def test_the_fleet_s_calls_pass_unchanged(node: httpx.Client, link: Link, call: str) -> None:
    body, signature = os.urandom(200_000), "flower's own"
    answer = node.post(f"/v1/fleet/{call}", content=body, headers={"x-signature": signature})
    assert answer.content == b"answer to " + body
    assert answer.headers["x-flower"] == "yes"
    path, headers, got = link.seen[-1]
    assert (path, got) == (f"/v1/fleet/{call}", body)
    assert headers["x-signature"] == signature


@pytest.mark.parametrize(
    "path", ["/", "/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet", "/v1/fleet/a/b"]
)
def test_nothing_else_passes(gate: Gate, node: httpx.Client, link: Link, path: str) -> None:
    assert node.post(path).status_code == 403
    assert link.seen == []
    assert audit(gate)[-1]["what"] == "refused"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control",
        "/v1/fleet/%2e%2e",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "//v1/control/x",
        "/v1/fleet//pull-messages",
    ],
)
def test_dots_do_not_lead_out_of_the_fleet_interface(
    gate: Gate, node: httpx.Client, link: Link, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", gate.listen), 30) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 403"
    assert link.seen == []


def test_a_server_with_another_certificate_is_not_the_server(
    gate: Gate, tmp_path: Path, link: Link
) -> None:
    other = Pair(tmp_path / "other.crt", tmp_path / "other.key")
    ensure_authority(other)
    with serving(application(replace(gate, ca=str(other.certificate))), gate.listen):
        answer = httpx.post(
            f"http://127.0.0.1:{gate.listen}/v1/fleet/pull-messages", trust_env=False
        )
    assert answer.status_code == 502
    assert link.seen == []
