"""The way to the server: certificates, connection, clock, and what must be shut."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography import x509

from metaward.server.deploy.doctor.finding import Finding, Verdict
from metaward.server.deploy.gate.setting import Gate

SKEW_SECONDS, SKEW_LIMIT = 3.0, 8.0
"""Flower refuses a SuperNode whose clock is some ten seconds ahead."""
EXPIRES_DAYS = 30
WAIT_SECONDS = 5.0


def certificates(folder: Path) -> Iterator[Finding]:
    """How long the certificates in the folder are valid."""
    for name in ("ca.crt", "server.crt"):
        path = folder / name
        if not path.exists():
            if name == "ca.crt":
                yield Finding(
                    "certificate", "wrong", f"{path} is missing", "unpack the parcel anew"
                )
            continue
        yield _lifetime(str(path), x509.load_pem_x509_certificate(path.read_bytes()))


def connection(folder: Path) -> Iterator[Finding]:
    """The server: reached, known by its certificate, with the right time, shut where it must be."""
    gate = Gate.read(folder / "gate.yaml")
    host, _, port = gate.superlink.rpartition(":")
    trust = ssl.create_default_context(cafile=gate.ca)
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), WAIT_SECONDS) as raw,
            trust.wrap_socket(raw, server_hostname=host.strip("[]")) as line,
        ):
            served = line.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        text = f"{gate.superlink} shows a certificate that does not fit: {error.verify_message}"
        yield Finding("server", "wrong", text, "ask the consortium; do not go on without it")
        return
    except OSError as error:
        text = f"{gate.superlink} cannot be reached: {error}"
        yield Finding("server", "wrong", text, "let outgoing TCP connections to it through")
        return
    yield Finding("server", "good", f"{gate.superlink} is the server that the authority signed")
    if served:
        yield _lifetime("the server's certificate", x509.load_der_x509_certificate(served))
    yield from _answers(gate, trust)


def ports(folder: Path) -> Iterator[Finding]:
    """Whether the gate's port is free, or the gate itself listens there."""
    gate = Gate.read(folder / "gate.yaml")
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", gate.listen))
        except OSError:
            yield _occupied(gate)
        else:
            yield Finding("ports", "good", f"127.0.0.1:{gate.listen} is free for the gate")


# -------------------------------------------------------------------------------- details


def _lifetime(what: str, certificate: x509.Certificate) -> Finding:
    now = datetime.now(UTC)
    left = (certificate.not_valid_after_utc - now).days
    if certificate.not_valid_before_utc > now:
        text = f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return Finding("certificate", "wrong", text, "set this machine's clock right")
    renew = "metaward deploy renew DIR --server, then give the server its new parcel"
    if left < 0:
        return Finding("certificate", "wrong", f"{what} has expired", renew)
    verdict: Verdict = "good" if left > EXPIRES_DAYS else "doubtful"
    return Finding(
        "certificate",
        verdict,
        f"{what} is valid for {left} days",
        "" if verdict == "good" else renew,
    )


def _answers(gate: Gate, trust: ssl.SSLContext) -> Iterator[Finding]:
    """The server's clock, and whether what only the operator may reach is shut."""
    with httpx.Client(verify=trust, timeout=WAIT_SECONDS, trust_env=False) as client:
        began = datetime.now(UTC)
        answer = client.post(f"https://{gate.superlink}/v1/control/list-runs")
    if "date" in answer.headers:
        with suppress(ValueError, TypeError):
            skew = (began - parsedate_to_datetime(answer.headers["date"])).total_seconds()
            yield _clock(skew)
    if answer.status_code == 403:
        yield Finding("server", "good", "its control interface is shut to the outside")
    else:
        text = f"its control interface answers {answer.status_code}, not 403"
        remedy = "do not take part before the consortium has put a gate in front of it"
        yield Finding("server", "wrong", text, remedy)


def _clock(skew: float) -> Finding:
    """``skew`` in seconds, known to a second; positive where this machine is ahead."""
    way = "ahead of" if skew > 0 else "behind"
    text = f"this clock is {abs(skew):.0f} s {way} the server's"
    if abs(skew) <= SKEW_SECONDS:
        return Finding("clock", "good", text)
    verdict: Verdict = "doubtful" if abs(skew) < SKEW_LIMIT else "wrong"
    return Finding("clock", verdict, text, "let both machines keep time by NTP")


def _occupied(gate: Gate) -> Finding:
    try:
        trust = ssl.create_default_context(cafile=gate.authority.certificate)
        url = f"https://127.0.0.1:{gate.listen}/"
        answer = httpx.get(url, verify=trust, timeout=WAIT_SECONDS, trust_env=False)
    except (httpx.HTTPError, OSError):
        answer = None
    if answer is not None and answer.text.startswith("gate:"):
        return Finding("ports", "good", f"the gate listens on 127.0.0.1:{gate.listen}")
    text = f"another program listens on 127.0.0.1:{gate.listen}"
    return Finding(
        "ports",
        "wrong",
        text,
        "end it, or change listen in gate.yaml and the port of the SuperNode with it",
    )
