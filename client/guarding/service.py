"""The guard as a web application on a Unix socket: requests in, protected answers out.

Whoever may open the socket may ask. Each question is answered as by a hospital without a guard
(``client.answering``): the policy admits it or not, records are charged before they are used, and
what leaves has its noise. So code on the other side of the socket, whatever it does, gets no more
than a server could ask for. It can only ask in vain, and stand in the way of its own answers.

One question is answered at a time, because all of them use the same records and the same ledger.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import uvicorn
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from metaward.client.answering import Duty, answer
from metaward.client.errors import NodeError
from metaward.client.guard import NodeConfig
from metaward.client.guarding.door import is_open
from metaward.client.guarding.letters import packed, unpacked

MAX_LETTER = (1 << 30) + (1 << 24)
"""Bytes: the largest array that is read, and room for all else. More is not read to its end."""
LETTER_SECONDS = 60.0
"""How long a question may take to arrive; nobody else is heard meanwhile."""
WAITING = 16
"""Questions that wait for their turn; to a further one the guard answers 503."""
GOODBYE_SECONDS = 5


def application(config: NodeConfig, about: dict[str, str]) -> Starlette:
    """The guard of the hospital with this node config; ``about`` is said to whoever asks."""
    turn = anyio.Lock()

    async def question(request: Request) -> Response:
        duty: Duty = request.path_params["duty"]
        run: int = request.path_params["run"]
        if duty not in get_args(Duty):
            return PlainTextResponse("a guard has no such duty", 404)
        async with turn:
            try:
                with anyio.fail_after(LETTER_SECONDS):
                    records = unpacked(await _whole(request))
            except TimeoutError:
                return PlainTextResponse("the request did not arrive in time", 408)
            except ValueError as error:
                return PlainTextResponse(str(error), 400)
            found = await run_sync(partial(answer, duty, records, config, run))
        return Response(packed(found), media_type="application/x-protobuf")

    async def known(request: Request) -> Response:
        return JSONResponse(about)

    return Starlette(
        routes=[
            Route("/v1/answer/{duty}/{run:int}", question, methods=["POST"]),
            Route("/v1/about", known, methods=["GET"]),
        ]
    )


async def _whole(request: Request) -> bytes:
    letter = bytearray()
    async for piece in request.stream():
        letter += piece
        if len(letter) > MAX_LETTER:
            raise ValueError("the request is too long")
    return bytes(letter)


@contextmanager
def listening(place: Path) -> Iterator[socket.socket]:
    """A Unix socket that its owner and its group may open; it is gone afterwards.

    ``NodeError`` where another guard answers there already, or the place cannot be used.
    """
    _make_way(place)
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o117)
        try:
            found.bind(str(place))
        finally:
            os.umask(before)
    except OSError as error:
        found.close()
        text = f"socket: {place}: {error.strerror or error}; name another place"
        raise NodeError("guard-missing", text) from error
    try:
        yield found
    finally:
        found.close()
        place.unlink(missing_ok=True)


def _make_way(place: Path) -> None:
    """Remove the socket of a guard that ended; ``NodeError`` where one is still there."""
    if is_open(place):
        text = f"socket: {place}: a guard is there already; end it first"
        raise NodeError("guard-missing", text)
    if place.is_socket():
        place.unlink()


def serve(config: NodeConfig, place: Path, about: dict[str, str]) -> None:
    """Answer at the socket ``place`` until the process is asked to end."""
    with listening(place) as found:
        settings = uvicorn.Config(
            application(config, about),
            log_level="warning",
            ws="none",
            limit_concurrency=WAITING,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
        )
        uvicorn.Server(settings).run([found])
