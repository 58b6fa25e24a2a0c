"""What is done in a consortium's folder: founding it, letting hospitals in, and turning them out.

Each action writes ``consortium.yaml`` last, can be repeated after a crash, and makes anew what the
machines concerned must be given (``parcels/``). Private keys of hospitals lie in the folder until
they are handed over; afterwards ``hospitals/NAME`` can be deleted.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import yaml

from metaward import sim
from metaward.files import replace_file, write_private
from metaward.options import ConfigError
from metaward.privacy.signing import read_signing_key
from metaward.server.deploy import pki
from metaward.server.deploy.consortium.members import NAME, Consortium, Member, read_consortium
from metaward.server.deploy.consortium.places import Office
from metaward.server.deploy.consortium.render import hospital_files, server_files
from metaward.server.deploy.gate.allowed import read_bundles, signed_bundle, write_bundles
from metaward.server.deploy.layout import IGNORE, default_policy, make_private, refuse_names

LOCAL = ("localhost", "127.0.0.1")
"""Names by which the server's own gate and commands reach the SuperLink."""


def found(office: Office, run: sim.Sim, consortium: Consortium) -> Consortium:
    """Make a consortium's folder for the hospitals in a run's roster.

    ``ConfigError`` where the folder holds something else, or a name cannot be used.
    """
    names = [seat.name for seat in run.client.tasks.roster()]
    refuse_names([str(office.root), *names])
    if (office.root / NAME).exists():
        text = "there is a consortium already; change it with metaward deploy add, renew or revoke"
        raise ConfigError([text], str(office.root))
    if office.root.exists() and any(office.root.iterdir()) and not office.authority.key.exists():
        raise ConfigError(["holds other files; name a new folder"], str(office.root))
    make_private(office.root, office.authority.key.parent, office.server, office.root / "parcels")
    (office.root / ".gitignore").write_text(IGNORE, encoding="utf-8")
    pki.ensure_authority(office.authority, consortium.name)
    signer = pki.ensure_signing_key(office.signing_key)
    if not office.bundles.exists():
        write_bundles(office.bundles, [])
    consortium = replace(consortium, signers=(signer,))
    return _grown(office, run, consortium)


def add(office: Office, run: sim.Sim) -> tuple[Consortium, list[str]]:
    """Let in the hospitals of a roster that are not in the consortium yet; their names, too.

    ``ConfigError`` where a hospital that is in it would get another number: the number is part of
    what it was given.
    """
    consortium = read_consortium(office.root)
    before = [member.name for member in consortium.members]
    names = [seat.name for seat in run.client.tasks.roster()]
    if names[: len(before)] != before:
        text = (
            f"the configuration's roster begins with {', '.join(names[: len(before)][:10])}, the "
            f"consortium with {', '.join(before[:10])}; new hospitals come after all others"
        )
        raise ConfigError([text])
    return _grown(office, run, consortium), names[len(before) :]


def renew(office: Office, name: str, node: str = "", seat: str = "") -> Consortium:
    """New keys for a hospital, whose old ones no longer count.

    Where the hospital made its keys itself, ``node`` and ``seat`` are their public halves, and no
    private key is made here.
    """
    consortium = read_consortium(office.root)
    consortium.member(name)
    folder = office.hospital(name)
    for key in ("node.key", "node.key.pub", "signing.key"):
        (folder / key).unlink(missing_ok=True)
    member = Member(name, node, seat) if node and seat else _member(office, name)
    consortium = consortium.with_member(member)
    _equip(office, consortium, member)
    return _written(office, consortium)


def renew_server(office: Office, hosts: Sequence[str]) -> Consortium:
    """A new certificate for the server, for other ``hosts`` if any are given."""
    consortium = read_consortium(office.root)
    consortium = replace(consortium, hosts=tuple(hosts) or consortium.hosts)
    office.certificate.certificate.unlink(missing_ok=True)
    return _written(office, consortium)


def revoke(office: Office, name: str) -> Consortium:
    """A hospital whose keys no longer count from now on."""
    consortium = read_consortium(office.root)
    consortium.member(name)
    return _written(office, consortium.with_member(Member(name, "", "")))


