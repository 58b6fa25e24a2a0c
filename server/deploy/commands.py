"""The commands of a deployment with their arguments, environments and Flower's own files.

Everything listens on loopback. The open-source SuperLink lets anybody who reaches its port start
runs, so on several machines a gate in front of it must pass nothing but ``/v1/fleet/``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from metaward import sim
from metaward.server.deploy.layout import HospitalFiles, Site

LOOPBACK = "127.0.0.1"
CONNECTION = "local"  # the SuperLink's name in Flower's own configuration


def superlink(site: Site, port: int) -> list[str]:
    """The command of a SuperLink with TLS, registered nodes only, and its state in a file."""
    files = ["--ssl-ca-certfile", str(site.authority.certificate)]
    files += ["--ssl-certfile", str(site.server.certificate)]
    files += ["--ssl-keyfile", str(site.server.key), "--database", str(site.database)]
    guards = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    return ["flower-superlink", *guards, *files, "--host", LOOPBACK, "--port", str(port)]


def supernode(site: Site, hospital: HospitalFiles, link: int, port: int) -> list[str]:
    """The command of a hospital's SuperNode; ``link`` is the SuperLink's port, ``port`` its own."""
    trust = ["--root-certificates", str(site.authority.certificate)]
    trust += ["--auth-supernode-private-key", str(hospital.key)]
    where = ["--superlink", f"{LOOPBACK}:{link}", "--host", LOOPBACK, "--port", str(port)]
    return ["flower-supernode", *trust, *where, "--node-config", node_config(hospital)]


def node_config(hospital: HospitalFiles) -> str:
    """The node config of its SuperNode, in the form that Flower's command line takes.

    Where there is a guard it says where, and names no other file of the hospital's.
    """
    guarded = {"partition-id": hospital.index, "guard": str(hospital.socket)}
    own = guarded if hospital.socket else hospital.own
    return " ".join(f"{k}={json.dumps(value, ensure_ascii=False)}" for k, value in own.items())


def guard(hospital: HospitalFiles) -> list[str]:
    """The command of a hospital's guard."""
    return [sys.executable, "-m", "metaward", "guard", str(hospital.guard)]


def register(hospital: HospitalFiles) -> list[str]:
    """The command that registers a hospital's public key at the SuperLink."""
    return ["flwr", "supernode", "register", str(hospital.public_key), CONNECTION]


def submission(run_config: Path, connection: str = CONNECTION) -> list[str]:
    """The command that sends this app and a run to the SuperLink, and prints the run's log."""
    options = ["--stream", "--run-config", str(run_config)]
    return ["flwr", "run", str(sim.HERE), connection, *options]


def write_connection(site: Site, port: int) -> None:
    """Write ``connection`` into the SuperLink's home, where its commands find it."""
    (site.home / "config.toml").write_text(connection(site, port), encoding="utf-8")


def connection(site: Site, port: int) -> str:
    """Flower's own configuration: where the SuperLink is, and whose certificates to trust."""
    trust = json.dumps(str(site.authority.certificate), ensure_ascii=False)
    where = f'address = "{LOOPBACK}:{port}"\nroot-certificates = {trust}\n'
    return f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n{where}'


def server_environment(site: Site) -> dict[str, str]:
    """The environment of the SuperLink and its commands; the server has no data folder."""
    return environment(site.home)


def hospital_environment(hospital: HospitalFiles) -> dict[str, str]:
    """The environment of a SuperNode, with its own Flower home and its own log."""
    return environment(hospital.home) | {"METAWARD_HOSPITAL_LOG": str(hospital.log)}


def environment(home: Path) -> dict[str, str]:
    """This process's environment without METAWARD keys, with a Flower home, kept offline."""
    kept: Mapping[str, str] = {
        key: value for key, value in os.environ.items() if not key.startswith("METAWARD_")
    }
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",  # seconds until new work is noticed
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": f"{LOOPBACK},localhost",
        "no_proxy": f"{LOOPBACK},localhost",
    }
