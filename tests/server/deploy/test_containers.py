"""The containers of a consortium's machines: what their compose files show them and start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml

from metaward.server.deploy.consortium.members import Consortium, Member
from metaward.server.deploy.consortium.render import (
    Commands,
    contained,
    hospital_files,
    server_files,
)

NAMES = ["phantom-01", "phantom-02"]
Services = Mapping[str, Mapping[str, Any]]
IDLE = 'exec "$0" "$@"'
"""How the words that are put before a command give way to it."""


@pytest.fixture(params=[True, False], ids=["guard", "no guard"])
def consortium(request: pytest.FixtureRequest) -> Consortium:
    members = [Member(name, f"n{number}", f"s{number}") for number, name in enumerate(NAMES)]
    made = Consortium("trial", ("h.example.org",), signers=("ssh-ed25519 A",), guard=request.param)
    return made.with_members(members)


def services_of(files: Mapping[str, str]) -> Services:
    """The services of a parcel's compose file."""
    found: Services = yaml.safe_load(files["compose.yaml"])["services"]
    return found


def hospital(consortium: Consortium, index: int = 0) -> Services:
    return services_of(hospital_files(consortium, consortium.members[index]))


def both(consortium: Consortium) -> list[Mapping[str, str]]:
    """The files of the server and of a hospital."""
    return [server_files(consortium), hospital_files(consortium, consortium.members[0])]


def shown(service: Mapping[str, Any]) -> dict[str, bool]:
    """The paths of the machine that a container sees, and whether it may change them."""
    volumes = [volume.split(":") for volume in service["volumes"]]
    assert all(place == path for path, place, *_ in volumes), "the paths of the settings hold"
    return {volume[0]: "ro" not in volume[2:] for volume in volumes}


def test_containers_run_the_commands_of_the_units(consortium: Consortium) -> None:
    commands = Commands(consortium)
    server, node = services_of(server_files(consortium)), hospital(consortium, 1)["node"]
    assert server["superlink"]["command"] == contained(commands.superlink())
    assert server["gate"]["command"] == contained(commands.nginx())
    assert node["command"] == contained(commands.supernode(1))
    assert ("guard" in hospital(consortium)) == consortium.guard


def test_an_image_has_its_programs_elsewhere_than_the_machine(consortium: Consortium) -> None:
    """A parcel names the folder of the machine's programs, which no image has."""
    moved = replace(consortium, programs="/srv/own/bin")
    for files in both(moved):
        assert "/srv/own/bin/" not in files["compose.yaml"]
        for name, service in services_of(files).items():
            assert service["command"][0] in ("metaward", "nginx", *FLOWER), name


FLOWER = ("flower-superlink", "flower-supernode")


def test_compose_leaves_dollar_signs_alone() -> None:
    assert contained(["/opt/bin/run", "/srv/$HOME/x"]) == ["run", "/srv/$$HOME/x"]


def test_a_container_sees_the_files_that_its_command_names(consortium: Consortium) -> None:
    for files in both(consortium):
        for name, service in services_of(files).items():
            named = re.findall(r"/(?:etc|var|run)/[\w./-]+", " ".join(service["command"]))
            assert named, name
            for path in named:
                places = shown(service)
                assert any(f"{path}/".startswith(f"{one}/") for one in places), (name, path)


def test_nothing_is_shown_that_the_installation_has_not_made(consortium: Consortium) -> None:
    """Compose makes a folder where a file should have been, and its owner cannot remove it."""
    for files in both(consortium):
        text = files["README.md"].replace("/etc/tmpfiles.d/metaward.conf", "")
        made = {word for line in text.splitlines() for word in made_by(line.strip())}
        for service in services_of(files).values():
            assert set(shown(service)) <= made


def made_by(line: str) -> list[str]:
    """The folders and files that a line of a README makes."""
    if line.startswith("echo "):
        return [shlex.split(line)[1].split()[1]]
    if not line.startswith("install "):
        return []
    words = shlex.split(line)
    paths = [word for word in words if word.startswith("/")]
    if "-d" in words:
        return paths
    files = [word for word in words[1:-1] if "." in word]
    return [f"{words[-1]}/{name}" for name in files]


def test_settings_can_be_replaced_while_a_container_runs(consortium: Consortium) -> None:
    """A file that is shown by itself stays the old one when another is put in its place."""
    services = hospital(consortium)
    for name, service in services.items():
        assert "/etc/metaward/bundles.yaml" not in shown(service)
        assert "/etc/metaward/policy.yaml" not in shown(service)
        assert ("/etc/metaward" in shown(service)) == (name != "node" or not consortium.guard)


def test_no_container_can_change_settings(consortium: Consortium) -> None:
    for files in both(consortium):
        for name, service in services_of(files).items():
            changed = [path for path, may in shown(service).items() if may and "/etc/" in path]
            assert changed == [], name
    if consortium.guard:  # nor the gate's log and certificate, for the SuperNode
        assert not shown(hospital(consortium)["node"])["/var/lib/metaward/gate"]


def test_what_stands_before_a_command_gives_way_to_it(consortium: Consortium) -> None:
    """So that the process itself is told to end; compose makes one dollar sign of two."""
    entries = {
        name: service["entrypoint"]
        for name, service in hospital(consortium).items()
        if "entrypoint" in service
    }
    assert set(entries) == {"guard", "node"} - (set() if consortium.guard else {"guard"})
    for shell, option, text in entries.values():
        assert (shell, option) == ("sh", "-c")
        assert text.replace("$$", "$").endswith(IDLE)
        assert "$" not in text.replace("$$", "")


def test_containers_use_the_image_that_the_readme_has_built(consortium: Consortium) -> None:
    for files in both(consortium):
        (image,) = {service["image"] for service in services_of(files).values()}
        assert f"podman build --tag {image} .\n" in files["README.md"]
        assert f"podman build --tag {image} .\n" in files["Containerfile"]
        assert not any("build" in service for service in services_of(files).values())


def test_the_node_s_log_is_where_it_can_write(consortium: Consortium) -> None:
    node = hospital(consortium)["node"]
    log = node["environment"].get("METAWARD_HOSPITAL_LOG")
    assert (log is None) == consortium.guard
    assert node["environment"]["FLWR_HOME"] == "/var/lib/metaward/node"


def test_the_server_s_account_carries_out_its_runs(consortium: Consortium) -> None:
    """The SuperLink's account writes into the folder of results, which another made otherwise."""
    text = server_files(consortium)["README.md"]
    lines = [line.strip() for line in text.splitlines() if " deploy r" in line]
    assert len(lines) == 2
    assert all(line.startswith("sudo -u metaward /opt/metaward/bin/metaward") for line in lines)
