"""A hospital's own policy: the most a run may ask of it, decided before a record is computed on.

The file belongs to the hospital; its path comes from the hospital's node config, never from the
server. A request outside it is refused as a whole, never clamped to fit: a clamped request would be
another computation than the one that was agreed on. Without a readable policy there is no
participation. No key allows seeded noise: a hospital's noise is the operating system's, always.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeGuard

from pydantic import Field

from metaward.errors import BAD_INPUT, MetawardError
from metaward.options import ConfigError, build, plain
from metaward.privacy.event import Budget
from metaward.yaml_text import read_yaml

POLICY_CODES = frozenset(
    {
        "policy-clip",
        "policy-hospital",
        "policy-mechanism",
        "policy-metric",
        "policy-missing",
        "policy-noise",
        "policy-plugin",
        "policy-purpose",
        "policy-rounds",
        "policy-steps",
        "policy-tasks",
        "policy-unreadable",
    }
)

PLUGIN = r"^(source|network|algorithm|mechanism):[a-z][a-z0-9_]*$"

SMALLEST_CLIP = 1e-6
LARGEST_NOISE = 65535.0
"""Norms below and multipliers above say nothing useful, and float32 updates start to lose them."""

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class PolicyError(MetawardError):
    """A request outside the policy. ``code`` may leave the hospital; ``reason`` stays there.

    The code is one of ``POLICY_CODES``. The reason names the value, the limit and the key that sets
    it; it is for the hospital's own log and ledger.
    """

    exit_code = BAD_INPUT

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Asked:
    """What a request asks for, as the hospital reads it from the request itself.

    ``noise_multiplier`` is the smallest that would be used, ``clip`` the largest norm; both None
    under mechanism ``none``. ``steps`` are inner steps T of a task, ``tasks`` those of the round
    (``evaluate``: its episodes), ``rounds`` the whole run's and ``round`` the present one, from 0.
    ``metrics`` names every number that would leave besides the update: ``loss`` in training; in
    evaluation the scores of the kind of task, at least one. ``attend`` asks for the public seat
    alone.
    """

    purpose: Literal["train", "evaluate", "attend"]
    hospital: str
    mechanism: str
    rounds: int
    round: int = 0
    tasks: int = 0
    steps: int = 0
    noise_multiplier: float | None = None
    clip: float | None = None
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """What a hospital allows. Every key must stand in the file: nothing is allowed by a default.

    ``hospital``: the only name under which it takes part (null: any). ``mechanisms``: whose runs it
    takes part in. ``epsilon`` at ``delta``: the most that any one protected unit may ever spend,
    over all runs; the ledger keeps to it. ``noise_multiplier`` is a floor. ``clip`` (a norm),
    ``steps`` (inner, of a task), ``tasks`` (of a round), ``rounds`` (of a run) and ``episodes`` (of
    one evaluation) are caps. ``train`` and ``evaluate``: what it does at all. ``metrics``: the
    scores that an evaluation may send; no epsilon covers them. ``loss``: whether the mean training
    loss may leave.

    The numbers of a guarantee are null exactly where ``mechanisms`` is ``[none]``.
    """

    hospital: Annotated[str, Field(min_length=1, max_length=200)] | None
    """The only name under which the hospital takes part; null: any."""
    mechanisms: tuple[Literal["none", "record", "patient", "task", "hospital"], ...]
    """The mechanisms whose runs the hospital takes part in."""
    epsilon: Annotated[float, Field(gt=0, le=20)] | None
    """The most that any one protected unit may ever spend, over all runs; null exactly where
    `mechanisms` is `[none]`, as for the next three keys."""
    delta: Annotated[float, Field(ge=1e-12, le=1e-3)] | None
    """The delta at which this epsilon holds."""
    noise_multiplier: Annotated[float, Field(gt=0, le=LARGEST_NOISE)] | None
    """The smallest noise multiplier that a run may use."""
    clip: Annotated[float, Field(ge=SMALLEST_CLIP, le=1e6)] | None
    """The largest clip norm that a run may use."""
    train: bool
    """Whether the hospital trains."""
    steps: Positive
    """The most inner steps of a task."""
    tasks: Positive
    """The most tasks of a round."""
    rounds: Positive
    """The most rounds of a run."""
    evaluate: bool
    """Whether the hospital judges; no epsilon covers the scores that it sends."""
    episodes: Natural
    """The most tasks of one evaluation."""
    metrics: tuple[str, ...]
    """The scores that an evaluation may send, by the names that the kinds of task give them."""
    loss: bool
    """Whether the mean training loss may leave; only under mechanism `none`."""
    plugins: tuple[Annotated[str, Field(pattern=PLUGIN)], ...]
    """The plug-ins that the hospital runs, each as `network:NAME`, `algorithm:NAME`, `source:NAME`
    or `mechanism:NAME`. Parts that come with metaward are none."""

    def __post_init__(self) -> None:
        faults = [*self._guarantee_faults(), *self._evaluation_faults()]
        if faults:
            raise ValueError("; ".join(faults))

    # ------------------------------------------------------------------------------ the file

    @classmethod
    def read(cls, path: Path, scores: Collection[str]) -> Policy:
        """The policy in a yaml file; ``scores`` are the names that ``metrics`` may hold.

        ``ConfigError`` names each key and value that is wrong; ``PolicyError`` where there is no
        file (``policy-missing``) or it cannot be opened (``policy-unreadable``).
        """
        faults: list[str] = []
        policy: Policy | None = build(cls, read_yaml(_bytes(path), str(path)), "", faults)
        if policy is not None:
            faults += _unknown(policy.metrics, scores)
        if policy is None or faults:
            raise ConfigError(faults, str(path))
        return policy

    @classmethod
    def open(cls, path: Path | None, scores: Collection[str]) -> Policy:
        """As ``read``, for a hospital at work: every fault is a ``PolicyError``, so none opens it.

        None: the node config names no policy.
        """
        if path is None:
            text = 'no policy is named; add policy="/path/to/policy.yaml" to this node\'s config'
            raise PolicyError("policy-missing", text)
        try:
            return cls.read(path, scores)
        except ConfigError as error:
            raise PolicyError("policy-unreadable", str(error)) from error

    def digest(self) -> str:
        """SHA-256 of what the policy says, in hex: equal for files that differ in comments only."""
        return hashlib.sha256(json.dumps(plain(self), sort_keys=True).encode()).hexdigest()

    def budget(self) -> Budget | None:
        """The cap for any one protected unit; None under mechanism ``none``, which has no price."""
        if self.epsilon is None or self.delta is None:
            return None
        return Budget(self.epsilon, self.delta)

    # -------------------------------------------------------------------------- the decision

    def admit(self, asked: Asked) -> None:
        """Nothing where all that is asked is allowed; ``PolicyError`` at the first that is not.

        A value that is no sane number (NaN, negative, zero steps) is refused under its own code.
        """
        self._admit_run(asked)
        if asked.purpose == "train":
            self._admit_training(asked)
        if asked.purpose == "evaluate":
            self._admit_evaluation(asked)

    def admit_plugins(self, names: Iterable[str]) -> None:
        """Nothing where all of these plug-ins are allowed; ``PolicyError`` at the first that is
        not. Asked before any of their code is loaded."""
        for name in names:
            if name not in self.plugins:
                limit = ", ".join(self.plugins) or "none"
                raise _refused("policy-plugin", "plugin", name, limit, "plugins")

    def _admit_run(self, asked: Asked) -> None:
        does = {"train": self.train, "evaluate": self.evaluate, "attend": True}
        if self.hospital is not None and asked.hospital != self.hospital:
            raise _refused("policy-hospital", "hospital", asked.hospital, self.hospital)
        if not does.get(asked.purpose, False) or not (self.train or self.evaluate):
            allowed = ", ".join(f"{key}: {does[key]}".lower() for key in ("train", "evaluate"))
            raise _refused("policy-purpose", "purpose", asked.purpose, allowed, "train, evaluate")
        if asked.mechanism not in self.mechanisms:
            limit = ", ".join(self.mechanisms)
            raise _refused("policy-mechanism", "mechanism", asked.mechanism, limit, "mechanisms")
        _whole("policy-rounds", "rounds", asked.rounds, 1, self.rounds)
        _whole("policy-rounds", "round", asked.round, 0, asked.rounds, "rounds")

    def _admit_training(self, asked: Asked) -> None:
        noise, clip = asked.noise_multiplier, asked.clip
        _real("policy-noise", "noise_multiplier", noise, self.noise_multiplier, LARGEST_NOISE)
        _real("policy-clip", "clip", clip, SMALLEST_CLIP, self.clip)
        _whole("policy-steps", "steps", asked.steps, 1, self.steps)
        _whole("policy-tasks", "tasks", asked.tasks, 1, self.tasks)
        _named("loss", asked.metrics, ("loss",) if self.loss else ())

    def _admit_evaluation(self, asked: Asked) -> None:
        _whole("policy-tasks", "episodes", asked.tasks, 1, self.episodes)
        if not asked.metrics:
            raise _refused("policy-metric", "metrics", (), self.metrics)
        _named("metrics", asked.metrics, self.metrics)

    # ---------------------------------------------------------------- rules between the keys

    def _guarantee_faults(self) -> Iterator[str]:
        numbers = {key: getattr(self, key) for key in _GUARANTEE}
        if not self.mechanisms:
            yield "mechanisms: [] allows no run; to take part in none, set train, evaluate to false"
        elif self.mechanisms == ("none",):
            given = {key: value for key, value in numbers.items() if value is not None}
            yield from (
                f"{k}: {v} promises nothing under none; write null" for k, v in given.items()
            )
        elif "none" in self.mechanisms:
            yield "mechanisms: none beside others would void their epsilon; let it stand alone"
        else:
            missing = [key for key, value in numbers.items() if value is None]
            yield from (f"{key}: null is no limit; give a number" for key in missing)
        if self.loss and self.mechanisms != ("none",):
            yield "loss: true needs mechanisms: [none]; no epsilon covers the training loss"

    def _evaluation_faults(self) -> Iterator[str]:
        for key, given in (("episodes", self.episodes), ("metrics", list(self.metrics))):
            if self.evaluate and not given:
                yield f"{key}: {given} leaves evaluate: true nothing to send; give some"
            if given and not self.evaluate:
                yield f"{key}: {given} needs evaluate: true"


_GUARANTEE = ("epsilon", "delta", "noise_multiplier", "clip")


def _unknown(metrics: Iterable[str], scores: Collection[str]) -> Iterator[str]:
    """Faults for names that no kind of task knows."""
    known = " or ".join(repr(name) for name in sorted(scores))
    for place, name in enumerate(metrics):
        if name not in scores:
            yield f"metrics[{place}]: {name!r} is refused: must be {known}"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        text = f"{path}: there is no such file; write one (policies/ holds examples)"
        raise PolicyError("policy-missing", text) from error
    except OSError as error:
        text = f"{path}: cannot be read ({error.strerror}); look at its permissions"
        raise PolicyError("policy-unreadable", text) from error


def _refused(code: str, name: str, asked: object, allowed: object, key: str = "") -> PolicyError:
    """The server wrote what is asked: it is quoted and cut, so that it cannot forge log lines."""
    return PolicyError(
        code, f"{name}: {asked!r:.80} is asked, policy key {key or name} allows {allowed}"
    )


def _whole(code: str, name: str, asked: object, low: int, high: int, key: str = "") -> None:
    if not (type(asked) is int and low <= asked <= high):
        raise _refused(code, name, asked, f"{low} to {high}", key)


def _real(code: str, key: str, asked: object, low: float | None, high: float | None) -> None:
    """A null limit is mechanism ``none``'s: there must be nothing to limit. NaN is in no range."""
    if low is None or high is None:
        if asked is not None:
            raise _refused(code, key, asked, "null only, as under mechanism none")
    elif not (_number(asked) and low <= asked <= high):
        raise _refused(code, key, asked, f"{low} to {high}")


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _named(key: str, asked: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    for name in asked:
        if name not in allowed:
            raise _refused("policy-metric", "metrics", name, ", ".join(allowed) or "none", key)
