"""What every kind of task must keep, and what its scores say."""

import pickle

import numpy as np
import pytest
import torch
from torch.func import grad, vmap
from torch.nn import functional

from metaward.client.scores import known_scores
from metaward.client.tasks.base import TaskSize, TaskSpec
from metaward.client.tasks.kinds import (
    ACCURACY,
    KINDS,
    MEAN_SQUARED_ERROR,
    Labels,
    Score,
    TaskKind,
)
from metaward.client.tasks.made_up import blank_tasks, random_tasks

N = 12


# ------------------------------------------------- a kind whose labels are as large as images


def pixel_losses(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every pixel, logits (n, N, h, w) and masks (n, h, w), its mean (n,)."""
    return functional.cross_entropy(logits, masks, reduction="none").mean(dim=(1, 2))


def overlap(logits: torch.Tensor, masks: torch.Tensor) -> tuple[float, float]:
    """Pixels where something is found in both, and in either."""
    found, there = logits.argmax(dim=1) > 0, masks > 0
    return float((found & there).sum()), float((found | there).sum())


def dice(logits: torch.Tensor, masks: torch.Tensor) -> float:
    both, either = overlap(logits, masks)
    return 2 * both / (either + both)


def intersection_over_union(logits: torch.Tensor, masks: torch.Tensor) -> float:
    both, either = overlap(logits, masks)
    return both / either


def empty_masks(spec: TaskSpec, n: int) -> Labels:
    return np.zeros((n, *spec.input_shape[1:]), np.int64)


def random_masks(spec: TaskSpec, n: int, generator: np.random.Generator) -> Labels:
    return generator.integers(0, spec.outputs, (n, *spec.input_shape[1:]))


def sure_of_masks(spec: TaskSpec, masks: torch.Tensor) -> torch.Tensor:
    return functional.one_hot(masks, spec.outputs).movedim(-1, 1).float()


SEGMENTATION = TaskKind(
    "segmentation",
    classes=False,
    losses=pixel_losses,
    scores=(
        Score("dice", "Dice, %", dice, True, 0, 1, scale=100, digits=1),
        Score("iou", "intersection over union, %", intersection_over_union, True, 0, 1, 100, 1),
    ),
    blank=empty_masks,
    random=random_masks,
    certain=sure_of_masks,
)
ALL = {**KINDS, SEGMENTATION.name: SEGMENTATION}
every_kind = pytest.mark.parametrize("kind", ALL.values(), ids=list(ALL))

# ------------------------------------------------------------------------------ the contract


def spec_of(kind: TaskKind) -> TaskSpec:
    return TaskSpec(kind, (1, 4, 5), 3, 3 if kind.classes else 0, False)


def answered(kind: TaskKind) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels, outputs that are sure of them, and outputs that know nothing, both of one shape."""
    labels = torch.from_numpy(kind.random(spec_of(kind), N, np.random.default_rng(3)))
    right = kind.certain(spec_of(kind), labels)
    return labels, right, torch.randn(right.shape, generator=torch.Generator().manual_seed(1))


@every_kind
def test_names_tell_kinds_and_scores_apart(kind: TaskKind) -> None:
    assert ALL[kind.name] is kind
    assert kind.scores, "an evaluation without a score says nothing"
    assert len(set(kind.score_names)) == len(kind.scores)
    assert "loss" not in kind.score_names, "a policy calls the training loss so"
    same_name = [s for other in ALL.values() for s in other.scores if s.name in kind.score_names]
    assert set(same_name) == set(kind.scores), "one name is one score, whatever the kind"


@every_kind
def test_labels_that_no_record_has(kind: TaskKind) -> None:
    spec = spec_of(kind)
    blank, made = kind.blank(spec, N), kind.random(spec, N, np.random.default_rng(3))
    assert len(blank) == len(made) == N
    assert (blank.shape, blank.dtype) == (made.shape, made.dtype)
    np.testing.assert_array_equal(made, kind.random(spec, N, np.random.default_rng(3)))
    if kind.classes:
        assert (blank.dtype, blank.shape) == (np.int64, (N,))
        assert np.bincount(blank, minlength=spec.outputs).tolist() == [N // spec.outputs] * 3
        assert set(made.tolist()) == set(range(spec.outputs))


@every_kind
def test_a_loss_for_each_record_that_can_be_mapped_and_differentiated(kind: TaskKind) -> None:
    labels, right, noise = answered(kind)
    losses = kind.losses(noise, labels)
    assert losses.shape == (N,)
    assert torch.isfinite(losses).all()
    assert kind.losses(right, labels).mean() < losses.mean()

    def one(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return kind.losses(output[None], label[None])[0]

    torch.testing.assert_close(vmap(one)(noise, labels), losses)
    slopes = vmap(grad(one))(noise, labels)
    assert slopes.shape == noise.shape
    assert slopes.abs().sum() > 0


@every_kind
def test_who_is_sure_of_the_labels_has_the_best_score(kind: TaskKind) -> None:
    labels, right, noise = answered(kind)
    for score, best, worse in zip(
        kind.scores, kind.measure(right, labels), kind.measure(noise, labels), strict=True
    ):
        assert best == (score.highest if score.higher_is_better else score.lowest)
        assert score.advantage(best, worse) > 0
        assert score.worst({"noise": worse, "right": best}) == "noise"
        assert score.lowest <= worse <= score.highest


@every_kind
def test_a_kind_can_be_sent_to_another_process(kind: TaskKind) -> None:
    assert pickle.loads(pickle.dumps(kind)) == kind


@every_kind
def test_tasks_without_records(kind: TaskKind) -> None:
    spec, size = spec_of(kind), TaskSize(6, 9)
    blank = blank_tasks(spec, size, 2)
    noise = random_tasks(spec, size, 2, np.random.default_rng(7))
    again = random_tasks(spec, size, 2, np.random.default_rng(7))
    for tasks in (blank, noise):
        rows = np.concatenate([[*t.support_rows, *t.query_rows] for t in tasks])
        assert rows.tolist() == list(range(2 * size.records))
        for task in tasks:
            assert task.support_x.shape == (6, *spec.input_shape)
            assert (len(task.support_y), len(task.query_x), len(task.query_y)) == (6, 9, 9)
            assert task.support_x.dtype == np.float32
            assert len(task.classes) == spec.classes
    assert not any(task.support_x.any() for task in blank)
    assert [t.query_x.tobytes() for t in noise] == [t.query_x.tobytes() for t in again]
    assert noise[0].support_x.tobytes() != noise[1].support_x.tobytes()


def test_scores_by_hand() -> None:
    """Logits that favour classes 1, 0, 1, 1 of labels 1, 0, 0, 1: three of four. Errors 1, 0, 2."""
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
    assert ACCURACY.measure(logits, torch.tensor([1, 0, 0, 1])) == 0.75
    targets = torch.tensor([[1.0], [2.0], [3.0]])
    found = MEAN_SQUARED_ERROR.measure(torch.tensor([[2.0], [2.0], [1.0]]), targets)
    assert found == pytest.approx(5 / 3)


def test_scores_as_people_read_them() -> None:
    assert (ACCURACY.text(0.8768), ACCURACY.signed(0.05)) == ("87.7", "+5.0")
    error = MEAN_SQUARED_ERROR
    assert (error.text(0.8768), error.signed(-0.05)) == ("0.877", "-0.050")
    assert ACCURACY.worst({"a": 0.5, "b": 0.25, "c": 0.25}) == "b"
    assert MEAN_SQUARED_ERROR.worst({"a": 0.5, "b": 0.75}) == "b"
    assert known_scores() >= {"accuracy", "mse"}
