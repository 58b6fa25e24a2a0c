"""Two hospitals as they would be deployed: own processes, own keys, TLS; one deployment for all.

The command is the one a user types. It finishes its run, then goes on serving, so that the tests
can knock at its doors.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaward import sim
from metaward.server.deploy import commands, pki
from metaward.server.deploy.consortium.bundled import bundle_hash
from metaward.server.deploy.layout import HospitalFiles, Site
from metaward.server.engines import ENGINES
from metaward.server.engines.processes import Launcher, free_port
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import places
from tests.server.deploy.live import Live, wait_for

pytestmark = [pytest.mark.flower, pytest.mark.timeout(600)]

CONFIG = sim.HERE / "configs" / "deploy.yaml"
SETTINGS = (
    "privacy={mechanism: none}",  # so that the result can be that of a simulation
    "client.tasks.hospitals=1",
    "client.tasks_per_round=4",
    "server.rounds=1",
    "server.evaluation.every=1",
    "server.evaluation.final_episodes=10",
    "server.evaluation.baselines=[]",
)
LOOPBACK = "0100007F"  # 127.0.0.1 as /proc/net/tcp writes it


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    found = Live(tmp_path_factory.mktemp("live"), 2, CONFIG, "--keep", *settings)
    found.start()
    try:
        wait_for(lambda: found.said("goes on serving"), 300, "the end of the run")
        yield found
    finally:
        found.end()
        assert found.nothing_left()


# ------------------------------------------------------------------------------- the run


def test_the_run_finished_with_the_result_of_the_in_process_engine(
    live: Live, tmp_path: Path
) -> None:
    assert live.folder.status() == ("finished", "")
    run, other = sim.load(CONFIG, SETTINGS), Folder(tmp_path)
    other.create(run)
    ENGINES["inprocess"](run, other, lambda row: None)
    theta = "theta.safetensors"
    assert (live.folder.path / theta).read_bytes() == (other.path / theta).read_bytes()
    tables = [
        json.loads((f.path / "result.json").read_text())["tables"] for f in (live.folder, other)
    ]
    assert tables[0] == tables[1]
    assert "NO PRIVACY" in live.out.read_text()
    assert live.folder.bundles == (bundle_hash(),), "the code that Flower shipped"


def test_both_folders_lead_to_each_other(live: Live) -> None:
    found = places([live.site.root])
    assert [run.path.resolve() for run in found.folders] == [live.folder.path.resolve()]
    assert found.ledgers == places([live.folder.path]).ledgers
    assert len(found.ledgers) == 2
    said = live.err.read_text()
    assert f"into {live.folder.path}-again:" in said
    assert "flwr run" in said


def test_each_hospital_worked_in_its_own_processes_and_home(live: Live) -> None:
    pids = live.pids()
    names = {"phantom-01", "unseen-01"}
    assert set(pids) == {"superlink", *names, *(f"{name}.guard" for name in names)}
    found = live.processes()
    assert "flower-superlink" in found[pids["superlink"]]
    for hospital in live.site.hospitals(["phantom-01", "unseen-01"]):
        assert "flower-supernode" in found[pids[hospital.name]]
        assert str(hospital.policy) not in found[pids[hospital.name]], "its guard alone knows it"
        assert str(hospital.guard) in found[pids[f"{hospital.name}.guard"]]
        assert list((hospital.home / "apps").glob("metaward*"))
        assert hospital.log.read_text() == "", "nothing went wrong there"


# --------------------------------------------------------------------------------- doors


def test_everything_listens_on_loopback_only(live: Live) -> None:
    found = live.listening()
    assert len(found) >= 3, "SuperLink and two SuperNodes"
    assert link_port(live) in {port for _, port in found}
    assert {address for address, _ in found} == {LOOPBACK}


def link_port(live: Live) -> int:
    command = live.processes()[live.pids()["superlink"]].split()
    return int(command[command.index("--port") + 1])


def health(live: Live, scheme: str, authority: Path) -> int:
    """The status of the SuperLink's health page."""
    trust = ssl.create_default_context(cafile=str(authority))
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)]
    url = f"{scheme}://127.0.0.1:{link_port(live)}/health"
    with urllib.request.build_opener(*handlers).open(url, timeout=10) as answer:
        status: int = answer.status
    return status


