"""Many tasks at once give what each gives alone: the same loops, on tensors with a task axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metaward.client import judging
from metaward.client.inner import Algorithm, Fomaml, Local, Metric, ProtoAnil, Setting
from metaward.client.inner.at_once import AUTO, AtOnce, Batched, OneByOne, TasksAtOnce
from metaward.client.inner.company import companion, side_by_side
from metaward.client.inner.programs import Task, Work
from metaward.client.judging import judge
from metaward.client.tasks.base import Episode
from metaward.privacy import OpenSession
from tests.privacy.attacked import CASES, LEARNERS, episodes, records, start

ALL = LEARNERS | {"proto_anil": ProtoAnil(steps=2), "local": Local(lr=0.1, steps=2)}
PAIRS = [
    (name, case)
    for name, learner in ALL.items()
    for case, (_, spec) in CASES.items()
    if learner.takes_stacks and (spec.kind.classes or "proto" not in name)
    if (name, case) not in {("embedding", "curve"), ("embedding, local rate", "curve")}
]
every_pair = pytest.mark.parametrize(("name", "case"), PAIRS)
every_update = pytest.mark.parametrize(  # proto_anil pools its tasks
    ("name", "case"), [(name, case) for name, case in PAIRS if name != "proto_anil"]
)
FLAT = nn.Linear(2, 2)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def tasks_of(case: str, seed: int = 1) -> list[Episode]:
    """Three tasks of one size, and two of another."""
    spec = CASES[case][1]
    whole = [e for s in (seed, seed + 1) for e in episodes(records(spec, s))]
    return [whole[0], cut(whole[1]), *whole[2:], cut(whole[0])]


def cut(episode: Episode) -> Episode:
    """The same task with fewer query records."""
    x, y, rows = (getattr(episode, f"query_{part}")[:3] for part in ("x", "y", "rows"))
    e = episode
    return Episode(e.support_x, e.support_y, x, y, e.classes, e.support_rows, rows)


def update(learner: Algorithm, case: str, at_once: AtOnce, seed: int = 1) -> Tensor:
    setting = Setting(*CASES[case], at_once=at_once)
    theta, rng = start(setting, learner), np.random.default_rng(5)
    return learner.update(setting, theta, tasks_of(case, seed), OpenSession(), rng).delta


@every_update
def test_updates_are_those_of_one_task_after_the_other(name: str, case: str) -> None:
    alone = update(ALL[name], case, OneByOne())
    for at_once in (Batched(1), Batched(2), Batched(64), AUTO.on("cpu", FLAT)):
        found = update(ALL[name], case, at_once)
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)
    assert alone.abs().max() > 1e-4


@every_pair
def test_an_unseen_hospitals_scores_are_the_same(name: str, case: str) -> None:
    learner, found = ALL[name], []
    for at_once in (OneByOne(), Batched(2)):
        setting = Setting(*CASES[case], at_once=at_once)
        found.append(judge(setting, learner, start(setting, learner), tasks_of(case)))
    assert len(found[0]) == 5
    np.testing.assert_allclose(np.array(found[0]), np.array(found[1]), atol=1e-9)
    assert len({str(pair) for pair in found[0]}) > 1


@every_pair
def test_predictors_of_several_tasks_are_those_of_each(name: str, case: str) -> None:
    learner, setting = ALL[name], Setting(*CASES[case])
    theta, some = start(setting, learner), [*episodes(records(CASES[case][1], 1))]
    stack = setting.stack(some)
    outputs = learner.adapt(setting, theta.expand(2, -1), stack.support, 2)(stack.query.x)
    alone = [learner.adapt(setting, theta, setting.support(e), 2)(setting.query(e).x) for e in some]
    torch.testing.assert_close(outputs, torch.stack(alone), rtol=0, atol=1e-11)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["fomaml", "maml", "proto_maml", "reptile", "reptile in batches"])
def test_hospitals_side_by_side_get_what_each_gets_alone(name: str) -> None:
    """One program for the tasks of all of them, where it draws no random numbers."""
    learner, programs = ALL[name], list[int]()

    class Counting(Batched):
        def joined(self, works: Sequence[Work]) -> list[list[tuple[Tensor, ...]]]:
            programs.append(len(works))
            return super().joined(works)

    at_once, case = Counting(), "mlp"
    setting = Setting(*CASES[case], at_once=at_once)

    def hospital(seed: int) -> Tensor:
        theta, rng = start(setting, learner), np.random.default_rng(seed)
        return learner.update(setting, theta, tasks_of(case, seed), OpenSession(), rng).delta

    together = side_by_side([partial(hospital, seed) for seed in (1, 4, 7)])
    assert programs == ([1] * 3 if name == "reptile in batches" else [3])
    for seed, found in zip((1, 4, 7), together, strict=True):
        torch.testing.assert_close(found, hospital(seed), rtol=0, atol=1e-12)
    assert not torch.allclose(together[0], together[1])


def test_tasks_of_two_networks_are_not_mixed() -> None:
    """Not even where they look alike, and are computed by the same object."""
    keys, learner = list[object](), ALL["fomaml"]

    class Noting(Batched):
        def joined(self, works: Sequence[Work]) -> list[list[tuple[Tensor, ...]]]:
            keys.extend(work.key for work in works)
            return super().joined(works)

    at_once = Noting()
    settings = [Setting(*CASES["mlp"], at_once=at_once) for _ in range(2)]

    def hospital(setting: Setting) -> None:
        theta, rng = start(setting, learner), np.random.default_rng(0)
        learner.update(setting, theta, tasks_of("mlp"), OpenSession(), rng)
        judge(setting, learner, theta, tasks_of("mlp"))

    side_by_side([partial(hospital, setting) for setting in settings])
    assert len(keys) == len(set(keys)) == 4


def test_those_beside_go_on_where_one_fails() -> None:
    """A job's own error is raised in the end; an error of the common work reaches all of them."""
    went_on = []

    def fails() -> None:
        raise KeyError("mine")

    def works(name: str, wanted: str) -> str:
        here = companion()
        assert here is not None
        answer = here.join_in(wanted, doubled)
        went_on.append(name)
        return str(answer)

    def doubled(texts: Sequence[str]) -> list[str]:
        if "no" in texts:
            raise ValueError("all of us")
        return [text * 2 for text in texts]

    with pytest.raises(KeyError, match="mine"):
        side_by_side([fails, partial(works, "a", "x"), partial(works, "b", "y")])
    assert went_on == ["a", "b"]
    assert side_by_side([partial(works, "c", "x"), lambda: "alone"]) == ["xx", "alone"]
    with pytest.raises(ValueError, match="all of us"):
        side_by_side([partial(works, "d", "x"), partial(works, "e", "no")])
    assert went_on == ["a", "b", "c"]
    assert companion() is None


