"""A SuperNode that was killed is signed off with its own key, as Flower's client does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from flwr.proto.fleet_pb2 import DeactivateNodeRequest, DeactivateNodeResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metaward.server.deploy import pki
from metaward.server.deploy.sign_off import sign_off
from metaward.server.engines.processes import free_port
from tests.server.deploy.live import wait_for


class Link:
    """A SuperLink of which only one call matters."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.status = folder, free_port(), 200
        self.seen: list[tuple[str, int, bool]] = []
        self.authority = pki.Pair(folder / "ca.crt", folder / "ca.key")
        pki.ensure_authority(self.authority)
        self.own = pki.Pair(folder / "link.crt", folder / "link.key")
        pki.ensure_server(self.own, self.authority, ["localhost", "127.0.0.1"])
        pki.ensure_node_key(folder / "node.key", folder / "node.key.pub")
        self.log = folder / "node.log"

    async def answer(self, request: Request) -> Response:
        asked = DeactivateNodeRequest.FromString(await request.body())
        signed = "flwr-signature" in request.headers
        self.seen.append((request.url.path, asked.node_id, signed))
        return Response(DeactivateNodeResponse().SerializeToString(), self.status)

    def sign_off(self) -> str:
        address, ca = f"127.0.0.1:{self.port}", self.authority.certificate
        return sign_off(address, ca, self.folder / "node.key", self.log)


@contextmanager
def serving(link: Link) -> Iterator[None]:
    app = Starlette(routes=[Route("/{path:path}", link.answer, methods=["POST"])])
    config = uvicorn.Config(
        app,
        port=link.port,
        log_level="error",
        ws="none",
        ssl_certfile=str(link.own.certificate),
        ssl_keyfile=str(link.own.key),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, 30, "the server")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    made = Link(tmp_path)
    with serving(made):
        yield made


def test_the_number_that_it_had_last_is_signed_off(link: Link) -> None:
    link.log.write_text("INFO: SuperNode ID: 7\nINFO: SuperNode ID: 18446744073709551615\n")
    assert link.sign_off() == ""
    assert link.seen == [("/v1/fleet/deactivate-node", 2**64 - 1, True)]


def test_one_that_never_connected_need_not_be_signed_off(link: Link) -> None:
    assert link.sign_off() == ""
    link.log.write_text("Failed to initialize the connection\n")
    assert link.sign_off() == ""
    assert link.seen == []


@pytest.mark.parametrize(("status", "why"), [(412, ""), (401, "answered 401"), (500, "500")])
def test_one_that_is_off_already_is_off(link: Link, status: int, why: str) -> None:
    link.log.write_text("SuperNode ID: 7\n")
    link.status = status
    said = link.sign_off()
    assert why in said
    assert bool(said) == bool(why)


def test_a_superlink_that_is_gone_is_named(tmp_path: Path) -> None:
    alone = Link(tmp_path)
    alone.log.write_text("SuperNode ID: 7\n")
    assert "did not take its sign-off" in alone.sign_off()
