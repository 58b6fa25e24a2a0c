"""A consortium's folder: keys, certificates and parcels, made once and changed one by one."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import ssl
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from metaward import sim
from metaward.client.guarding.setting import GuardSetting
from metaward.options import ConfigError
from metaward.server.deploy.consortium import live, office
from metaward.server.deploy.consortium.live import FlowerError, ServerSite
from metaward.server.deploy.consortium.members import (
    NAME,
    Consortium,
    Member,
    Ports,
    read_consortium,
)
from metaward.server.deploy.consortium.places import Office
from metaward.server.deploy.consortium.render import Commands, hospital_files, server_files
from metaward.server.deploy.gate.allowed import read_bundles
from metaward.server.deploy.gate.setting import Gate

CONFIG = sim.HERE / "configs" / "deploy.yaml"
NAMES = ["phantom-01", "phantom-02", "unseen-01"]
SHA = "ab" * 32


def run(*settings: str) -> sim.Sim:
    return sim.load(CONFIG, list(settings))


@pytest.fixture
def place(tmp_path: Path) -> Office:
    return Office(tmp_path / "office")


@pytest.fixture
def made(place: Office, tmp_path: Path) -> Consortium:
    wanted = Consortium("trial", ("links.example.org", "10.0.0.7"), prefix=str(tmp_path / "m"))
    return office.found(place, run(), wanted)


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def listed(parcel: Path) -> set[str]:
    with tarfile.open(parcel) as archive:
        return {Path(name).name for name in archive.getnames()}


# ---------------------------------------------------------------------------------- founding


def test_every_hospital_has_keys_of_its_own(made: Consortium, place: Office) -> None:
    assert [member.name for member in made.members] == NAMES
    keys = [key for member in made.members for key in (member.node, member.seat)]
    assert len(set(keys)) == 6
    assert read_consortium(place.root) == made


def test_nobody_else_can_read_the_office(made: Consortium, place: Office) -> None:
    for path in place.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir() or path.suffix in (".key", ".gz"):
            assert not mode & 0o077, path


def test_a_parcel_holds_what_its_machine_needs_and_no_other_s_keys(
    made: Consortium, place: Office
) -> None:
    secrets = {p: p.read_bytes() for p in place.root.rglob("*.key")}
    for name in ("server", *NAMES):
        folder = place.server if name == "server" else place.hospital(name)
        with tarfile.open(place.parcel(name)) as archive:
            inside = [
                member.read()
                for one in archive.getmembers()
                if (member := archive.extractfile(one)) is not None
            ]
            assert {one.uid for one in archive.getmembers()} == {0}
        for path, secret in secrets.items():
            assert (secret in inside) == (path.parent == folder), (name, path)
    assert {"node.key", "signing.key", "ca.crt", "gate.yaml", "policy.yaml"} <= (
        listed(place.parcel(NAMES[0]))
    )
    assert {"server.key", "nginx.conf", "flower.toml", NAME, "run.yaml"} <= (
        listed(place.parcel("server"))
    )


def test_the_server_s_certificate_is_for_its_names_and_loopback(
    made: Consortium, place: Office
) -> None:
    found = x509.load_pem_x509_certificate(place.certificate.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["links.example.org", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == [
        "10.0.0.7",
        "127.0.0.1",
    ]
    trust = ssl.create_default_context(cafile=place.authority.certificate)
    assert trust.cert_store_stats()["x509_ca"] == 1


def test_a_folder_is_founded_once(made: Consortium, place: Office) -> None:
    before = everything(place.root)
    with pytest.raises(ConfigError, match="there is a consortium already"):
        office.found(place, run(), made)
    assert everything(place.root) == before


def test_a_stranger_s_folder_is_left_alone(place: Office) -> None:
    place.root.mkdir()
    (place.root / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        office.found(place, run(), Consortium("trial", ("a.example.org",)))
    assert everything(place.root) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("host", ["a b", "https://x", "x/y", "", "-", "exämple.org"])
def test_a_host_must_be_a_name_or_an_address(place: Office, host: str) -> None:
    with pytest.raises(ConfigError, match="--host"):
        office.found(place, run(), Consortium("trial", (host,)))


# ---------------------------------------------------------------------------------- changing


def test_new_hospitals_come_after_all_others(made: Consortium, place: Office) -> None:
    with pytest.raises(ConfigError, match="new hospitals come after all others"):
        office.add(place, run("client.tasks.hospitals=3"))
    grown, new = office.add(place, run("client.tasks.unseen=2"))
    assert new == ["unseen-02"]
    assert grown.members[:3] == made.members
    assert place.parcel("unseen-02").is_file()
    assert office.add(place, run("client.tasks.unseen=2"))[1] == []


def test_renewed_keys_replace_the_old_ones(made: Consortium, place: Office) -> None:
    policy = place.hospital(NAMES[0]) / "policy.yaml"
    policy.write_text(policy.read_text() + "# mine\n")
    new = office.renew(place, NAMES[0])
    assert new.members[1:] == made.members[1:]
    assert {new.members[0].node, new.members[0].seat}.isdisjoint(
        {made.members[0].node, made.members[0].seat}
    )
    assert policy.read_text().endswith("# mine\n")


def test_keys_that_a_hospital_made_itself_never_come_here(made: Consortium, place: Office) -> None:
    own = office.renew(place, NAMES[1], made.members[0].node, made.members[0].seat)
    assert own.members[1] == replace(made.members[0], name=NAMES[1])
    assert "node.key" not in listed(place.parcel(NAMES[1]))
    assert "signing.key" not in listed(place.parcel(NAMES[1]))


def test_a_revoked_hospital_has_no_keys_and_no_seat(made: Consortium, place: Office) -> None:
    left = office.revoke(place, NAMES[0])
    assert left.members[0] == Member(NAMES[0], "", "")
    assert [line.split()[2] for line in made.seats()] == NAMES
    assert [seat.split()[1] for seat in made.seats()] == [m.seat.split()[1] for m in made.members]
    with pytest.raises(ConfigError, match=f"{NAMES[0]} was revoked.*renew DIR {NAMES[0]}"):
        left.seats()
    assert not office.renew(place, NAMES[0]).members[0].revoked


def test_a_wrong_name_is_answered_by_a_near_one(made: Consortium, place: Office) -> None:
    for action in (office.revoke, office.renew):
        with pytest.raises(ConfigError, match="did you mean 'phantom-01'"):
            action(place, "phantom-1")
    assert read_consortium(place.root) == made


def test_a_new_server_certificate_has_the_new_names(made: Consortium, place: Office) -> None:
    before = place.certificate.certificate.read_bytes()
    office.renew_server(place, [])
    again = place.certificate.certificate.read_bytes()
    assert again != before
    office.renew_server(place, ["new.example.org"])
    found = x509.load_pem_x509_certificate(place.certificate.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "new.example.org" in names.get_values_for_type(x509.DNSName)


def test_bundles_are_approved_and_withdrawn(made: Consortium, place: Office) -> None:
    office.approve(place, SHA, "metaward 1")
    office.approve(place, SHA, "metaward 1")
    (entry,) = read_bundles(place.bundles)
    assert (entry.sha256, entry.signer) == (SHA, made.signers[0])
    with tarfile.open(place.parcel(NAMES[0])) as archive:
        inside = archive.extractfile(f"metaward-{NAMES[0]}/bundles.yaml")
        assert inside is not None
        assert SHA.encode() in inside.read()
    with pytest.raises(ConfigError, match="not on the list, which holds abab"):
        office.withdraw(place, "cd" * 32)
    office.withdraw(place, SHA)
    assert read_bundles(place.bundles) == []
    with pytest.raises(ConfigError, match="SHA-256"):
        office.approve(place, "short", "metaward 1")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("hosts:", "host:", "hosts"),
        ("outside: 9443", "outside: 94430", "outside"),
        ("- name: phantom-01", "- nam: phantom-01", "nam"),
        ("name: trial", "name: 3", "name"),
    ],
)
def test_a_damaged_file_is_named(
    made: Consortium, place: Office, old: str, new: str, fault: str
) -> None:
    path = place.root / NAME
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=fault):
        read_consortium(place.root)


# ------------------------------------------------------------------------- what is handed out


@pytest.fixture(params=[True, False], ids=["guard", "no guard"])
def consortium(request: pytest.FixtureRequest) -> Consortium:
    members = [{"name": name, "node": f"n{i}", "seat": f"s{i}"} for i, name in enumerate(NAMES)]
    made = Consortium("trial", ("h.example.org",), signers=("ssh-ed25519 A",), guard=request.param)
    return made.with_members([Member(**one) for one in members])


def start(unit: str) -> list[str]:
    """The words of a unit's command, as systemd reads them."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return shlex.split(line.replace("%%", "%"))


