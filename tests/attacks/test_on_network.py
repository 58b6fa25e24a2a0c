"""Each attack of ``on_network`` on both gates: nginx before the server, ours at a hospital.

Behind each gate is a SuperLink of which only the addresses matter: it writes down what arrives.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import Receive, Scope, Send

from metaward.privacy.signing import public_text
from metaward.server.deploy.consortium import office
from metaward.server.deploy.consortium.members import Consortium, Ports
from metaward.server.deploy.consortium.places import Office
from metaward.server.deploy.gate.allowed import write_bundles
from metaward.server.deploy.gate.passage import application
from metaward.server.deploy.gate.setting import Gate
from metaward.server.engines.processes import free_port
from tests.attacks.on_network import CALL, SENT, Sent
from tests.server.deploy.live import wait_for
from tests.server.deploy.test_consortium import run
from tests.server.deploy.test_gate import serving

SECONDS = 3.0


class Behind:
    """The paths that arrive behind a gate, as they were sent, with their methods."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.seen.append((scope["method"], scope["raw_path"].decode("latin-1")))
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"flower"})


def exchanged(port: int, content: bytes, trust: ssl.SSLContext | None) -> bytes:
    """What the gate answers to these bytes until it falls silent."""
    got, plain = b"", socket.create_connection(("127.0.0.1", port), SECONDS)
    way = trust.wrap_socket(plain, server_hostname="127.0.0.1") if trust else plain
    with way, suppress(OSError):
        way.settimeout(SECONDS)
        way.sendall(content)
        while not got.startswith(b"HTTP/1.1 4") and (piece := way.recv(65536)):
            got += piece
    return got


def judged(sent: Sent, answer: bytes, behind: Behind) -> None:
    """Nothing has arrived but, where it is harmless, calls of the fleet interface."""
    arrived, behind.seen = behind.seen, []
    if sent.harmless:
        assert set(arrived) <= {("POST", CALL)}
        assert len(arrived) <= 1
    else:
        assert arrived == []
        assert b"200 OK" not in answer
        assert b"flower" not in answer


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[int, ssl.SSLContext, Behind]]:
    """nginx as a consortium's server runs it, and what is behind it."""
    folder = tmp_path_factory.mktemp("server")
    wanted = Consortium("trial", ("127.0.0.1",), prefix=str(folder / "m"))
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    place = Office(folder / "office")
    office.found(place, run(), Consortium(**{**vars(wanted), "ports": ports}))
    etc, state = folder / "m/etc/metaward", folder / "m/var/lib/metaward"
    shutil.copytree(place.server, etc)
    state.mkdir(parents=True)
    behind, tls = (
        Behind(),
        {"ssl_certfile": f"{etc}/server.crt", "ssl_keyfile": f"{etc}/server.key"},
    )
    nginx = subprocess.Popen(["nginx", "-e", "stderr", "-c", f"{etc}/nginx.conf"])
    try:
        with serving(behind, ports.superlink, **tls):
            wait_for(lambda: listens(ports.outside), 30, "nginx")
            yield ports.outside, ssl.create_default_context(cafile=f"{etc}/ca.crt"), behind
    finally:
        nginx.terminate()
        nginx.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, None, Behind]]:
    """The gate of a hospital, and what is behind it."""
    folder = tmp_path_factory.mktemp("hospital")
    authority = office.pki.Pair(folder / "ca.crt", folder / "ca.key")
    office.pki.ensure_authority(authority)
    pair = office.pki.Pair(folder / "server.crt", folder / "server.key")
    office.pki.ensure_server(pair, authority, ["127.0.0.1"])
    write_bundles(folder / "bundles.yaml", [])
    (folder / "gate").mkdir()
    key, link = public_text(Ed25519PrivateKey.generate()), free_port()
    gate = Gate(
        listen=free_port(),
        superlink=f"127.0.0.1:{link}",
        ca=str(authority.certificate),
        bundles=str(folder / "bundles.yaml"),
        signers=(key,),
        folder=str(folder / "gate"),
    )
    behind, tls = Behind(), {"ssl_certfile": str(pair.certificate), "ssl_keyfile": str(pair.key)}
    with serving(behind, link, **tls), serving(application(gate), gate.listen):
        yield gate.listen, None, behind


needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")


@needs_nginx
@pytest.mark.parametrize("sent", SENT, ids=[sent.does for sent in SENT])
def test_the_gate_of_the_server(sent: Sent, server: tuple[int, ssl.SSLContext, Behind]) -> None:
    port, trust, behind = server
    judged(sent, exchanged(port, sent.content, trust), behind)


@needs_nginx
def test_a_call_of_the_fleet_passes_the_gate_of_the_server(
    server: tuple[int, ssl.SSLContext, Behind],
) -> None:
    """Or the attacks would be refused for another reason."""
    port, trust, behind = server
    whole = f"POST {CALL} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
    assert b"flower" in exchanged(port, whole.encode(), trust)
    assert behind.seen.pop() == ("POST", CALL)


@pytest.mark.parametrize("sent", SENT, ids=[sent.does for sent in SENT])
def test_the_gate_of_a_hospital(sent: Sent, hospital: tuple[int, None, Behind]) -> None:
    port, _, behind = hospital
    judged(sent, exchanged(port, sent.content, None), behind)


def test_a_call_of_the_fleet_passes_the_gate_of_a_hospital(
    hospital: tuple[int, None, Behind],
) -> None:
    port, _, behind = hospital
    whole = f"POST {CALL} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
    assert b"flower" in exchanged(port, whole.encode(), None)
    assert behind.seen.pop() == ("POST", CALL)
