"""Whether a site can take part: every check says what it found, and what to do if it is wrong.

``metaward doctor FOLDER`` looks at the settings (``/etc/metaward``, or an unpacked parcel) of a
server or a hospital. It changes nothing, and sends nothing but an empty request to the server.
"""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any, Literal

import httpx
from cryptography import x509
from packaging.requirements import Requirement

from metaward.client.scores import known_scores
from metaward.errors import MetawardError
from metaward.privacy.ledger import verify
from metaward.privacy.policy import Policy
from metaward.server.deploy.gate.allowed import admitted, read_bundles
from metaward.server.deploy.gate.setting import Gate
from metaward.server.version import code_version
from metaward.yaml_text import read_yaml

Verdict = Literal["good", "doubtful", "wrong"]
SKEW_SECONDS, SKEW_LIMIT = 3.0, 8.0
"""Flower refuses a SuperNode whose clock is some ten seconds ahead."""
EXPIRES_DAYS = 30
DISK_BYTES = 2 << 30
WAIT_SECONDS = 5.0
UNITS = Path("/etc/systemd/system")
PINNED = ("flwr", "torch", "opacus", "numpy", "cryptography")


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` says what to do about it."""

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


Check = Callable[[Path], Iterator[Finding]]


def examine(folder: Path) -> list[Finding]:
    """All findings of a folder of settings: that of a server, of a hospital, or neither."""
    if (folder / "gate.yaml").is_file():
        checks: tuple[Check, ...] = HOSPITAL
    elif (folder / "server.crt").is_file():
        checks = SERVER
    else:
        text = f"{folder} has neither gate.yaml (a hospital) nor server.crt (a server)"
        return [Finding("folder", "wrong", text, "name /etc/metaward, or an unpacked parcel")]
    return [finding for check in checks for finding in _safely(check, folder)]


def versions(folder: Path) -> Iterator[Finding]:
    """The packages that results and guarantees depend on."""
    yield Finding("version", "good", f"{code_version()}, Python {sys.version.split()[0]}")
    wanted = {r.name: r for r in map(Requirement, requires("metaward") or ()) if not r.marker}
    for name in PINNED:
        installed = version(name)
        if name in wanted and not wanted[name].specifier.contains(installed, prereleases=True):
            text = f"{name} {installed} is installed, {wanted[name]} is needed"
            yield Finding("version", "wrong", text, "install metaward anew in a new environment")


def keys(folder: Path) -> Iterator[Finding]:
    """That nobody but their owner can read private keys."""
    for name in ("node.key", "signing.key", "server.key"):
        path = folder / name
        if not path.exists():
            continue
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            yield Finding("keys", "wrong", f"{path} can be read by others", f"chmod 600 {path}")
        else:
            yield Finding("keys", "good", f"{path} is private")


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


def policy(folder: Path) -> Iterator[Finding]:
    """That the policy can be read and says something."""
    path = Path(str(_guard(folder).get("policy", folder / "policy.yaml")))
    found = Policy.read(_here(path, folder), known_scores())
    does = [word for word, yes in (("train", found.train), ("judge", found.evaluate)) if yes]
    spend = f"epsilon {found.epsilon:g}" if found.epsilon else "NO PRIVACY"
    yield Finding("policy", "good", f"{path}: it may {' and '.join(does) or 'do nothing'}, {spend}")


def ledger(folder: Path) -> Iterator[Finding]:
    """That there is a ledger whose chain is whole."""
    path = Path(str(_guard(folder).get("ledger", "")))
    if not path.is_file():
        remedy = (
            f"for a new hospital: metaward ledger init {path} --hospital NAME; else put it back"
        )
        yield Finding("ledger", "wrong", f"{path} is missing", remedy)
        return
    faults = verify(path)
    for fault in faults:
        remedy = "charge nothing any more; put the newest copy back, and tell the privacy officer"
        yield Finding("ledger", "wrong", f"{path}: {fault}", remedy)
    if not faults:
        yield Finding("ledger", "good", f"{path}: its chain is whole")


def data(folder: Path) -> Iterator[Finding]:
    """That there are records, and room for what is written."""
    path = Path(str(_guard(folder).get("data-root", "")))
    if not path.is_dir() or not any(path.iterdir()):
        text = f"{path} is missing or empty"
        yield Finding(
            "data", "wrong", text, "put the records there; metaward data check looks at them"
        )
    else:
        yield Finding("data", "good", f"{path}: {sum(1 for _ in path.iterdir())} entries")


def disk(folder: Path) -> Iterator[Finding]:
    """Room for the ledger: a charge that cannot be written ends the run."""
    path = Path(str(_guard(folder).get("ledger", folder / "x"))).parent
    place = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(place).free
    verdict: Verdict = "good" if free >= DISK_BYTES else "doubtful"
    remedy = "" if verdict == "good" else "make room; a full disk stops the run, but loses nothing"
    yield Finding("disk", verdict, f"{place}: {free / 2**30:.1f} GiB free", remedy)


def bundles(folder: Path) -> Iterator[Finding]:
    """That some code may run, and that the signatures on the list are known ones."""
    gate = Gate.read(folder / "gate.yaml")
    listed = read_bundles(Path(gate.bundles))
    good = [one for one in listed if admitted(one.sha256, listed, gate.signers)]
    for one in listed:
        if one not in good:
            text = f"bundle {one.sha256[:12]} ({one.version}) has no signature of a known key"
            yield Finding("bundles", "doubtful", text, "it is refused; ask who put it there")
    if good:
        names = ", ".join(f"{one.sha256[:12]} ({one.version})" for one in good)
        yield Finding("bundles", "good", f"allowed: {names}")
    else:
        remedy = "read the code, then let the consortium run metaward deploy approve"
        yield Finding("bundles", "wrong", "no bundle of code may run here", remedy)


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


HOSPITAL: tuple[Check, ...] = (
    *(versions, keys, certificates, connection, bundles, ports, policy, ledger, data, disk),
)
SERVER: tuple[Check, ...] = (versions, keys, certificates, disk)


# -------------------------------------------------------------------------------- details


def _safely(check: Check, folder: Path) -> list[Finding]:
    """The findings of a check; one that cannot be made is a finding as well."""
    found = list[Finding]()
    try:
        for finding in check(folder):
            found.append(finding)
    except (MetawardError, OSError, ValueError) as error:
        remedy = "put right what it names, and look again"
        found.append(Finding(check.__name__, "wrong", str(error), remedy))
    return found


def _guard(folder: Path) -> dict[str, Any]:
    """Where policy, ledger and data are: as the guard says, or the SuperNode's service."""
    path = folder / "guard.yaml"
    if path.is_file():
        return dict(read_yaml(path.read_bytes(), str(path)))
    units = [place / "metaward-node.service" for place in (folder, UNITS)]
    text = next((unit.read_text(encoding="utf-8") for unit in units if unit.is_file()), "")
    return dict(re.findall(r'([a-z-]+)="([^"]*)"', text))


def _here(path: Path, folder: Path) -> Path:
    """A file where it will be, or beside the settings before the installation."""
    return path if path.exists() else folder / path.name


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
