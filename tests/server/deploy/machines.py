"""Several machines on one: network namespaces with a switch, and a folder of its own for each.

A command on a machine sees the network of that machine alone, and the machine's folder at the same
place as every other machine's. It can run under an account of the machine's own. Needs root and
Debian's iproute2.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SUBNET = "10.77.0"
ACCOUNTS = {"metaward": 10000, "metaward-guard": 10001, "metaward-gate": 10002}
ACCOUNTS |= {"metaward-node": 10003}
"""Accounts and groups by number, as the README of a parcel has them made."""


def possible() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nginx"))):
        return False
    name = f"mwtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


def readable_python() -> str:
    """Shell commands that let every account of a machine run this Python, where root's home hides
    it: the home is replaced by an empty folder with nothing but Python in it."""
    base = Path(sys.base_prefix)
    hidden = [path for path in reversed(base.parents) if not path.stat().st_mode & 0o001]
    if not hidden:
        return ""
    place, python = shlex.quote(str(hidden[0])), shlex.quote(str(base))
    return (
        f"mount --bind {python} /mnt && mount -t tmpfs -o mode=755 tmpfs {place} && "
        f"mkdir -p {python} && mount --bind /mnt {python} && "
    )


needs_machines = pytest.mark.skipif(
    not possible(), reason="needs root, network namespaces, iproute2 and nginx"
)


@dataclass(frozen=True)
class Host:
    """``own`` is the folder of this machine, seen by its processes at ``place``."""

    namespace: str
    address: str
    own: Path
    place: Path

    def words(self, command: Sequence[str], account: str = "") -> list[str]:
        """The command that runs another one on this machine, as root or as an account."""
        mount = f'{readable_python()}mount --bind "$0" "$1" && shift && exec "$@"'
        inside = ["unshare", "-m", "sh", "-c", mount, str(self.own), str(self.place)]
        return ["ip", "netns", "exec", self.namespace, *inside, *_as(account), *command]

    def run(self, *command: str, account: str = "", **env: str) -> str:
        done = subprocess.run(
            self.words(command, account),
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | env,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def unpack(self, parcel: Path, into: Path) -> None:
        """The files of a parcel, in a folder of this machine as its processes see it."""
        target = self.own / into.relative_to(self.place)
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(parcel) as archive:
            for member in archive.getmembers():
                member.name = Path(member.name).name
                archive.extract(member, target, filter="data")


def _as(account: str) -> list[str]:
    """Every service is in the group metaward, the guard in its own as well."""
    if not account:
        return []
    number, group = str(ACCOUNTS[account]), str(ACCOUNTS["metaward"])
    also = f"{group},{number}" if account == "metaward-guard" else group
    return ["setpriv", "--reuid", number, "--regid", group, "--groups", also]


@contextmanager
def machines(folder: Path, count: int) -> Iterator[list[Host]]:
    """So many machines on one switch; the first one is 10.77.0.1."""
    place = folder / "machine"
    place.mkdir()
    switch, hosts = f"mw{os.getpid()}s", []
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number in range(1, count + 1):
            hosts.append(_host(folder, place, switch, number))
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.namespace], check=False)
        subprocess.run(["ip", "netns", "del", switch], check=False)


def _host(folder: Path, place: Path, switch: str, number: int) -> Host:
    name, cable = f"mw{os.getpid()}h{number}", f"v{os.getpid()}x{number}"
    own = folder / "hosts" / str(number)
    own.mkdir(parents=True)
    _ip("netns", "add", name)
    _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", cable, "netns", switch)
    _ip("-n", switch, "link", "set", cable, "master", "br0", "up")
    _ip("-n", name, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", name, "link", "set", device, "up")
    return Host(name, f"{SUBNET}.{number}", own, place)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
