"""The folder of a deployment on one machine, with the owner of each file.

authority/ca.crt, ca.key             the authority that signs the server's certificate
superlink/server.crt, server.key     the server; state.db is Flower's memory, flower/ its home
hospitals/<name>/node.key(.pub)      a hospital: the key by which its SuperNode is known
                 signing.key         the key that signs its answers
                 policy.yaml         what it allows
                 ledger.sqlite       what it has spent
                 data                its records (a link to the run's data folder, if there is one)
                 memory/             what learners keep here between rounds
                 flower/             its SuperNode's home
                 hospital.log        what its app logged
                 guard.yaml          the settings of its guard, where it has one
                 audit.jsonl         what it answered
logs/<process>.log                   output of each process; supervisor.log: its ends and restarts
pids.json                            the live processes: superlink and each hospital's SuperNode
runs.jsonl                           the result folder of each run that was carried out here

On several machines each hospital has its own folder and no other; nothing here reads two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from metaward import sim
from metaward.files import append_line, write_private
from metaward.options import ConfigError
from metaward.privacy import NoPrivacy
from metaward.privacy.ledger import Ledger
from metaward.server.deploy import pki
from metaward.server.folder import BusyError, Folder
from metaward.server.office.accounts.site import RUNS
from metaward.strategies.proof import seat_line

HOSTS = ("localhost", "127.0.0.1")
IGNORE = "# Private keys and ledgers: nothing here belongs in a repository.\n*\n"


@dataclass(frozen=True)
class HospitalFiles:
    """The files of one hospital; ``index`` is its place in the roster, Flower's partition id.

    ``device`` is the device that it computes on: cpu, cuda or cuda:N. ``socket`` is where its guard
    is asked, in a folder of short name, or None without a guard.
    """

    name: str
    index: int
    folder: Path
    device: str = "cpu"
    socket: Path | None = None

    @property
    def key(self) -> Path:
        """The private key that it signs with."""
        return self.folder / "node.key"

    @property
    def public_key(self) -> Path:
        """The public key, which the server knows."""
        return self.folder / "node.key.pub"

    @property
    def signing_key(self) -> Path:
        """The private key that signs its answers."""
        return self.folder / "signing.key"

    @property
    def policy(self) -> Path:
        """The policy of this hospital, written by its privacy officer."""
        return self.folder / "policy.yaml"

    @property
    def ledger(self) -> Path:
        """The ledger of what its records have spent."""
        return self.folder / "ledger.sqlite"

    @property
    def data(self) -> Path:
        """The folder of its records."""
        return self.folder / "data"

    @property
    def memory(self) -> Path:
        """The folder of what learners keep here between rounds."""
        return self.folder / "memory"

    @property
    def home(self) -> Path:
        """The Flower home of its SuperNode."""
        return self.folder / "flower"

    @property
    def log(self) -> Path:
        """The log of its app, which stays at the hospital."""
        return self.folder / "hospital.log"

    @property
    def audit(self) -> Path:
        """A line for each of its answers."""
        return self.folder / "audit.jsonl"

    @property
    def guard(self) -> Path:
        """The settings of its guard."""
        return self.folder / "guard.yaml"

    @property
    def own(self) -> dict[str, str | int | bool]:
        """The node config of its answers: its place in the roster, and its own files."""
        files = {"policy": self.policy, "ledger": self.ledger, "data-root": self.data}
        files |= {"memory": self.memory, "signing-key": self.signing_key, "audit-log": self.audit}
        paths = {key: str(path) for key, path in files.items()}
        return {"partition-id": self.index, "download": False, **paths, "device": self.device}


@dataclass(frozen=True)
class Site:
    """A deployment's folder; ``root`` is absolute, its hospitals compute on ``device``."""

    root: Path
    device: str = "cpu"

    @property
    def authority(self) -> pki.Pair:
        """The certificate authority."""
        return pki.Pair(self.root / "authority" / "ca.crt", self.root / "authority" / "ca.key")

    @property
    def server(self) -> pki.Pair:
        """The SuperLink's certificate."""
        return pki.Pair(self.root / "superlink/server.crt", self.root / "superlink/server.key")

    @property
    def database(self) -> Path:
        """The SuperLink's state."""
        return self.root / "superlink" / "state.db"

    @property
    def home(self) -> Path:
        """The Flower home of the SuperLink and of the commands that are sent to it."""
        return self.root / "superlink" / "flower"

    @property
    def logs(self) -> Path:
        """The folder with a log for each process."""
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        """Process ids of the live SuperLink and SuperNodes by name, as JSON."""
        return self.root / "pids.json"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def remember(self, result: Folder) -> None:
        """Write down in both folders that a run is carried out here, so that `metaward privacy`
        finds its ledgers from either."""
        result.note({"deployment": str(self.root)})
        append_line(self.root / RUNS, json.dumps({"result": str(result.path.resolve())}))

    def hospitals(self, names: Sequence[str]) -> list[HospitalFiles]:
        """The hospitals' files, in the order of the roster."""
        folder = self.root / "hospitals"
        return [HospitalFiles(n, i, folder / n, self.device) for i, n in enumerate(names)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Allow one command at a time in the folder; ``BusyError`` for a second one.

        ``ConfigError`` where the folder exists and is not that of a deployment.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.root.iterdir()) and not (self.root / ".lock").exists():
            raise ConfigError(["holds other files; name a new folder"], f"--dir {self.root}")
        try:
            with FileLock(self.root / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise BusyError(f"{self.root}: another deployment is running from here") from error


def prepare(site: Site, names: Sequence[str], policy: Path, data: Path | None) -> None:
    """Make the missing files; existing ones, ledgers and policies above all, stay as they are.

    ``policy`` is copied for each hospital that has none; ``data`` is the folder that a local
    hospital's ``data`` points to (None: an empty folder of its own). Safe to repeat after a crash.
    """
    refuse_names([str(site.root), *names])
    check_policy(policy)
    make_private(site.root, site.authority.key.parent, site.server.key.parent, site.home, site.logs)
    (site.root / ".gitignore").write_text(IGNORE, encoding="utf-8")
    pki.ensure_authority(site.authority)
    pki.ensure_server(site.server, site.authority, HOSTS)
    for hospital in site.hospitals(names):
        prepare_hospital(hospital, policy, data)


def check_policy(policy: Path) -> None:
    """``ConfigError`` where there is no such file."""
    if not policy.is_file():
        raise ConfigError(["no such policy file"], str(policy))


def seats(site: Site, names: Sequence[str]) -> tuple[str, ...]:
    """The public key that each hospital signs its answers with; missing keys are made."""
    found = []
    with site.lock():
        for hospital in site.hospitals(names):
            make_private(site.root, hospital.folder)
            key = pki.ensure_signing_key(hospital.signing_key)
            found.append(seat_line(hospital.name, key))
    return tuple(found)


def prepare_hospital(hospital: HospitalFiles, policy: Path, data: Path | None) -> None:
    """Make one hospital's folder, which no other user can read.

    A ledger is made only for a new hospital, which has no key yet. If it is missing later, it stays
    missing, and the hospital answers nothing: a new ledger would forget what was spent.
    """
    make_private(hospital.folder, hospital.home, hospital.memory)
    if not (hospital.key.exists() or hospital.ledger.exists()):
        Ledger.create(hospital.ledger, hospital.name, "metaward deploy up --local")
    pki.ensure_node_key(hospital.key, hospital.public_key)
    pki.ensure_signing_key(hospital.signing_key)
    if not hospital.policy.exists():
        write_private(hospital.policy, policy.read_bytes())
    prepare_data(hospital.data, data)


def make_private(*folders: Path) -> None:
    """Make folders that only their owner can enter."""
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)


def prepare_data(place: Path, data: Path | None) -> None:
    """Link ``place`` to this run's data, or make a folder; a hospital's own files always stay."""
    if place.is_symlink():
        place.unlink()
    if data is None:
        place.mkdir(mode=0o700, exist_ok=True)
    elif not place.exists() or not any(place.iterdir()):
        if place.exists():
            place.rmdir()
        place.symlink_to(data, target_is_directory=True)


def refuse_names(names: Sequence[str]) -> None:
    """``ConfigError`` for what Flower's command line or a file name cannot carry."""
    for name in names[1:]:
        if not name or name.startswith(".") or "/" in name:
            raise ConfigError([f"hospital {name!r} cannot be the name of a folder; rename it"])
    for name in names:
        if not name.isprintable() or {'"', "\\"} & set(name):
            raise ConfigError(
                [f"{name!r}: Flower's node configuration cannot carry quotes and backslashes"]
            )


def default_policy(run: sim.Sim) -> Path:
    """The example policy for a local hospital; a real hospital writes its own."""
    name = "open" if isinstance(run.privacy, NoPrivacy) else "research"
    return sim.HERE / "policies" / f"{name}.yaml"
