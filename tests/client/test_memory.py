"""What a learner keeps at a hospital: versions of rounds, whole or absent, bound to their reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from metaward import sim
from metaward.client import work
from metaward.client.desk import read_desk
from metaward.client.errors import NodeError
from metaward.client.inner import ALGORITHMS, Kept
from metaward.client.inner.reptile import Reptile
from metaward.client.memory import PATTERN, Memory, Stub, check_session
from metaward.options import ConfigError
from metaward.privacy import (
    UNITS,
    Attendance,
    Opening,
    OpenSession,
    Refusal,
    Release,
    Scores,
)
from metaward.privacy.ledger import Ledger
from metaward.privacy.noise import SeededNoise
from tests.client.bedside import Site, ask, request
from tests.client.scaffold import RECORD, SETTINGS, Scaffold
from tests.mechanisms import protecting, spelled
from tests.server.small import small

UNSEEN = 4


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "scaffold", Scaffold)
    monkeypatch.delenv("METAWARD_SIMULATION", raising=False)


def run_of(*settings: str) -> sim.Sim:
    return small(*SETTINGS, *settings)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob(PATTERN))
    }


# ------------------------------------------------------------------------------ versions


def memory(folder: Path, rewind: int = 100, sent: Callable[[Stub], bool] | None = None) -> Memory:
    return Memory(folder, rewind, sent or (lambda stub: True))


def kept(value: float) -> Kept:
    return {"head": torch.full((3,), value), "body": torch.arange(4.0) * value}


def left(memory: Memory, *rounds: int) -> None:
    for number in rounds:
        memory.keep(number, kept(number), "request", b"reply")


def value(found: Kept) -> float:
    return float(found["head"][0]) if found else 0.0


def test_vectors_come_back_to_the_bit(tmp_path: Path) -> None:
    one = memory(tmp_path / "a")
    given = {
        "nan": torch.tensor([float("nan"), -0.0]),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "strided": torch.arange(6.0)[::2],
        "matrix": torch.ones(2, 3),
        "none": torch.zeros(0),
    }
    one.keep(1, given, "request", b"reply")
    found = one.recall(2)
    assert found.keys() == given.keys()
    for name, vector in given.items():
        assert found[name].dtype == vector.dtype
        assert found[name].numpy().tobytes() == vector.numpy().tobytes()
        assert found[name].shape == vector.shape


def test_a_round_reads_the_last_one_before_it_and_never_a_later_one(tmp_path: Path) -> None:
    one = memory(tmp_path)
    assert one.recall(1) == {}
    left(one, 2, 5, 11)
    assert [value(one.recall(n)) for n in (1, 2, 3, 5, 6, 11, 12, 99)] == [0, 0, 2, 2, 5, 5, 11, 11]


def test_a_round_that_is_done_again_replaces_its_version(tmp_path: Path) -> None:
    one = memory(tmp_path)
    left(one, 1, 2, 3)
    one.keep(2, kept(7), "request", b"reply")
    assert [value(one.recall(n)) for n in (2, 3, 4)] == [1, 7, 3]


def test_what_is_empty_replaces_what_was_kept(tmp_path: Path) -> None:
    one = memory(tmp_path)
    left(one, 1)
    one.keep(2, {}, "request", b"reply")
    assert one.recall(3) == {}


def test_versions_are_for_their_owner_alone(tmp_path: Path) -> None:
    left(memory(tmp_path / "run" / "0"), 1)
    assert (tmp_path / "run" / "0").stat().st_mode & 0o077 == 0
    (path,) = (tmp_path / "run" / "0").iterdir()
    assert path.stat().st_mode & 0o177 == 0


@pytest.mark.parametrize("rewind", [1, 2, 5])
@pytest.mark.parametrize("taken", [range(1, 21), range(1, 21, 3), (1, 2, 9, 10, 19, 20)])
def test_all_that_a_resumed_run_may_read_is_kept_and_little_more(
    rewind: int, taken: Any, tmp_path: Path
) -> None:
    """After each round, resumed from any checkpoint up to ``rewind`` rounds back."""
    one, whole = memory(tmp_path / "pruned", rewind), memory(tmp_path / "whole")
    for number in taken:
        left(one, number), left(whole, number)
        for again in range(max(1, number - rewind + 1), number + 2):
            assert value(one.recall(again)) == value(whole.recall(again))
        assert len(list((tmp_path / "pruned").iterdir())) <= rewind + 1


def test_a_round_whose_version_is_no_longer_kept_is_refused(tmp_path: Path) -> None:
    """To begin with nothing would give another theta than the first time, without a word."""
    one = memory(tmp_path, rewind=2)
    left(one, *range(1, 8))
    with pytest.raises(NodeError, match="round 4 needs what round 4 left") as caught:
        one.recall(4)
    assert caught.value.code == "memory-missing"


@pytest.mark.parametrize("place", [0, 10, 64, 70, 150, -1])
def test_a_changed_bit_is_found(place: int, tmp_path: Path) -> None:
    one = memory(tmp_path)
    left(one, 1)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(NodeError, match="not what was once written") as caught:
        one.recall(2)
    assert caught.value.code == "memory-damaged"


@pytest.mark.parametrize("length", [0, 30, 65, 120])
def test_a_file_cut_short_is_found(length: int, tmp_path: Path) -> None:
    one = memory(tmp_path)
    left(one, 1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(NodeError, match="not what was once written"):
        one.recall(2)


def test_a_crash_while_writing_leaves_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = memory(tmp_path)
    left(one, 1)

    def dies(*_: Any) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            left(one, 2)
    assert value(one.recall(3)) == 1
    left(one, 2)
    assert value(one.recall(3)) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_version_whose_reply_was_never_stored_does_not_count(tmp_path: Path) -> None:
    stored: set[str] = set()
    one = memory(tmp_path, sent=lambda stub: stub.reply in stored)
    left(one, 1)
    assert one.recall(2) == {}
    stored.add("3d03f1bbb4ff19b0a8a1ca0ad1e6ba0a3ac26e2e4b8b9f5e8e8b2a7a1f2c0e5d")
    assert one.recall(2) == {}, "another reply's"
    (version,) = one._versions()
    stored.add(version.stub.reply)
    assert value(one.recall(2)) == 1


# ------------------------------------------------------------------- what may remember


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_a_learner_that_remembers_is_refused_where_it_would_carry_tasks(unit: str) -> None:
    if unit != "task":
        desk = run_of(spelled(unit)).desk()
        assert read_desk(desk.json()) == desk
        return
    with pytest.raises(ConfigError) as caught:
        run_of(spelled(unit))
    (fault,) = caught.value.faults
    assert fault.startswith("client.inner.algorithm: it keeps vectors between rounds")
    assert "a unit of none, record, patient, hospital" in fault
    desk = replace(run_of().desk(), mechanism=protecting("task"))
    with pytest.raises(ConfigError, match=r"desk: learner\.algorithm: it keeps vectors"):
        read_desk(desk.json())


def test_which_learners_remember() -> None:
    """proto_anil keeps class means; scaffold is this test's own."""
    remembering = {name for name, learner in ALGORITHMS.items() if learner().remembers}
    assert remembering == {"scaffold", "proto_anil", "local"}


