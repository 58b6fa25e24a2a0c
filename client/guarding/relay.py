"""The SuperNode's side: a request goes to the guard, and the guard's answer comes back.

This module is all of the hospital's side that runs in Flower's process where there is a guard. It
imports neither torch nor learners, which take seconds, and it reads no file of the hospital's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from metaward.client.errors import NodeError
from metaward.client.guarding.door import is_open
from metaward.client.guarding.letters import Records, packed, unpacked

HOST = "http://guard"
"""A name for HTTP alone: the connection is that of the socket."""
ATTEMPTS = 3
AWAY_SECONDS = 60.0
LOOK_SECONDS, SHORT_SECONDS = 0.5, 5.0


def relay(socket: Path, duty: str, records: Records, flower_run: int) -> Records:
    """The guard's answer to a request of Flower's run with this number.

    A guard that ended while it worked is asked again when it is back: what it has charged and
    stored is used again. ``NodeError`` where it does not come back, or ends each time.
    """
    ask = _asking(socket, f"/v1/answer/{duty}/{flower_run}", packed(records))
    for _ in range(ATTEMPTS):
        letter = _patiently(ask, time.monotonic() + AWAY_SECONDS, socket)
        if letter is not None:
            return _opened(letter, socket)
    raise NodeError("guard-missing", f"the guard at {socket} ended {ATTEMPTS} times in one request")


def asked_about(socket: Path) -> dict[str, str]:
    """What the guard says of itself: its code's version. ``NodeError`` where it is no guard."""
    try:
        with _client(socket, SHORT_SECONDS) as client:
            found = client.get("/v1/about").raise_for_status().json()
        return {str(key): str(value) for key, value in dict(found).items()}
    except (httpx.HTTPError, TypeError, ValueError) as error:
        text = f"what answers at {socket} is no guard of metaward's ({error})"
        raise NodeError("guard-missing", text) from error


def _client(socket: Path, timeout: float | None) -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(socket)), base_url=HOST, timeout=timeout
    )


def _asking(socket: Path, question: str, letter: bytes) -> Callable[[], bytes]:
    """One attempt: a connection, the request, and however long the work takes."""

    def ask() -> bytes:
        with _client(socket, None) as client:
            answer = client.post(question, content=letter)
        if answer.status_code != httpx.codes.OK:
            text = f"the guard at {socket} answers {answer.status_code}: {answer.text:.200}"
            raise NodeError("guard-missing", text)
        return answer.content

    return ask


def _patiently(ask: Callable[[], bytes], deadline: float, socket: Path) -> bytes | None:
    """The answer, as soon as there is somebody to ask; None where the guard ended meanwhile."""
    while not is_open(socket):
        if time.monotonic() >= deadline:
            text = f"no guard answers at {socket}; start it: metaward guard FILE"
            raise NodeError("guard-missing", text)
        time.sleep(LOOK_SECONDS)
    try:
        return ask()
    except httpx.TransportError:
        return None


def _opened(letter: bytes, socket: Path) -> Records:
    try:
        return unpacked(letter)
    except ValueError as error:
        text = f"what answers at {socket} is no guard of metaward's"
        raise NodeError("guard-missing", text) from error
