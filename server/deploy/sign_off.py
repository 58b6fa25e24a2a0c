"""Signing a SuperNode off that was killed before it could do so itself.

Flower's SuperLink takes a SuperNode for connected until its heartbeat has lapsed, twice the 30
seconds between two of them (``HEARTBEAT_DEFAULT_INTERVAL``, which no option changes), and refuses
its key meanwhile. A SuperNode that ends in order signs off, and can come back at once. Whoever has
its key and knows that its process is gone can sign it off in its place, by the same call
(``DeactivateNode`` of Flower 1.41 and 1.42).
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from metaward.server.deploy.pki import load_key

LAPSE_SECONDS = 60.0
"""After so long the SuperLink itself takes a silent SuperNode for gone."""
NOT_CONNECTED = 412
"""With this status the SuperLink says that a SuperNode cannot be signed off, being off."""
NUMBER = re.compile(rb"SuperNode ID: (\d{1,20})\b")
"""How a SuperNode's log names the number that the SuperLink knows it by."""


def sign_off(superlink: str, ca: Path, key: Path, log: Path) -> str:
    """Sign the SuperNode with this key off at ``superlink`` (HOST:PORT).

    Returns "" where the SuperLink no longer takes it for connected, else why that failed. ``log``
    is that of the SuperNode's own process, which must be gone; ``ca`` is the certificate by which
    the SuperLink is known.
    """
    numbers = NUMBER.findall(log.read_bytes()) if log.is_file() else []
    if not numbers:  # it never connected
        return ""
    private = load_key(key)
    signed = NodeAuthHttpInterceptor(private, private.public_key())
    version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    try:
        trust = ca.read_bytes()
        with FleetHttpClient.from_server_address(superlink, False, trust, [version, signed]) as c:
            c.DeactivateNode(DeactivateNodeRequest(node_id=int(numbers[-1])))
    except httpx.HTTPStatusError as error:
        if error.response.status_code == NOT_CONNECTED:  # it signed off itself, or has lapsed
            return ""
        return f"the SuperLink answered {error.response.status_code}"
    except Exception as error:  # of Flower's client, whatever it is: there is another way, to wait
        return f"the SuperLink did not take its sign-off ({type(error).__name__}: {error})"
    return ""
