"""``gate.yaml``, the settings of a hospital's gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from metaward.options import ConfigError, build
from metaward.privacy.signing import read_public_key
from metaward.server.deploy.gate.allowed import read_bundles
from metaward.server.deploy.layout import HOSTS
from metaward.server.deploy.pki import Pair, ensure_authority, ensure_server
from metaward.yaml_text import read_yaml


@dataclass(frozen=True)
class Gate:
    """The settings of a hospital's gate."""

    listen: Annotated[int, Field(ge=1, le=65535)]
    """The port on loopback at which the hospital's SuperNode finds the gate."""
    superlink: Annotated[str, Field(pattern=r"^[^\s/@]+:\d{1,5}$")]
    """The consortium's server, as HOST:PORT."""
    ca: str
    """The file with the certificate of the consortium's authority."""
    bundles: str
    """The file with the list of bundles that may run."""
    signers: tuple[str, ...]
    """The public keys whose signatures in that list count, each as `ssh-ed25519 AAAA...`."""
    folder: str
    """The gate's own folder: `gate.jsonl`, to which every decision is appended, and the certificate
    `ca.crt` by which the SuperNode knows the gate."""

    @classmethod
    def read(cls, path: Path) -> Gate:
        """The settings in a file, whose relative paths start at its folder.

        ``ConfigError`` names each key that is wrong, a missing file, and a list or key that cannot
        be used.
        """
        faults: list[str] = []
        if not path.is_file():
            raise ConfigError(["no such file; metaward deploy init makes it"], str(path))
        gate: Gate | None = build(cls, read_yaml(path.read_bytes(), str(path)), "", faults)
        if gate is None or faults:
            raise ConfigError(faults, str(path))
        home = path.resolve().parent
        files = {name: str(home / getattr(gate, name)) for name in ("ca", "bundles", "folder")}
        gate = cls(**vars(gate) | files)
        gate.check(str(path))
        return gate

    @property
    def audit(self) -> Path:
        """The file to which every decision is appended."""
        return Path(self.folder) / "gate.jsonl"

    @property
    def authority(self) -> Pair:
        """Who signs the gate's own certificate: the gate itself."""
        return Pair(Path(self.folder) / "ca.crt", Path(self.folder) / "ca.key")

    @property
    def certificate(self) -> Pair:
        """What the gate shows to the SuperNode, which takes no connection without TLS."""
        return Pair(Path(self.folder) / "gate.crt", Path(self.folder) / "gate.key")

    def certify(self) -> None:
        """Make the gate's certificate, unless there is a good one; it never leaves the machine."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        ensure_authority(self.authority, "metaward gate")
        ensure_server(self.certificate, self.authority, HOSTS)

    def check(self, source: str) -> None:
        """``ConfigError`` where no bundle could ever pass, or the server could not be known."""
        if not Path(self.ca).is_file():
            raise ConfigError([f"ca: {self.ca}: no such file"], source)
        if not self.signers:
            raise ConfigError(
                ["signers: at least one public key; without one nothing runs"], source
            )
        for key in self.signers:
            try:
                read_public_key(key)
            except ValueError as error:
                raise ConfigError([f"signers: {key!r:.90}: {error}"], source) from error
        read_bundles(Path(self.bundles))