def test_units_run_the_commands(consortium: Consortium) -> None:
    commands = Commands(consortium)
    server = server_files(consortium)
    assert start(server["metaward-superlink.service"]) == commands.superlink()
    assert start(server["metaward-gate.service"]) == commands.nginx()
    for index, member in enumerate(consortium.members):
        files = hospital_files(consortium, member)
        assert start(files["metaward-node.service"]) == commands.supernode(index)
        assert f"partition-id={index} " in files["metaward-node.service"]
        assert ("guard.yaml" in files) == ("metaward-guard.service" in files) == consortium.guard
        assert not re.search(r"^\s*{[%{]", "".join(files.values()), re.MULTILINE)


def test_where_there_is_a_guard_nothing_else_is_shown_the_hospitals_files(
    consortium: Consortium,
) -> None:
    """The unit and the container of the SuperNode, and the installation that its README tells."""
    files = hospital_files(consortium, consortium.members[0])
    node = yaml.safe_load(files["compose.yaml"])["services"]["node"]
    shown = " ".join([*node["volumes"], *node["command"]])
    own = ("ledger.sqlite", "policy.yaml", "signing.key", "/data", "/memory", "audit.jsonl")
    assert [name for name in own if name in shown] == ([] if consortium.guard else list(own))
    unit = files["metaward-node.service"]
    hidden = [line for line in unit.splitlines() if line.startswith("InaccessiblePaths=")]
    assert all(name in "".join(hidden) for name in own) == consortium.guard
    given = re.findall(r"^ +(?:install|chown) .*metaward-node.*$", files["README.md"], re.MULTILINE)
    assert given
    theirs = [line for line in given if any(name in line for name in own)]
    assert bool(theirs) != consortium.guard


