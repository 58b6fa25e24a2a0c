"""The same run on Flower's own runtime: equal results, true endings, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, MessageType, RecordDict

from metaward import sim
from metaward.client.app import app
from metaward.options import ConfigError
from metaward.privacy import Answer, Attendance, Refusal
from metaward.privacy.wire import Request, decode_answer, encode_request
from metaward.server.engines import ENGINES, EngineError, flower
from metaward.server.engines.follow import Trail, await_superlink, run_config
from metaward.server.engines.follow import follow as follow_run
from metaward.server.engines.inprocess import InProcessGrid
from metaward.server.engines.processes import free_port
from metaward.server.engines.progress import Progress
from metaward.server.folder import BusyError, Folder
from metaward.server.start import new_folder
from tests.server.small import small

LATER = 1e9
COMMAND = [sys.executable, "-c", "from metaward.server.cli import main; main()"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def under(folder: Folder) -> dict[int, str]:
    """Every live process of a flower run on this folder, by a mark in its environment."""
    return {pid: command for pid, (command, _) in marked(folder).items()}


def homes(folder: Folder) -> set[Path]:
    """The private homes of a flower run on this folder that has live processes."""
    every = [environ.get("FLWR_HOME") for _, environ in marked(folder).values()]
    found = {Path(home) for home in every if home}
    assert found
    assert all(home.name.startswith("metaward-") and home.exists() for home in found)
    return found


def marked(folder: Folder) -> dict[int, tuple[str, dict[str, str]]]:
    """The command and the environment of such processes."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "environ").read_bytes().decode().split("\0")
            environ = dict(line.split("=", 1) for line in lines if "=" in line)
            if environ.get("METAWARD_HOSPITAL_LOG") == str(folder.hospital_log):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(process.name)] = command.decode(), environ
        except (OSError, UnicodeDecodeError):
            continue
    return found


def nothing_left(folder: Folder, of: set[Path]) -> bool:
    """Within seconds, no process and no private home; says which, should there be any."""

    def left() -> list[object]:
        return [*under(folder).items(), *(home for home in of if home.exists())]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_round(folder: Folder, number: int) -> dict[int, str]:
    """The run's processes when a round is done; they must be there, or a later check is void."""
    wait_for(lambda: any(row["round"] >= number for row in folder.rows()))
    found = under(folder)
    for part in ("flower-superlink", "flwr run", "flwr-simulation", "gcs_server", "ray::"):
        assert any(part in command for command in found.values()), part
    return found


def in_process(path: Path, *settings: str) -> Folder:
    run, folder = small(*settings), Folder(path)
    folder.create(run)
    ENGINES["inprocess"](run, folder, lambda row: None)
    return folder


# ------------------------------------------------------------------------------ whole runs


def finished_like_the_other_engine(folder: Folder, after: int, settings: tuple[str, ...]) -> None:
    """Resumed in this process it ends as an uninterrupted run of the in-process engine."""
    rows, own_homes = list[Any](), set[Path]()

    def note(row: Any) -> None:
        rows.append(row)
        own_homes.update(() if own_homes else homes(folder))

    ENGINES["flower"](folder.config(), folder, note)
    assert own_homes
    assert nothing_left(folder, own_homes)
    assert folder.status() == ("finished", "")
    assert not (folder.path / "flower.log").exists()
    assert folder.hospital_log.read_text() == ""
    own = [row for row in rows if row["phase"] == "reptile"]
    assert own == list(folder.rows())[-len(own) :]
    assert after <= own[0]["round"] < own[-1]["round"] == folder.config().server.rounds
    assert [row for row in rows if row["phase"] == "fedavg"]

    other = in_process(folder.path.with_name("whole"), *settings, "server.workers=1")
    assert [r["round"] for r in folder.rows()] == [r["round"] for r in other.rows()]
    theta = "theta.safetensors"
    assert (folder.path / theta).read_bytes() == (other.path / theta).read_bytes()
    results = [json.loads((f.path / "result.json").read_text()) for f in (folder, other)]
    assert results[0]["tables"] == results[1]["tables"]


def killed_after_round(process: subprocess.Popen[str], folder: Folder, number: int) -> None:
    """The command has no chance to tidy up, and nothing is left of it."""
    wait_for_round(folder, number)
    own_homes = homes(folder)
    process.kill()
    process.communicate()
    assert nothing_left(folder, own_homes)
    assert folder.status()[0] == "running"


