"""``guard.yaml``, the settings of a hospital's guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from metaward.client.guard import real_guard
from metaward.client.node import check_device
from metaward.options import ConfigError, build, nearest
from metaward.privacy.signing import read_signing_key
from metaward.yaml_text import read_yaml

NEEDED = ("partition-id", "policy", "ledger", "signing-key", "audit-log")
FILES = ("policy", "ledger", "signing-key", "audit-log", "gate-log", "data-root", "memory")
KNOWN = (*NEEDED, "gate-log", "data-root", "memory", "device", "inner", "chunk", "download")

PLAIN = (str, int, bool)


@dataclass(frozen=True)
class GuardSetting:
    """The settings of a hospital's guard."""

    socket: Annotated[str, Field(min_length=1)]
    """The Unix socket at which it is asked. Its folder decides who can reach it."""
    node: dict[str, Any]
    """What a SuperNode's node config would say (``client.node``), with the same keys."""

    @classmethod
    def read(cls, path: Path) -> GuardSetting:
        """The settings in a file, whose relative paths start at its folder.

        ``ConfigError`` names each key that is wrong or missing.
        """
        faults: list[str] = []
        if not path.is_file():
            raise ConfigError(["no such file; metaward deploy init makes it"], str(path))
        read: GuardSetting | None = build(cls, read_yaml(path.read_bytes(), str(path)), "", faults)
        if read is not None:
            faults += read.faults()
        if read is None or faults:
            raise ConfigError(faults, str(path))
        return read.below(path.resolve().parent)

    def faults(self) -> list[str]:
        """Keys of ``node`` that are missing, that nobody reads, and values of no use."""
        missing = [f"node.{key}: missing" for key in NEEDED if self.node.get(key) in (None, "")]
        known, strange = ", ".join(KNOWN), [key for key in self.node if key not in KNOWN]
        hints = {key: nearest(key, KNOWN, f"choose from {known}") for key in strange}
        faults = missing + [f"node.{key}: no such key; {hint}" for key, hint in hints.items()]
        odd = {key: value for key, value in self.node.items() if type(value) not in PLAIN}
        return faults + [
            f"node.{key}: {value!r:.60} is no text, whole number, true or false"
            for key, value in odd.items()
            if f"node.{key}: missing" not in faults
        ]

    def below(self, home: Path) -> GuardSetting:
        """The same settings with absolute paths."""
        own = {key: str(home / str(value)) for key, value in self.node.items() if key in FILES}
        return GuardSetting(str(home / self.socket), {**self.node, **own})

    def check(self) -> None:
        """That policy, ledger, key and device can be used.

        ``PolicyError``, ``LedgerError``, ``ConfigError`` or ``NodeError`` where one cannot.
        """
        real_guard(self.node)
        read_signing_key(Path(str(self.node["signing-key"])))
        check_device(str(self.node.get("device", "cpu")))
