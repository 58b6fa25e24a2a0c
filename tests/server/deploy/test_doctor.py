"""The doctor finds what would keep a site from taking part, and says what to do about it."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

from metaward import sim
from metaward.client.guarding.service import application as guarding
from metaward.client.guarding.service import listening
from metaward.privacy.ledger import Ledger
from metaward.server.deploy import pki
from metaward.server.deploy.consortium import office
from metaward.server.deploy.consortium.members import Consortium, Ports
from metaward.server.deploy.consortium.places import Office
from metaward.server.deploy.doctor import examine as local
from metaward.server.deploy.doctor import line as way
from metaward.server.deploy.doctor import own
from metaward.server.deploy.doctor.command import doctor as command
from metaward.server.deploy.doctor.examine import examine
from metaward.server.deploy.doctor.finding import Finding
from metaward.server.deploy.doctor.own import node_config
from metaward.server.deploy.gate.passage import application
from metaward.server.deploy.gate.setting import Gate
from metaward.server.engines.processes import free_port
from tests.server.deploy.test_gate import serving, serving_socket

NAME = "phantom-01"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Office:
    root = tmp_path_factory.mktemp("doctor")
    place = Office(root / "office")
    run = sim.load(sim.HERE / "configs" / "deploy.yaml")
    ports = Ports(outside=free_port(), gate=free_port())
    office.found(place, run, Consortium("trial", ("127.0.0.1",), ports, str(root / "machine")))
    office.approve(place, "ab" * 32, "metaward 1")
    return place


@pytest.fixture
def site(founded: Office, tmp_path: Path) -> Path:
    """A hospital's settings with ledger, data and policy, as after the installation."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for path in founded.hospital(NAME).iterdir():
        target = folder / path.name
        target.write_bytes(path.read_bytes())
        target.chmod(path.stat().st_mode)
    (folder / "bundles.yaml").write_bytes(founded.bundles.read_bytes())
    state = tmp_path / "state"
    (state / "data").mkdir(parents=True)
    (state / "data" / "records.npz").write_bytes(b"x")
    Ledger.create(state / "ledger.sqlite", NAME, "test")
    settings = folder / "guard.yaml"
    planned = str(founded.root.parent / "machine" / "var" / "lib" / "metaward")
    assert planned in settings.read_text()
    settings.write_text(settings.read_text().replace(planned, str(state)))
    gate = yaml.safe_load((folder / "gate.yaml").read_text()) | {"folder": str(state / "gate")}
    (folder / "gate.yaml").write_text(yaml.safe_dump(gate))
    return folder


class Server:
    """What the server's gate answers: a status, at a time that is ``ahead`` seconds from now."""

    status, ahead = 403, 0.0

    async def answer(self, request: Request) -> Response:
        when = datetime.now(UTC) + timedelta(seconds=self.ahead)
        return Response(b"", self.status, {"date": format_datetime(when, usegmt=True)})


@pytest.fixture
def server(founded: Office) -> Any:
    made = Server()
    app = Starlette(routes=[Route("/{path:path}", made.answer, methods=["POST"])])
    port = int(Gate.read(founded.hospital(NAME) / "gate.yaml").superlink.split(":")[1])
    tls = {
        "ssl_certfile": str(founded.certificate.certificate),
        "ssl_keyfile": str(founded.certificate.key),
    }
    with serving(app, port, date_header=False, **tls):
        yield made


def wrong(findings: list[Finding], subject: str) -> Finding:
    (found,) = [one for one in findings if one.subject == subject and one.verdict == "wrong"]
    assert found.remedy
    return found


def test_a_good_site_is_good(site: Path, server: Server) -> None:
    findings = examine(site)
    assert [one for one in findings if one.verdict == "wrong"] == []
    subjects = {one.subject for one in findings}
    assert subjects == {
        *("version", "keys", "certificate", "server", "clock", "bundles", "code", "ports"),
        *("guard", "policy", "ledger", "data", "disk"),
    }


def test_a_server_that_is_away_is_named(site: Path) -> None:
    assert "cannot be reached" in wrong(examine(site), "server").text


def test_a_server_of_another_authority_is_not_the_server(site: Path, server: Server) -> None:
    pki.ensure_authority(pki.Pair(site / "other.crt", site / "other.key"))
    (site / "ca.crt").write_bytes((site / "other.crt").read_bytes())
    assert "certificate that does not fit" in wrong(examine(site), "server").text


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_open_control_interface_is_wrong(site: Path, server: Server, status: int) -> None:
    server.status = status
    assert f"answers {status}" in wrong(examine(site), "server").text


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "good"), (-5, "doubtful"), (60, "wrong")])
def test_clocks_that_differ_are_found(
    site: Path, server: Server, ahead: float, verdict: str
) -> None:
    server.ahead = ahead
    (clock,) = [one for one in examine(site) if one.subject == "clock"]
    assert clock.verdict == verdict
    assert ("behind" in clock.text) == (ahead == 60)


def test_a_readable_key_is_wrong(site: Path) -> None:
    (site / "node.key").chmod(0o644)
    assert "chmod 600" in wrong(examine(site), "keys").remedy


def test_a_missing_ledger_is_wrong(site: Path) -> None:
    Path(str(node_config(site)["ledger"])).unlink()
    assert "ledger init" in wrong(examine(site), "ledger").remedy


