"""Where things are: in the consortium's folder, and on the machines that its bundles go to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaward.server.deploy.pki import Pair


@dataclass(frozen=True)
class MachineFolders:
    """The folders of metaward on a machine, below ``prefix`` (``/`` but for a trial)."""

    prefix: Path

    @property
    def etc(self) -> Path:
        """Settings, keys and certificates."""
        return self.prefix / "etc" / "metaward"

    @property
    def state(self) -> Path:
        """What changes while it works: ledger, memory, databases, audit logs, results."""
        return self.prefix / "var" / "lib" / "metaward"

    @property
    def sockets(self) -> Path:
        """Sockets, which are gone after a restart."""
        return self.prefix / "run" / "metaward"


@dataclass(frozen=True)
class Office:
    """The consortium's own folder, ``root``; whoever holds it can let hospitals in."""

    root: Path

    @property
    def authority(self) -> Pair:
        """The certificate authority."""
        return Pair(self.root / "authority" / "ca.crt", self.root / "authority" / "ca.key")

    @property
    def signing_key(self) -> Path:
        """The key that signs the list of bundles."""
        return self.root / "authority" / "bundles.key"

    @property
    def bundles(self) -> Path:
        """The signed list of bundles of code that may run."""
        return self.root / "bundles.yaml"

    @property
    def config(self) -> Path:
        """The configuration of the run, whose roster names the hospitals."""
        return self.root / "run.yaml"

    @property
    def server(self) -> Path:
        """What the server's machine is given."""
        return self.root / "server"

    @property
    def certificate(self) -> Pair:
        """The server's certificate."""
        return Pair(self.server / "server.crt", self.server / "server.key")

    def hospital(self, name: str) -> Path:
        """What a hospital's machine is given."""
        return self.root / "hospitals" / name

    def parcel(self, name: str) -> Path:
        """One file with all that a machine is given: ``server``, or a hospital's name."""
        return self.root / "parcels" / f"{name}.tar.gz"