def test_a_learner_that_changes_the_methods_gets_one_task_at_a_time() -> None:
    """It was written for one, unless its class says otherwise; whatever it is derived from."""

    class Adapts(ProtoAnil):
        def adapt(self, *arguments: Any) -> Any:
            return super().adapt(*arguments)

    class Updates(Fomaml):
        def update(self, *arguments: Any) -> Any:
            return super().update(*arguments)

    class Both(Updates):
        takes_stacks = True

        def adapt(self, *arguments: Any) -> Any:
            return super().adapt(*arguments)

    class Renamed(Fomaml):
        pass

    learners = (Adapts, Updates, Both, Renamed, Fomaml, ProtoAnil, Metric)
    assert [learner.takes_stacks for learner in learners] == [*[False] * 2, *[True] * 4, False]


def test_the_choice() -> None:
    by_size = AUTO.on("cpu", FLAT)
    assert [by_size.most(dim) for dim in (1, 2**16, 2**16 + 1)] == [64, 64, 1]
    assert by_size.run(Work(None, lambda theta, task: (theta,), [], [], Setting.stack)) == []
    assert [by_size.noised(dim) for dim in (1, 2**15, 2**15 + 1)] == [64, 64, 1]
    convolves = AUTO.on("cpu", nn.Sequential(FLAT, nn.Conv1d(1, 1, 3)))
    assert [convolves.most(dim) for dim in (1, 2**16)] == [1, 1]
    assert [convolves.noised(dim) for dim in (1, 2**15, 2**15 + 1)] == [64, 64, 1]
    gpu = AUTO.on("cuda:0", nn.Conv2d(1, 1, 3))
    assert isinstance(gpu, Batched)
    assert (gpu.graphs, gpu.chunk) == (True, 64)
    for loop in (TasksAtOnce("loop").on(where, FLAT) for where in ("cpu", "cuda")):
        assert isinstance(loop, OneByOne)
        assert (loop.most(1), loop.noised(1)) == (1, 1)
    cpu = TasksAtOnce("batched", 8).on("cpu", nn.Conv2d(1, 1, 3))
    assert isinstance(cpu, Batched)
    assert (cpu.graphs, cpu.chunk) == (False, 8)
    beside = [TasksAtOnce(way).beside("cpu") for way in ("auto", "loop", "batched")]
    assert (beside, AUTO.beside("cuda")) == ([1, 1, 64], 64)


# ------------------------------------------------------------------------------ on a GPU