def approve(office: Office, sha256: str, version: str) -> None:
    """Put a bundle of code on the list, with the consortium's signature."""
    read_consortium(office.root)
    new = signed_bundle(sha256, version, read_signing_key(office.signing_key))
    others = [one for one in read_bundles(office.bundles) if one.sha256 != sha256]
    write_bundles(office.bundles, [*others, new])
    for member in read_consortium(office.root).members:
        _parcel(office, member.name, office.hospital(member.name))


def withdraw(office: Office, sha256: str) -> None:
    """Take a bundle off the list; ``ConfigError`` where it is not on it."""
    bundles = read_bundles(office.bundles)
    left = [one for one in bundles if one.sha256 != sha256]
    if len(left) == len(bundles):
        known = ", ".join(one.sha256[:12] for one in bundles) or "none"
        raise ConfigError(
            [f"{sha256} is not on the list, which holds {known}"], str(office.bundles)
        )
    write_bundles(office.bundles, left)


# -------------------------------------------------------------------------------- details


def _grown(office: Office, run: sim.Sim, consortium: Consortium) -> Consortium:
    """The consortium with every hospital of the roster, those that are new with new keys."""
    members = list(consortium.members)
    for seat in run.client.tasks.roster()[len(members) :]:
        members.append(_member(office, seat.name))
    consortium = consortium.with_members(members)
    text = yaml.safe_dump(run.mapping(), sort_keys=False, allow_unicode=True)
    replace_file(office.config, text.encode())
    for member in members:
        _equip(office, consortium, member, default_policy(run).read_bytes())
    return _written(office, consortium)


def _member(office: Office, name: str) -> Member:
    """A hospital with new keys in its folder."""
    folder = office.hospital(name)
    make_private(folder.parent, folder)
    pki.ensure_node_key(folder / "node.key", folder / "node.key.pub")
    seat = pki.ensure_signing_key(folder / "signing.key")
    return Member(name, (folder / "node.key.pub").read_text(encoding="utf-8").strip(), seat)


def _equip(
    office: Office, consortium: Consortium, member: Member, policy: bytes | None = None
) -> None:
    """Everything that a hospital is given, as files and as one parcel."""
    if member.revoked:
        return
    folder = office.hospital(member.name)
    make_private(folder)
    write_private(folder / "ca.crt", office.authority.certificate.read_bytes())
    if policy is not None and not (folder / "policy.yaml").exists():
        write_private(folder / "policy.yaml", policy)
    _write_all(folder, hospital_files(consortium, member))
    _parcel(office, member.name, folder)


def _written(office: Office, consortium: Consortium) -> Consortium:
    """The server's files and ``consortium.yaml``, which says that all the others are right."""
    hosts = [*consortium.hosts, *(host for host in LOCAL if host not in consortium.hosts)]
    for host in consortium.hosts:
        _check_host(host)
    pki.ensure_server(office.certificate, office.authority, hosts)
    write_private(office.server / "ca.crt", office.authority.certificate.read_bytes())
    _write_all(office.server, server_files(consortium))
    consortium.write(office.server)
    write_private(office.server / "run.yaml", office.config.read_bytes())
    _parcel(office, "server", office.server)
    consortium.write(office.root)
    return consortium


def _write_all(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        write_private(folder / name, text.encode())


def _parcel(office: Office, name: str, folder: Path) -> None:
    """One archive with all files of a folder, readable for its owner alone."""
    if not folder.is_dir():  # handed over and deleted
        return
    if name != "server":
        write_private(folder / "bundles.yaml", office.bundles.read_bytes())
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"metaward-{folder.name}/{path.name}", filter=_anonymous)
    make_private(office.parcel(name).parent)
    write_private(office.parcel(name), target.getvalue())


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names and numbers of the account that packed it."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _check_host(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        letters = host.replace(".", "").replace("-", "")
        if not letters.isalnum() or not letters.isascii() or not host.strip(".-") == host:
            raise ConfigError([f"--host {host!r}: neither a host name nor an address"]) from None
