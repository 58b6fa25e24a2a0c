"""Whether a site can take part: every check says what it found, and what to do if it is wrong.

``metaward doctor FOLDER`` looks at the settings (``/etc/metaward``, or an unpacked parcel) of a
server or a hospital. It changes nothing, and sends nothing but an empty request to the server.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from metaward.client.scores import known_scores
from metaward.errors import MetawardError
from metaward.privacy.ledger import verify
from metaward.privacy.policy import Policy
from metaward.server.deploy.doctor.finding import Check, Finding, Verdict
from metaward.server.deploy.doctor.line import certificates, connection, ports
from metaward.server.deploy.doctor.own import guard, node_config
from metaward.server.deploy.gate.allowed import admitted, read_bundles
from metaward.server.deploy.gate.setting import Gate
from metaward.server.version import code_version

DISK_BYTES = 2 << 30
PINNED = ("flwr", "torch", "opacus", "numpy", "cryptography")


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


def policy(folder: Path) -> Iterator[Finding]:
    """That the policy can be read and says something."""
    path = Path(str(node_config(folder).get("policy", folder / "policy.yaml")))
    found = Policy.read(_here(path, folder), known_scores())
    does = [word for word, yes in (("train", found.train), ("judge", found.evaluate)) if yes]
    spend = f"epsilon {found.epsilon:g}" if found.epsilon else "NO PRIVACY"
    yield Finding("policy", "good", f"{path}: it may {' and '.join(does) or 'do nothing'}, {spend}")


def ledger(folder: Path) -> Iterator[Finding]:
    """That there is a ledger whose chain is whole."""
    path = Path(str(node_config(folder).get("ledger", "")))
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
    named = node_config(folder).get("data-root")
    if not named:
        text = "no data folder is named"
        yield Finding("data", "wrong", text, "data-root in guard.yaml, or in the node config")
        return
    path = Path(str(named))
    if not path.is_dir() or not any(path.iterdir()):
        text = f"{path} is missing or empty"
        yield Finding(
            "data", "wrong", text, "put the records there; metaward data check looks at them"
        )
    else:
        yield Finding("data", "good", f"{path}: {sum(1 for _ in path.iterdir())} entries")


def disk(folder: Path) -> Iterator[Finding]:
    """Room for the ledger: a charge that cannot be written ends the run."""
    path = Path(str(node_config(folder).get("ledger", folder / "x"))).parent
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


def code(folder: Path) -> Iterator[Finding]:
    """That charges will name the code that the gate let in."""
    named, gate = node_config(folder).get("gate-log"), Gate.read(folder / "gate.yaml")
    remedy = f"name it in guard.yaml, or in the node config of metaward-node.service: {gate.audit}"
    if not named:
        text = "the node config names no gate-log: charges will not say which code they paid for"
        yield Finding("code", "doubtful", text, remedy)
    elif Path(str(named)) != gate.audit:
        text = f"the node config names {named}, but the gate writes {gate.audit}"
        yield Finding("code", "wrong", text, remedy)
    else:
        yield Finding("code", "good", f"charges will name the code that {named} let in")


HOSPITAL: tuple[Check, ...] = (
    *(versions, keys, certificates, connection, bundles, code, ports),
    *(guard, policy, ledger, data, disk),
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


def _here(path: Path, folder: Path) -> Path:
    """A file where it will be, or beside the settings before the installation."""
    return path if path.exists() else folder / path.name