@pytest.mark.flower
@pytest.mark.timeout(900)
def test_killed_and_resumed_to_the_result_of_the_other_engine(tmp_path: Path) -> None:
    settings = ("server.rounds=16", "server.evaluation.every=8", "server.checkpoint.every=1")
    config, folder = tmp_path / "small.json", Folder(tmp_path / "run")
    config.write_text(json.dumps(small(*settings, "server.workers=2").mapping()))
    process = start("run", str(config), "--engine", "flower", "--out", str(folder.path))
    killed_after_round(process, folder, 3)
    finished_like_the_other_engine(folder, 3, settings)


@pytest.mark.flower
@pytest.mark.long
@pytest.mark.timeout(900)
def test_stopped_in_every_way_and_resumed_to_the_result_of_the_other_engine(tmp_path: Path) -> None:
    settings = ("server.rounds=40", "server.evaluation.every=20", "server.checkpoint.every=1")
    config, folder = tmp_path / "small.json", Folder(tmp_path / "run")
    config.write_text(json.dumps(small(*settings, "server.workers=2").mapping()))

    process = start("run", str(config), "--engine", "flower", "--out", str(folder.path))
    wait_for(lambda: any("flower-superexec" in command for command in under(folder).values()))
    own_homes = homes(folder)
    process.send_signal(signal.SIGINT)  # while Flower is starting
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert nothing_left(folder, own_homes)
    assert folder.status() == ("interrupted", "stopped by the user")

    killed_after_round(start("resume", str(folder.path)), folder, 3)

    process = start("resume", str(folder.path))
    found, own_homes = wait_for_round(folder, 8), homes(folder)
    os.kill(next(pid for pid, c in found.items() if "flwr-simulation" in c), signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the process at work on the run was killed" in errors
    assert nothing_left(folder, own_homes)
    assert folder.status()[0] == "failed"
    assert "Starting Flower Simulation" in (folder.path / "flower.log").read_text()

    finished_like_the_other_engine(folder, 8, settings)


# -------------------------------------------------------------------- how an end is found


class Fake(subprocess.Popen[bytes]):
    """A process that runs, or has ended with a code."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code
        self.returncode = 0  # so that Popen's own tidying asks for nothing

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path / "run")
    found.create(small())
    (found.path / "flower.log").write_text("\x1b[91mERROR\x1b[0m: disk full\n")
    return found


def follow(folder: Folder, *codes: int | None, deadline: float = LATER) -> None:
    progress = Progress(folder, flower.watchful(lambda row: None))
    trail = Trail(folder, folder.path / "flower.log", deadline, progress.show)
    with flower.explained():
        follow_run([Fake(code) for code in codes or (None, None)], trail)


def test_a_finished_run_counts_even_when_flower_has_ended(folder: Folder) -> None:
    folder.set_status("finished")
    follow(folder, None, 0)


def test_a_failed_run_gives_its_reason(folder: Folder) -> None:
    folder.set_status("failed", "QuorumError: round 3: nobody came")
    with pytest.raises(EngineError, match=r"^QuorumError: round 3: nobody came$"):
        follow(folder)


def test_a_run_that_failed_of_a_dead_ray_worker_says_what_the_code_means(folder: Folder) -> None:
    folder.set_status("failed", "QuorumError: round 3: h1 (error-0)")
    with pytest.raises(EngineError, match=r"h1 \(error-0\); error-0 means that a Ray worker died"):
        follow(folder)


@pytest.mark.parametrize("codes", [(None, 0), (1, None)])
def test_flower_ending_early_is_a_failure_with_its_log(
    folder: Folder, codes: tuple[int | None, ...]
) -> None:
    with pytest.raises(EngineError, match=r"without a result(?s:.*)\nERROR: disk full$"):
        follow(folder, *codes)


def test_a_run_that_does_not_begin_is_given_up(folder: Folder) -> None:
    with pytest.raises(EngineError, match=r"did not begin in time(?s:.*)disk full"):
        follow(folder, deadline=time.monotonic() - 1)


def test_nobody_at_work_on_a_running_run_is_found(folder: Folder) -> None:
    folder.set_status("running")
    with pytest.raises(EngineError, match="was killed"):
        follow(folder)


def test_somebody_at_work_is_waited_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.set_status("running")
    waits = []

    def finish_at_the_third_look(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            folder.set_status("finished")

    monkeypatch.setattr(time, "sleep", finish_at_the_third_look)
    with folder.lock():
        follow(folder, deadline=time.monotonic() - 1)
    assert len(waits) == 3


def test_a_dead_ray_worker_ends_the_run(folder: Folder) -> None:
    progress = Progress(folder, flower.watchful(lambda row: None))
    folder.rewind(0)
    folder.add({"phase": "reptile", "round": 4, "rejected": {"h1": "no-reply"}})
    progress.show()
    folder.add({"phase": "reptile", "round": 5, "rejected": {"h2": "error-0"}})
    with pytest.raises(EngineError, match=r"round 5: h2.*Ray worker died.*metaward resume"):
        progress.show()


def await_link(link: Fake, folder: Folder, deadline: float) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    await_superlink(link, url, folder.path / "flower.log", deadline)


def test_a_superlink_that_ends_at_once_is_no_long_wait(folder: Folder) -> None:
    with pytest.raises(EngineError, match=r"did not start(?s:.*)disk full"):
        await_link(Fake(1), folder, LATER)


def test_a_superlink_that_never_answers_is_given_up(folder: Folder) -> None:
    with pytest.raises(EngineError, match="did not start"):
        await_link(Fake(), folder, time.monotonic() + 0.3)


# ------------------------------------------------------------------------- before anything


def test_a_folder_in_use_is_left_alone(folder: Folder) -> None:
    folder.set_status("running")
    with folder.lock(), pytest.raises(BusyError):
        flower.run_flower(small(), folder, lambda row: None)
    assert folder.status()[0] == "running"
    assert (folder.path / "flower.log").exists()


def test_a_gpu_that_flower_would_hide_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"server\.flower\.gpus: 0\.0.*'cuda'"):
        flower.run_flower(small("server.device=cuda"), folder, lambda row: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    flower.check(small("server.device=cuda", "server.flower.gpus=0.5"))


@pytest.mark.parametrize(
    ("present", "gpus", "way_out"),
    [
        (0, "0.25", "set server.flower.gpus=0 and server.device=cpu"),
        (0, "1", "set server.flower.gpus=0 and server.device=cpu"),
        (1, "1.5", "set server.flower.gpus=0, or run where there are GPUs"),
    ],
)
def test_gpus_that_are_not_there_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: int, gpus: str, way_out: str
) -> None:
    """Flower's own words for it would be: ActorPool is empty."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    run = small("server.engine=flower", f"server.flower.gpus={gpus}")
    with pytest.raises(ConfigError, match=rf"server\.flower\.gpus: {gpus} asks for") as caught:
        new_folder(run, tmp_path / "out")
    assert f"this machine has {present} that torch can use" in str(caught.value)
    assert way_out in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_simulated_hospitals_learn_the_device_from_their_environment(folder: Folder) -> None:
    run = small("server.device=cuda:1")
    assert flower.environment(run, folder, folder.path)["METAWARD_DEVICE"] == "cuda:1"


def test_an_installation_without_the_app_folder_is_refused(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim, "HERE", tmp_path)
    with pytest.raises(ConfigError, match=r"server\.engine: flower .*pyproject\.toml"):
        flower.run_flower(small(), folder, lambda row: None)


def test_the_whole_configuration_survives_the_way() -> None:
    run = small("name=it.s_all-here", 'data.root="/a \'b\' \\"c\\" \\\\ d = é"')
    folder = Folder(Path("/tmp/results of 'ours' \"é\" \\ = #1"))
    values = tomllib.loads(run_config(run, folder))
    assert values["out"] == str(folder.path)
    assert sim.load_json(values["sim-json"]) == run


def test_resources_follow_the_configuration(tmp_path: Path) -> None:
    run = small("server.workers=3", "server.flower.cpus=2", "server.flower.gpus=0.25")
    command = flower.submission(run, tmp_path)
    pairs = dict(pair.split("=") for pair in command[-1].split())
    assert pairs == {
        "num-supernodes": "6",
        "client-resources-num-cpus": "2",
        "client-resources-num-gpus": "0.25",
        "init-args-num-cpus": "6",
    }


# ------------------------------------------------------------------------------ hospitals


def roll_call(tmp_path: Path, **node: int) -> Answer:
    """What the second hospital of the small run answers from a node with this configuration."""
    run = small()
    with InProcessGrid(6, 1, None, Folder(tmp_path)):  # says which run messages belong to
        request = Request(0, run.desk().json())
        message = Message(encode_request(request), 7, f"{MessageType.QUERY}.roster")
        context = Context(
            1, 7, {"partition-id": 1, "simulation": "unused", **node}, RecordDict(), {}
        )
        return decode_answer(app(message, context).content)


def test_a_simulation_of_another_size_is_refused_by_every_hospital(tmp_path: Path) -> None:
    assert roll_call(tmp_path, **{"num-partitions": 2}) == Refusal("federation-size")
    seat = small().client.tasks.roster()[1]
    assert roll_call(tmp_path, **{"num-partitions": 6}) == Attendance(seat.name, 1)
    assert roll_call(tmp_path) == Attendance(seat.name, 1)
