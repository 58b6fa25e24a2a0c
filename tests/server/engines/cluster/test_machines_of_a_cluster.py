"""A run on a Ray cluster of two machines: the same result, and a wrong machine stops it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from metaward import sim
from metaward.server.engines import ENGINES
from metaward.server.example import write_example
from metaward.server.folder import Folder
from metaward.yaml_text import override
from tests.server.deploy.machines import needs_machines
from tests.server.engines.cluster.rays import RayCluster, ray_cluster

pytestmark = [pytest.mark.flower, pytest.mark.faults, pytest.mark.timeout(900), needs_machines]

SETTINGS = (
    "data.root=null",
    "client.inner={algorithm: reptile, lr: 0.05, steps: 2, adapt_steps: 2}",
    "server.engine=flower",
    "server.rounds=3",
    "server.checkpoint.every=1",
    "server.evaluation={every: 3, episodes: 2, final_episodes: 4, baselines: []}",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    short = TemporaryDirectory(prefix="mwray", dir="/tmp")  # Ray's sockets lie in it
    with short as folder, ray_cluster(Path(folder), 2) as made:
        write_example(made.folder / "example", "table")
        yield made


@pytest.fixture(autouse=True)
def same_data(cluster: RayCluster) -> None:
    """Every machine has a copy of its own."""
    for host in cluster.hosts:
        shutil.rmtree(host.own / "data", ignore_errors=True)
        shutil.copytree(cluster.folder / "example", host.own / "data")


def config(cluster: RayCluster, *settings: str) -> str:
    mapping = yaml.safe_load((cluster.folder / "example" / "run.yaml").read_text())
    for text in (*SETTINGS, *settings):
        override(mapping, text)
    path = cluster.folder / "run.json"
    path.write_text(json.dumps(sim.parse(mapping).mapping()))
    return str(path)


def inside(cluster: RayCluster, number: int) -> str:
    """The commands of all processes on a machine."""
    words = ["ip", "netns", "pids", cluster.hosts[number].namespace]
    pids = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    files = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return "\n".join(file.read_text() for file in files if file.exists())


def test_two_machines_reach_the_result_of_one(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = config(cluster, "server.flower.machines=2"), cluster.folder / "out"
    process, both = cluster.metaward("run", path, "--out", str(out)), False
    while process.poll() is None:
        both = both or all("ClientAppActor" in inside(cluster, number) for number in (0, 1))
        time.sleep(0.2)
    said = process.communicate()
    assert process.returncode == 0, said
    assert both, "hospitals worked on both machines"
    there = Folder(out)
    assert [one["at_once"] for one in there.about()["machines"]] == [1, 1]
    assert there.hospital_lines(1) == []

    monkeypatch.setenv("METAWARD_DATA", str(cluster.folder / "example"))
    here, alone = (
        Folder(cluster.folder / "alone"),
        sim.load(Path(path), ["server.engine=inprocess"]),
    )
    here.create(alone)
    ENGINES["inprocess"](alone, here, lambda row: None)
    theta = "theta.safetensors"
    assert (there.path / theta).read_bytes() == (here.path / theta).read_bytes()
    results = [json.loads((one.path / "result.json").read_text()) for one in (there, here)]
    assert results[0]["tables"] == results[1]["tables"]
    ledgers = [sorted(p.name for p in one.hospitals.rglob("*.sqlite")) for one in (there, here)]
    assert ledgers[0] == ledgers[1] == ["east.sqlite", "north.sqlite", "south.sqlite"]
    code, words = cluster.outcome("privacy", "verify", str(out))
    assert code == 0, words


def refused(cluster: RayCluster, *settings: str) -> str:
    """What is said of a run that does not start."""
    out = cluster.folder / "never"
    code, said = cluster.outcome("run", config(cluster, *settings), "--out", str(out))
    assert (code, out.exists()) == (2, False), said
    return " ".join(said.split())


def test_a_machine_with_other_data_is_named_and_its_file(cluster: RayCluster) -> None:
    own = cluster.hosts[1].own / "data"
    lines = (own / "east" / "records.csv").read_text().splitlines()
    (own / "east" / "records.csv").write_text("\n".join(lines[:-1]) + "\n")
    said = refused(cluster)
    assert "machine 10.77.0.2: east/records.csv is not the same file as here" in said
    assert "10.77.0.1:" not in said.replace(cluster.address, "")
    (own / "east" / "records.csv").unlink()
    said = refused(cluster)
    assert f"machine 10.77.0.2: east: {cluster.data}/east holds none of" in said


def test_a_machine_that_is_missing_at_the_start_is_missed(cluster: RayCluster) -> None:
    said = refused(cluster, "server.flower.machines=3")
    assert "3 machines are wanted, and 2 can hold a hospital (10.77.0.1, 10.77.0.2)" in said
    assert f"ray start --address={cluster.address}" in said
