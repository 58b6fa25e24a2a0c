"""``consortium.yaml``: who takes part, where the server is, and whose keys count.

The file is public, and so is everything in it. Hospitals keep their places in it for ever, because
a place is the hospital's number in the roster of every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from metaward.files import replace_file
from metaward.options import ConfigError, build, plain
from metaward.strategies.proof import seat_line
from metaward.yaml_text import read_yaml

NAME = "consortium.yaml"
HEAD = "# A consortium of hospitals; metaward deploy init, add, renew and revoke write this file.\n"
Port = Annotated[int, Field(ge=1, le=65535)]


@dataclass(frozen=True)
class Ports:
    """The ports that are used; only ``outside`` is reached from other machines."""

    outside: Port = 9443
    """Where hospitals reach the server: its gate."""
    superlink: Port = 9091
    """The SuperLink, on the server's loopback."""
    gate: Port = 9092
    """A hospital's own gate, on its loopback."""
    supernode: Port = 9094
    """A hospital's SuperNode, on its loopback."""


@dataclass(frozen=True)
class Member:
    """A hospital: its name, and the public keys that count for it at present.

    ``node`` is the key by which its SuperNode is known, ``seat`` the one that signs its answers.
    Both are empty for a hospital that was revoked.
    """

    name: str
    node: str
    seat: str

    @property
    def revoked(self) -> bool:
        """Whether its keys no longer count."""
        return not self.node


@dataclass(frozen=True)
class Consortium:
    """Who takes part, and where.

    ``hosts`` are the server's names and addresses, the first of which hospitals use. ``prefix`` is
    the folder below which every machine has ``etc/metaward`` and ``var/lib/metaward``; ``programs``
    holds the commands of the installation there. ``signers`` are the public keys whose signature
    admits a bundle of code.
    """

    name: str
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    ports: Ports = field(default_factory=Ports)
    prefix: str = "/"
    programs: str = "/opt/metaward/bin"
    signers: tuple[str, ...] = ()
    guard: bool = True
    """Whether each hospital has a guard, a process of its own for records, ledger and keys."""
    hospitals: tuple[dict[str, str], ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """The hospitals, in the order of the roster."""
        return tuple(Member(**one) for one in self.hospitals)

    @property
    def address(self) -> str:
        """Where hospitals reach the server."""
        host = self.hosts[0]
        return f"[{host}]:{self.ports.outside}" if ":" in host else f"{host}:{self.ports.outside}"

    def member(self, name: str) -> Member:
        """The hospital of this name; ``ConfigError`` where there is none."""
        names = [member.name for member in self.members]
        if name in names:
            return self.members[names.index(name)]
        near = get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names[:20])}"
        raise ConfigError([f"there is no hospital {name!r}; {hint}"], NAME)

    def with_members(self, members: Sequence[Member]) -> Consortium:
        """The consortium with these hospitals."""
        return replace(self, hospitals=tuple(vars(member) for member in members))

    def with_member(self, new: Member) -> Consortium:
        """The consortium with other keys of one hospital."""
        return self.with_members([new if m.name == new.name else m for m in self.members])

    def seats(self) -> tuple[str, ...]:
        """The public key that each hospital's answers are signed with, as ``server.seats`` has it.

        ``ConfigError`` where one is revoked: no run that names it can be carried out.
        """
        gone = [member.name for member in self.members if member.revoked]
        if gone:
            text = (
                f"{', '.join(gone)} was revoked, but is in the roster; take it out of the run's "
                "configuration and start a new consortium folder, or give it new keys: "
                f"metaward deploy renew DIR {gone[0]}"
            )
            raise ConfigError([text], NAME)
        return tuple(seat_line(member.name, member.seat) for member in self.members)

    def write(self, folder: Path) -> None:
        """Write ``consortium.yaml``."""
        text = yaml.safe_dump(plain(self), sort_keys=False, width=1000, allow_unicode=True)
        replace_file(folder / NAME, (HEAD + text).encode())


def read_consortium(folder: Path) -> Consortium:
    """The consortium of a folder; ``ConfigError`` names what is missing or wrong."""
    path, faults = folder / NAME, list[str]()
    if not path.is_file():
        text = "no such file; metaward deploy init makes a consortium's folder"
        raise ConfigError([text], str(path))
    found: Consortium | None = build(
        Consortium, read_yaml(path.read_bytes(), str(path)), "", faults
    )
    for number, one in enumerate(found.hospitals if found else ()):
        build(Member, one, f"hospitals[{number}]", faults)
    if found is None or faults:
        raise ConfigError(faults, str(path))
    return found
