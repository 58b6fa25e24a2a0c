"""The gate of a hospital as a web application between its SuperNode and the server.

The SuperNode speaks to the gate on loopback, the gate speaks to the server and checks its
certificate; TLS protects both ways. Every request of Flower's fleet interface is passed on as it
is, with the SuperNode's own signature. Of the answers, one is looked at: that of ``get-fab``, which
holds the application's code. A bundle that is not on the list never reaches the SuperNode. The list
is read anew each time, so that a bundle can be withdrawn while the gate runs.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from flwr.proto.fab_pb2 import GetFabRequest, GetFabResponse
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from metaward.client.let_in import ADMITTED, BUNDLE, RUN
from metaward.files import append_line
from metaward.options import ConfigError
from metaward.server.deploy.gate.allowed import admitted, read_bundles
from metaward.server.deploy.gate.setting import Gate

FLEET = "/v1/fleet/"
CODE = f"{FLEET}get-fab"
CALL = re.compile(FLEET + "[a-z-]+")
MAX_BUNDLE = 64 * 1024 * 1024
"""Bytes; a longer answer to ``get-fab`` is not even read to its end."""
MAX_QUESTION = 64 * 1024
"""Bytes of a request for code, which holds a few numbers and a hash."""
WAIT_SECONDS = 60.0
HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "te"})
"""Headers that are for one connection and not for the next."""


class GateLog:
    """An append-only file with a line of JSON for each decision, on the disk before it acts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, what: str, **more: object) -> None:
        """Append one line, with the time."""
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "what": what, **more}
        append_line(self.path, json.dumps(line))


def application(gate: Gate) -> Starlette:
    """The gate's application: it passes the fleet interface on and refuses everything else."""
    audit = GateLog(gate.audit)
    trust = ssl.create_default_context(cafile=gate.ca)
    server = httpx.AsyncClient(
        base_url=f"https://{gate.superlink}", verify=trust, timeout=WAIT_SECONDS, trust_env=False
    )

    async def fleet(request: Request) -> Response:
        if not CALL.fullmatch(request.url.path):
            return await other(request)
        try:
            if request.url.path == CODE:
                return await code(server, request, gate, audit)
            return await passed(server, request)
        except httpx.HTTPError as error:
            return PlainTextResponse(f"gate: the server: {type(error).__name__}", 502)

    async def other(request: Request) -> Response:
        audit.note("refused", path=request.url.path[:200])
        return PlainTextResponse("gate: only the fleet interface passes", 403)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        audit.note("started", superlink=gate.superlink)
        yield
        await server.aclose()
        audit.note("ended")

    anything = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    routes = [
        Route(FLEET + "{call}", fleet, methods=["GET", "POST"]),
        Route("/{path:path}", other, methods=anything),
    ]
    return Starlette(routes=routes, lifespan=life)


async def passed(server: httpx.AsyncClient, request: Request) -> Response:
    """The server's answer as it comes, without being kept in memory."""
    answer = await server.send(_onward(server, request, request.stream()), stream=True)
    return StreamingResponse(
        answer.aiter_raw(), answer.status_code, _headers(answer), background=_closing(answer)
    )


async def code(server: httpx.AsyncClient, request: Request, gate: Gate, audit: GateLog) -> Response:
    """The bundle that the server sends, where it is on the list; 403 where it is not."""
    question = await _read(request.stream(), MAX_QUESTION)
    answer = await server.send(_onward(server, request, question), stream=True)
    try:
        content = await _read(answer.aiter_bytes(), MAX_BUNDLE)
    finally:
        await answer.aclose()
    if answer.status_code != 200:
        return Response(content, answer.status_code, _headers(answer))
    bundle = bundle_of(content)
    found = hashlib.sha256(bundle.fab.content).hexdigest()
    about = {BUNDLE: found, RUN: run_of(question)}
    try:
        entry = admitted(found, read_bundles(Path(gate.bundles)), gate.signers)
    except ConfigError as error:  # somebody is writing the list, or has damaged it
        audit.note("refused", **about, why=str(error))
        return PlainTextResponse("gate: the list of bundles cannot be read", 403)
    if entry is None:
        audit.note("refused", **about, why="not on the list of signed bundles")
        return PlainTextResponse("gate: this bundle is not on the hospital's list", 403)
    audit.note(ADMITTED, **about, version=entry.version, signer=entry.signer)
    return Response(bundle.SerializeToString(), 200, _headers(answer))


def run_of(question: bytes) -> str | None:
    """Flower's number of the run for which a SuperNode asks for code; None where it names none.

    It is a text, because programs other than Python round such large numbers in JSON.
    """
    try:
        number = GetFabRequest.FromString(question).run_id
    except DecodeError:
        return None
    return str(number) if number else None


def bundle_of(content: bytes) -> GetFabResponse:
    """The answer to ``get-fab`` as the SuperNode would read it; an empty one where it is none.

    It is written anew before it is passed on, so that what was looked at is what arrives.
    """
    answer = GetFabResponse()
    try:
        answer.ParseFromString(content)
    except DecodeError:
        return GetFabResponse()
    answer.DiscardUnknownFields()
    return answer


async def _read(pieces: AsyncIterator[bytes], most: int) -> bytes:
    content = bytearray()
    async for piece in pieces:
        content += piece
        if len(content) > most:
            raise httpx.DecodingError(f"longer than {most} bytes")
    return bytes(content)


def _onward(
    server: httpx.AsyncClient, request: Request, body: AsyncIterator[bytes] | bytes
) -> httpx.Request:
    headers = [(k, v) for k, v in request.headers.items() if k not in HOP]
    return server.build_request(request.method, request.url.path, headers=headers, content=body)


def _headers(answer: httpx.Response) -> dict[str, str]:
    left = HOP | {"content-length", "content-encoding"} if answer.is_stream_consumed else HOP
    return {key: value for key, value in answer.headers.items() if key not in left}


def _closing(answer: httpx.Response) -> BackgroundTask:
    return BackgroundTask(answer.aclose)