def test_a_session_in_the_open_is_refused_where_parts_of_a_hospital_are_protected() -> None:
    """Whatever a mechanism of tomorrow says of itself."""
    silent = Opening([], {}, np.arange(1), SeededNoise(0))
    for unit in ("none", "hospital"):
        check_session(OpenSession(), UNITS[unit])
    for unit in ("record", "patient"):
        check_session(protecting(unit).session(silent), UNITS[unit])
    for unit in ("record", "patient", "task"):
        with pytest.raises(RuntimeError, match=f"a {unit} is protected"):
            check_session(OpenSession(), UNITS[unit])


# --------------------------------------------------------------------- at one hospital


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def own(site: Site) -> dict[str, str]:
    return site.config | {"memory": str(site.folder / "memory")}


def update(answer: Any) -> bytes:
    assert isinstance(answer, Release), answer
    return answer.update.tobytes()


def test_without_a_folder_a_learner_that_remembers_is_refused(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(RECORD)
    for kind, content in (
        ("query.roster", request(run, theta=None)),
        ("train", request(run)),
    ):
        assert site.ask(kind, content) == Refusal("memory-missing")
    assert 'memory="/path/to/folder"' in caplog.text
    assert site.refusals() == ["memory-missing"] * 2
    assert site.charges() == 0
    assert isinstance(ask("query.roster", request(run, theta=None), **own(site)), Attendance)


def test_the_server_cannot_name_the_folder(site: Site) -> None:
    """Nor can a real hospital's be a simulation's."""
    config = site.config | {"simulation": str(site.folder / "simulation")}
    assert ask("train", request(run_of(RECORD)), **config) == Refusal("memory-missing")
    assert not (site.folder / "simulation").exists()


@pytest.mark.parametrize("unit", ["none", "record", "patient", "hospital"])
def test_a_round_depends_on_what_the_round_before_kept(unit: str, tmp_path: Path) -> None:
    run = run_of(spelled(unit))

    def second(folder: str, *first: int) -> bytes:
        config = {"simulation": str(tmp_path / folder)}
        for number in first:
            update(ask("train", request(run, round=number), **config))
        return update(ask("train", request(run, round=2), **config))

    assert second("a", 1) == second("b", 1)
    assert second("a", 1) != second("c"), "the first round is remembered"
    assert second("d", 1, 3) == second("a", 1), "a later one is not"


@pytest.mark.parametrize("by", ["node config", "environment"])
def test_a_simulation_keeps_memories_beside_the_ledgers(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hospitals"
    config = {"simulation": str(folder)} if by == "node config" else {}
    if by == "environment":
        monkeypatch.setenv("METAWARD_SIMULATION", str(folder))
    run = run_of(RECORD)
    for index in (0, 1):
        update(ask("train", request(run), index, **config))
    names = [path.name for path in (folder / "run-1").iterdir() if path.is_dir()]
    assert len(names) == 2
    assert sorted(name.split("-")[0] for name in names) == ["0", "1"], "each hospital its own"
    assert all("/round-000001.memory" in name for name in files(folder / "run-1"))


@pytest.mark.parametrize("other", ["client.inner.lr=0.01", "seed=6", RECORD])
def test_neither_another_run_nor_another_desk_reads_what_was_kept(
    other: str, tmp_path: Path
) -> None:
    """A server that gives two desks one run's name gets nothing across: what was kept in the open
    must not come back where sums are noised."""
    before, after = run_of(), run_of(other)
    used, fresh = ({"simulation": str(tmp_path / name)} for name in ("used", "fresh"))
    update(ask("train", request(before), **used))
    asked = request(after, round=2)
    assert update(ask("train", asked, **used)) == update(ask("train", asked, **fresh))
    renamed = replace(request(before, round=2), run="run-2")
    assert update(ask("train", renamed, **used)) == update(ask("train", renamed, **fresh))


def test_a_reply_that_is_sent_again_changes_no_memory(site: Site) -> None:
    run = run_of(RECORD)
    once = update(ask("train", request(run), **own(site)))
    update(ask("train", request(run, round=2), **own(site)))
    before = files(site.folder / "memory")
    times = [path.stat().st_mtime_ns for path in (site.folder / "memory").rglob(PATTERN)]
    assert len(before) == 2
    assert update(ask("train", request(run), **own(site))) == once
    assert files(site.folder / "memory") == before
    assert [p.stat().st_mtime_ns for p in (site.folder / "memory").rglob(PATTERN)] == times


def test_evaluation_writes_no_memory(tmp_path: Path) -> None:
    run = run_of(RECORD)
    config = {"memory": str(tmp_path / "own"), "simulation": str(tmp_path / "s")}
    assert isinstance(ask("evaluate", request(run, episodes=2), UNSEEN, **config), Scores)
    assert isinstance(ask("query.roster", request(run, theta=None), UNSEEN, **config), Attendance)
    assert files(tmp_path) == {}


def test_what_was_computed_and_never_sent_is_not_remembered(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its charge is used again with fresh noise: with the first noise kept, both would leave."""
    run, seen = run_of(RECORD), []
    recalled = work._recalled

    def watched(*asked: Any) -> Kept:
        kept = recalled(*asked)
        seen.append(kept["control"].numpy().tobytes() if kept else b"")
        return kept

    def dies(*_: Any) -> Any:
        raise RuntimeError("power cut")

    monkeypatch.setattr(work, "_recalled", watched)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "answer", dies)
        assert ask("train", request(run), **own(site)) == Refusal("failed")
    lost = files(site.folder / "memory")
    assert len(lost) == 1, "it was written before the reply was"
    update(ask("train", request(run, round=2), **own(site)))
    assert seen == [b"", b""], "round 2 begins anew"
    update(ask("train", request(run), **own(site)))
    assert site.charges() == 2, "round 1 was paid for once"
    found = files(site.folder / "memory")
    assert [found[name] for name in lost] != list(lost.values())
    update(ask("train", request(run, round=3), **own(site)))
    assert seen[-1] != b""


def test_a_damaged_memory_is_refused_and_noted_before_anything_is_charged(site: Site) -> None:
    run = run_of(RECORD)
    update(ask("train", request(run), **own(site)))
    (path,) = (site.folder / "memory").rglob(PATTERN)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert ask("train", request(run, round=2), **own(site)) == Refusal("memory-damaged")
    assert site.refusals() == ["memory-damaged"]
    assert site.charges() == 1


class Forgetful(Reptile):
    """It keeps something without having said so."""

    def update(self, *arguments: Any) -> Any:
        return replace(super().update(*arguments), keep={"head": torch.zeros(1)})


class Silent(Scaffold):
    remembers: ClassVar[bool] = False


@pytest.mark.parametrize("learner", [Forgetful, Silent])
def test_a_learner_that_does_not_say_that_it_remembers_may_keep_nothing(
    learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ALGORITHMS, "secretive", learner)
    run = run_of("client.inner={algorithm: secretive}")
    answer = ask("train", request(run), simulation=str(tmp_path))
    assert answer == Refusal("failed")
    assert "does not say remembers" in caplog.text
    assert files(tmp_path) == {}


def test_control_variates_are_the_mean_of_the_gradients_that_were_taken(tmp_path: Path) -> None:
    """The plug-in is SCAFFOLD: option II's c_i is the mean of the round's gradients."""
    run = run_of()
    taken: list[torch.Tensor] = []

    class Watched(OpenSession):
        def gradient(self, *arguments: Any) -> Any:
            g, loss = super().gradient(*arguments)
            taken.append(g)
            return g, loss

    desk = run.desk()
    hospital = work.open_hospital(desk.source, 0, None, desk.seed)
    setting, theta = work.open_setting(desk), desk.learner.initial(work.open_setting(desk), 1)
    for number in (1, 2, 3):
        taken.clear()
        share = work.tasks_of(desk, hospital, 0, number)
        rng = np.random.default_rng(0)
        found = desk.learner.update(setting, theta, share.episodes, Watched(), rng)
        expected = torch.stack(taken).mean(dim=0)
        torch.testing.assert_close(found.keep["control"], expected, atol=1e-5, rtol=1e-4)
        theta, setting = theta + found.delta, setting.recalling(found.keep)


def test_a_desk_says_how_far_a_run_may_be_set_back() -> None:
    run = run_of("server.checkpoint={every: 4, keep: 3}")
    assert run.desk().rewind == 12