@CUDA
@every_update
def test_a_gpu_gives_what_a_cpu_gives(name: str, case: str) -> None:
    """In float64, by a CUDA graph where the learner draws nothing, and again at another theta."""
    learner, at_once, spec = ALL[name], Batched(4, graphs=True), CASES[case]
    gpu, cpu = Setting(*spec, "cuda", at_once), Setting(*spec)
    for factor in (1.0, 0.5):
        theta = start(cpu, learner) * factor

        def delta(setting: Setting, theta: Tensor) -> Tensor:
            rng = np.random.default_rng(5)
            return learner.update(setting, theta, tasks_of(case), OpenSession(), rng).delta.cpu()

        found, alone = delta(gpu, theta.cuda()), delta(cpu, theta)
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-11)
    graphs = [type(program).__name__ for program in at_once._graphs._captured.values()]
    rolled = name in {"reptile in batches", "fedavg", "local"} or "local rate" in name
    assert graphs == ([] if rolled else ["_Graph", "_Graph"])


@CUDA
@pytest.mark.parametrize("case", CASES)
def test_graphs_that_take_turns_keep_to_their_own_results(case: str) -> None:
    """They share one memory: two learners' graphs, replayed in turn at two thetas."""
    at_once, spec = Batched(4, graphs=True), CASES[case]
    gpu, cpu, tasks = Setting(*spec, "cuda", at_once), Setting(*spec), tasks_of(case)[::2]
    learners, found = (ALL["fomaml"], ALL["maml"]), list[Tensor]()
    thetas = [start(cpu, learners[0]) * factor for factor in (1.0, 0.5)]

    def delta(setting: Setting, learner: Algorithm, theta: Tensor) -> Tensor:
        rng = np.random.default_rng(5)
        return learner.update(setting, theta, tasks, OpenSession(), rng).delta

    turns = [(learner, theta) for _ in range(3) for theta in thetas for learner in learners]
    for learner, theta in turns:
        found.append(delta(gpu, learner, theta.cuda()))
    for (learner, theta), one in zip(turns, found, strict=True):
        torch.testing.assert_close(one.cpu(), delta(cpu, learner, theta), rtol=1e-9, atol=1e-11)
    graphs = [type(program).__name__ for program in at_once._graphs._captured.values()]
    assert graphs == ["_Graph"] * 4


@CUDA
def test_further_graphs_take_no_further_memory() -> None:
    """A program that holds 128 MB on its way, captured for four keys."""
    at_once, setting = Batched(4, graphs=True), Setting(*CASES["mlp"], "cuda")

    def program(theta: Tensor, task: Task) -> tuple[Tensor, ...]:
        wide = theta[:, :1].expand(-1, 2**23) + 1  # of doubles, for two tasks
        return (wide.mean(dim=1, keepdim=True),)

    points, tasks = [torch.ones(3, device="cuda").double()] * 2, tasks_of("mlp")[2:4]
    held = list[int]()
    for key in "abcd":
        found = at_once.run(Work(key, program, points, tasks, setting.stack))
        assert [value.tolist() for (value,) in found] == [[2.0]] * 2
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert held[-1] - held[0] < 2**26


@CUDA
def test_a_program_that_cannot_be_captured_is_computed_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here, because it looks at a value on the way."""
    at_once, setting = Batched(4, graphs=True), Setting(*CASES["mlp"], "cuda")

    def program(theta: Tensor, task: Task) -> tuple[Tensor, ...]:
        return (theta * float(theta.sum()),)

    points = [torch.ones(3, device="cuda")] * 5
    for _ in range(2):
        found = at_once.run(Work("key", program, points, tasks_of("mlp"), setting.stack))
        # groups of three and of two tasks, filled to 4 and 2, of three coordinates each
        assert [value.tolist() for (value,) in found] == [[n] * 3 for n in (12, 6, 12, 12, 6)]
    assert "no CUDA graph" in caplog.text


def test_episodes_are_drawn_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and none lost; one that is larger than the limit comes alone."""
    tasks = [*episodes(records(CASES["mlp"][1], 1)) * 2, *episodes(records(CASES["mlp"][1], 2))][:5]
    size = tasks[0].support_x.nbytes + tasks[0].query_x.nbytes
    cases = ((10**9, 2, [2, 2, 1]), (3 * size, 64, [3, 2]), (size, 64, [1] * 5), (1, 64, [1] * 5))
    for limit, most, parts in cases:
        monkeypatch.setattr(judging, "HELD", limit)
        found = list(judging.parts(iter(tasks), most))
        assert [len(part) for part in found] == parts
        assert [e for part in found for e in part] == tasks