def other_authority(folder: Path) -> pki.Pair:
    pair = pki.Pair(folder / "ca.crt", folder / "ca.key")
    pki.ensure_authority(pair)
    return pair


def test_the_superlink_proves_itself_by_the_deployments_authority_alone(
    live: Live, tmp_path: Path
) -> None:
    assert health(live, "https", live.site.authority.certificate) == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        health(live, "https", other_authority(tmp_path).certificate)


def test_without_tls_nobody_answers(live: Live) -> None:
    with pytest.raises(OSError, match=r"reset|closed|disconnected|400"):
        health(live, "http", live.site.authority.certificate)


class Stranger:
    """A SuperNode of nobody's, with its own files and a key that nobody registered."""

    def __init__(self, live: Live, folder: Path) -> None:
        self.files = HospitalFiles("stranger", 0, folder)
        self.site = Site(live.site.root)
        self.files.home.mkdir()
        pki.ensure_node_key(self.files.key, self.files.public_key)
        self.command = commands.supernode(self.site, self.files, link_port(live), free_port())

    def knock(self) -> tuple[int, str]:
        """Exit code and words; it must give up by itself. What it started ends with it."""
        log = self.files.folder / "log"
        launch = Launcher(self.files.home, commands.hospital_environment(self.files), log)
        with launch([*self.command, "--max-retries", "1"]) as process:
            code = process.wait(timeout=90)
        return code, log.read_text()


def activated(live: Live) -> int:
    return live.site.log("superlink").read_text().count("Activated node_id")


def test_a_key_that_nobody_registered_is_refused(live: Live, tmp_path: Path) -> None:
    before = activated(live)
    code, words = Stranger(live, tmp_path).knock()
    assert code != 0
    assert "Failed to initialize the connection" in words
    assert "SuperNode ID" not in words
    assert activated(live) == before == 2


def test_a_node_without_a_key_is_refused(live: Live, tmp_path: Path) -> None:
    """It would make a key of its own and register that; node authentication is to stop it."""
    before, stranger = activated(live), Stranger(live, tmp_path)
    at = stranger.command.index("--auth-supernode-private-key")
    del stranger.command[at : at + 2]
    code, words = stranger.knock()
    assert code != 0
    assert "Failed to initialize the connection" in words
    assert activated(live) == before == 2


def test_a_hospital_does_not_talk_to_a_server_of_another_authority(
    live: Live, tmp_path: Path
) -> None:
    """With a registered key, so that nothing but the certificate is wrong."""
    stranger = Stranger(live, tmp_path)
    north = live.site.hospitals(["phantom-01"])[0]
    wrong = str(other_authority(tmp_path).certificate)
    swaps = {str(live.site.authority.certificate): wrong, str(stranger.files.key): str(north.key)}
    stranger.command = [swaps.get(word, word) for word in stranger.command]
    assert {wrong, str(north.key)} <= set(stranger.command)
    code, words = stranger.knock()
    assert code != 0
    assert "CERTIFICATE_VERIFY_FAILED" in words


# ------------------------------------------------------------------------------- the end


def test_ctrl_c_ends_it_and_leaves_nothing(live: Live) -> None:
    """The last test: the deployment is gone after it."""
    assert len(live.processes()) >= 6, "or there would be nothing to end"
    ports = {port for _, port in live.listening()}
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(timeout=30) == 0, live.err.read_text()
    assert live.nothing_left()
    assert ports
    assert not live.listening()
    assert not live.site.pids.exists()
    assert live.folder.status() == ("finished", "")
    log = live.site.log("superlink").read_text()
    assert log.count("Deactivated node_id") == 2, "hospitals say goodbye, so they can come back"


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_ended_while_it_starts_it_leaves_nothing(tmp_path: Path, how: int, code: int) -> None:
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    live = Live(tmp_path, 2, CONFIG, *settings)
    live.start()
    try:
        wait_for(lambda: any("flower-supernode" in c for c in live.processes().values()), 90, "it")
        os.kill(live.process.pid, how)
        assert live.process.wait(timeout=30) == code
        assert live.nothing_left()
    finally:
        live.end()
    if how == signal.SIGINT:
        assert live.folder.status() == ("interrupted", "stopped by the user")
        assert f"--resume {live.folder.path}" in live.err.read_text()