def test_a_damaged_ledger_is_wrong(site: Path) -> None:
    path = Path(str(node_config(site)["ledger"]))
    path.write_bytes(path.read_bytes()[:1000])
    assert any(one.subject == "ledger" and one.verdict == "wrong" for one in examine(site))


def test_an_empty_data_folder_is_wrong(site: Path) -> None:
    folder = Path(str(node_config(site)["data-root"]))
    (folder / "records.npz").unlink()
    assert "missing or empty" in wrong(examine(site), "data").text


def test_a_wrong_policy_is_named(site: Path) -> None:
    path = Path(str(local._here(Path("policy.yaml"), site)))
    path.write_text(path.read_text().replace("epsilon:", "epsilom:"))
    assert "epsilom" in wrong(examine(site), "policy").text


def test_a_site_where_no_code_may_run_is_wrong(site: Path) -> None:
    (site / "bundles.yaml").write_text("bundles: []\n")
    assert "metaward deploy approve" in wrong(examine(site), "bundles").remedy


def test_a_port_in_use_is_wrong_unless_the_gate_uses_it(site: Path) -> None:
    gate = Gate.read(site / "gate.yaml")
    with socket.create_server(("127.0.0.1", gate.listen)):
        assert "another program" in wrong(examine(site), "ports").text
    gate.certify()
    tls = {
        "ssl_certfile": str(gate.certificate.certificate),
        "ssl_keyfile": str(gate.certificate.key),
    }
    with serving(application(gate), gate.listen, **tls):
        assert next(one for one in examine(site) if one.subject == "ports").verdict == "good"


def test_a_full_disk_is_doubtful(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DISK_BYTES", 1 << 60)
    (disk,) = [one for one in examine(site) if one.subject == "disk"]
    assert (disk.verdict, bool(disk.remedy)) == ("doubtful", True)


def test_a_certificate_is_judged_by_its_time(founded: Office, monkeypatch: Any) -> None:
    class Later(datetime):
        ahead = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + cls.ahead

    monkeypatch.setattr(way, "datetime", Later)
    verdicts = []
    for days in (0, 350, 400, -1):
        Later.ahead = timedelta(days=days)
        one = [f for f in examine(founded.server) if "server.crt" in f.text and "cert" in f.subject]
        verdicts.append(one[0].verdict)
    assert verdicts == ["good", "doubtful", "wrong", "wrong"]


def test_a_package_of_another_version_is_wrong(site: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(local, "version", lambda name: "0.0.1" if name == "flwr" else "99")
    found = [one for one in examine(site) if one.subject == "version" and one.verdict == "wrong"]
    assert any("flwr 0.0.1" in one.text for one in found)


def test_a_site_without_a_data_folder_is_wrong(site: Path) -> None:
    settings = site / "guard.yaml"
    lines = [line for line in settings.read_text().splitlines() if "data-root" not in line]
    settings.write_text("\n".join(lines))
    findings = examine(site)
    assert "no data folder is named" in wrong(findings, "data").text
    assert ("ledger", "good") in {(one.subject, one.verdict) for one in findings}


def test_a_site_without_a_guard_is_doubtful_and_examined_by_its_service(site: Path) -> None:
    ledger = node_config(site)["ledger"]
    (site / "guard.yaml").unlink()
    node = f'partition-id=0 policy="{site / "policy.yaml"}" ledger="{ledger}"'
    (site / "metaward-node.service").write_text(f"ExecStart=x --node-config '{node}'\n")
    findings = examine(site)
    (guard,) = [one for one in findings if one.subject == "guard"]
    assert (guard.verdict, "reads records" in guard.text) == ("doubtful", True)
    assert {("ledger", "good"), ("policy", "good"), ("data", "wrong")} <= {
        (one.subject, one.verdict) for one in findings
    }


def test_a_guard_is_asked_for_its_version(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, place = site / "guard.yaml", tmp_path / "g.sock"
    content = yaml.safe_load(settings.read_text()) | {"socket": str(place)}
    settings.write_text(yaml.safe_dump(content))

    def found() -> Finding:
        (guard,) = [one for one in examine(site) if one.subject == "guard"]
        return guard

    assert "nobody answers" in found().text
    with listening(place) as door, serving_socket(guarding({}, {"version": "old"}), door):
        assert "restart metaward-guard" in found().remedy
        monkeypatch.setattr(own, "code_version", lambda: "old")
        assert found().verdict == "good"


def test_a_strange_folder_is_no_site(tmp_path: Path) -> None:
    assert "neither" in wrong(examine(tmp_path), "folder").text


def test_the_command_ends_with_one_for_a_wrong_site(site: Path) -> None:

    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(site)])
    assert done.exit_code == 1
    assert "wrong     server:" in done.output
    assert os.linesep in done.output


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("gate-log", "gate-log", "good"),
        ("gate-log", "# gate-log", "doubtful"),
        ("gate/gate.jsonl", "gate.jsonl", "wrong"),
    ],
)
def test_charges_must_be_able_to_name_the_code(
    site: Path, old: str, new: str, verdict: str
) -> None:
    settings = site / "guard.yaml"
    assert old in settings.read_text()
    settings.write_text(settings.read_text().replace(old, new))
    (found,) = [one for one in examine(site) if one.subject == "code"]
    assert found.verdict == verdict
    assert ("name it in guard.yaml" in found.remedy) == (verdict != "good")