def test_the_guards_settings_can_be_read(consortium: Consortium, tmp_path: Path) -> None:
    for index, member in enumerate(consortium.members if consortium.guard else ()):
        path = tmp_path / "guard.yaml"
        path.write_text(hospital_files(consortium, member)["guard.yaml"])
        setting = GuardSetting.read(path)
        assert setting.node["partition-id"] == index
        assert setting.socket in Commands(consortium).node_config(index)


def test_no_service_can_change_the_policy(consortium: Consortium) -> None:
    """The SuperNode runs the server's code, so that the policy belongs to another account."""
    text = hospital_files(consortium, consortium.members[0])["README.md"]
    installed = [line for line in text.splitlines() if "install " in line and "policy" in line]
    assert [("-o metaward" in line, "-m 0640" in line) for line in installed] == [(False, True)]


def test_only_the_gate_listens_to_the_outside(consortium: Consortium) -> None:
    for command in (Commands(consortium).superlink(), Commands(consortium).supernode(0)):
        assert command[command.index("--host") + 1] == "127.0.0.1"
    text = server_files(consortium)["nginx.conf"]
    assert re.findall(r"location (\S+)", text) == ["/v1/fleet/", "/"]
    assert "location / { return 403; }" in text


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
def test_nginx_takes_its_configuration(made: Consortium, place: Office, tmp_path: Path) -> None:
    etc = tmp_path / "m" / "etc" / "metaward"
    shutil.copytree(place.server, etc)
    (tmp_path / "m" / "var" / "lib" / "metaward").mkdir(parents=True)
    command = ["nginx", "-t", "-e", "stderr", "-c", str(etc / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_guard_and_node_find_the_log_that_the_gate_writes(made: Consortium, place: Office) -> None:
    gate = Gate.read(place.hospital(NAMES[2]) / "gate.yaml")
    guard = GuardSetting.read(place.hospital(NAMES[2]) / "guard.yaml")
    assert guard.node["gate-log"] == str(gate.audit)
    alone = replace(made, guard=False)
    assert f'gate-log="{gate.audit}"' in Commands(alone).node_config(2)


def test_the_gate_s_settings_can_be_read(made: Consortium, place: Office) -> None:
    gate = Gate.read(place.hospital(NAMES[2]) / "gate.yaml")
    assert gate.superlink == "links.example.org:9443"
    assert gate.signers == made.signers


def test_an_ipv6_server_is_written_with_brackets(consortium: Consortium) -> None:
    assert replace(consortium, hosts=("fd00::1",), ports=Ports(1234)).address == "[fd00::1]:1234"


# ------------------------------------------------------------------------------- at the server


class FakeLink(ServerSite):
    """The SuperLink's commands, played by a dictionary of keys and numbers."""

    def flower(self, *words: str) -> str:
        state = self.machine.state / "link.json"
        nodes: dict[str, str] = json.loads(state.read_text()) if state.exists() else {}
        if words[1] == "register":
            nodes[Path(words[2]).read_text().strip()] = str(len(nodes) + 1)
            state.write_text(json.dumps(nodes))
            return "said\n" + json.dumps({"success": True, "node-id": str(len(nodes))})
        if words[1] == "unregister":
            state.write_text(json.dumps({k: n for k, n in nodes.items() if n != words[2]}))
            return "{}"
        listing = [{"node-id": n, "status": "online", "online-at": "now"} for n in nodes.values()]
        return json.dumps({"success": True, "nodes": listing})


def test_registration_lets_in_who_counts_and_turns_out_the_rest(
    made: Consortium, place: Office, tmp_path: Path
) -> None:
    server = FakeLink(made)
    server.machine.state.mkdir(parents=True)
    assert server.register(tmp_path) == (NAMES, 0)
    assert server.register(tmp_path) == ([], 0)
    assert [node.status for node in server.nodes()] == ["online"] * 3
    later = FakeLink(office.renew(place, NAMES[1]))
    assert later.register(tmp_path) == ([NAMES[1]], 1)
    last = FakeLink(office.revoke(place, NAMES[0]))
    assert last.register(tmp_path) == ([], 1)
    assert [node.status for node in last.nodes()] == ["revoked", "online", "online"]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('{"success": false, "error-message": "x\\nConnection refused"}', "Connection refused"),
        ("no json", "without JSON"),
        ('{"success": 0}', "the SuperLink"),
    ],
)
def test_what_flower_complains_of_is_repeated(said: str, fault: str) -> None:
    with pytest.raises(FlowerError, match=fault):
        live._json(said)
