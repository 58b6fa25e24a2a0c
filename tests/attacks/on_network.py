"""What somebody in the network sends to a gate, byte by byte: one entry for each attack.

The fleet interface is all that a gate passes on. Each of these tries to reach the SuperLink's
control or runtime interface through it, where runs are started and tasks are handed out.
"""

from __future__ import annotations

from dataclasses import dataclass

CALL = "/v1/fleet/pull-messages"
START = "/v1/control/start-run"
INNER = f"POST {START} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Sent:
    """``does`` completes "Somebody sends ...". Where it is ``harmless``, what arrives is one call
    of the fleet interface."""

    does: str
    content: bytes
    harmless: bool = False


def line(target: str, method: str = "POST", *headers: str) -> bytes:
    """A request without a body."""
    more = "".join(f"{header}\r\n" for header in headers)
    head = f"{method} {target} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n{more}"
    return f"{head}Content-Length: 0\r\n\r\n".encode("latin-1")


def smuggled(*headers: str, body: str) -> bytes:
    """A call of the fleet interface whose body holds another request, with headers that disagree
    on where the body ends."""
    head = f"POST {CALL} HTTP/1.1\r\nHost: g\r\n" + "".join(f"{one}\r\n" for one in headers)
    return f"{head}\r\n{body}".encode("latin-1")


CHUNK = f"{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n"
SENT = [
    Sent("a request to start a run", line(START)),
    Sent("a request to hand out a task", line("/v1/runtime/acquire-task")),
    Sent("a request to the health interface", line("/health")),
    Sent("a path with two dots out of the fleet", line(f"/v1/fleet/..{START[3:]}")),
    Sent("a path with dots through the fleet and back", line(f"{START}/../../fleet/pull-messages")),
    Sent("dots that are written as %2e", line(f"/v1/fleet/%2e%2e{START[3:]}")),
    Sent("slashes that are written as %2f", line("/v1/fleet/..%2fcontrol%2fstart-run")),
    Sent("dots that are written twice over", line("/v1/fleet/%252e%252e/control/start-run")),
    Sent("a backslash", line("/v1/fleet/..\\control\\start-run")),
    Sent("a double slash at the start", line(f"/{START}")),
    Sent("a double slash inside", line("/v1/fleet//pull-messages")),
    Sent("capital letters", line(START.upper())),
    Sent("capital letters in the fleet's name", line(CALL.upper())),
    Sent("letters that are written as numbers", line("/v1/%63ontrol/start-run")),
    Sent("a semicolon and a path", line(f"/v1/fleet/x;{START}")),
    Sent("a question mark in the middle", line(f"{START}?/../../v1/fleet/pull-messages")),
    Sent("a fragment", line(f"{START}#/../../fleet/pull-messages")),
    Sent("a zero byte", line("/v1/fleet/%00/../control/start-run")),
    Sent("a whole address in place of a path", line(f"http://127.0.0.1:9091{START}")),
    Sent("another method", line(START, "PATCH")),
    Sent("CONNECT", line("127.0.0.1:9091", "CONNECT")),
    Sent("TRACE", line(CALL, "TRACE")),
    Sent(
        "an upgrade to HTTP/2",
        line(START, "POST", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    ),
    Sent("a header that rewrites the path", line(START, "POST", f"X-Original-URL: {CALL}")),
    Sent(
        "a call of the fleet with a header that rewrites its path",
        line(CALL, "POST", f"X-Original-URL: {START}", f"X-Rewrite-URL: {START}"),
        harmless=True,
    ),
    Sent(
        "a second request behind a first one",
        smuggled("Content-Length: 0", body=INNER),
        harmless=True,
    ),
    Sent(
        "a body with both lengths, the plain one shorter",
        smuggled("Content-Length: 4", "Transfer-Encoding: chunked", body=CHUNK),
        harmless=True,
    ),
    Sent(
        "a body with both lengths, the chunks shorter",
        smuggled(
            f"Content-Length: {5 + len(INNER)}",
            "Transfer-Encoding: chunked",
            body=f"0\r\n\r\n{INNER}",
        ),
        harmless=True,
    ),
    Sent(
        "two different lengths",
        smuggled("Content-Length: 0", f"Content-Length: {len(INNER)}", body=INNER),
        harmless=True,
    ),
    Sent(
        "a blank before the colon of a length",
        smuggled("Content-Length: 0", "Transfer-Encoding : chunked", body=f"0\r\n\r\n{INNER}"),
        harmless=True,
    ),
    Sent(
        "an encoding that is almost chunked",
        smuggled("Content-Length: 0", "Transfer-Encoding: xchunked", body=f"0\r\n\r\n{INNER}"),
        harmless=True,
    ),
    Sent(
        "a line end inside a header",
        smuggled("X-A: b\nTransfer-Encoding: chunked", "Content-Length: 0", body=INNER),
        harmless=True,
    ),
]
