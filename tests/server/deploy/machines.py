"""Several machines on one: network namespaces with a switch, and a folder of its own for each.

A command on a machine sees the network of that machine alone, and the machine's folder at the same
place as every other machine's. Needs root and Debian's iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SUBNET = "10.77.0"


def possible() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nginx"))):
        return False
    name = f"mwtry{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0


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

    def words(self, command: Sequence[str]) -> list[str]:
        """The command that runs another one on this machine."""
        mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
        inside = ["unshare", "-m", "sh", "-c", mount, str(self.own), str(self.place), *command]
        return ["ip", "netns", "exec", self.namespace, *inside]

    def run(self, *command: str, **env: str) -> str:
        done = subprocess.run(
            self.words(command),
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
