"""A hospital's own policy: the most a run may ask of it, decided before a record is computed on.

The file belongs to the hospital; its path comes from the hospital's node config, never from the
server. A request outside it is refused as a whole, never clamped to fit: a clamped request would be
another computation than the one that was agreed on. Without a readable policy a hospital takes no
part. No key allows seeded noise: a hospital's noise always comes from the operating system.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from metaward.options import ConfigError, Named, build
from metaward.privacy.asked import Asked, PolicyError, listed, real, refused, whole
from metaward.privacy.event import Budget
from metaward.privacy.mechanisms import MECHANISMS
from metaward.privacy.units import UNITS, UnitName
from metaward.yaml_text import read_yaml

PLUGIN = r"^(source|network|algorithm|mechanism|function|metric):[a-z][a-z0-9_]*$"

SMALLEST_CLIP = 1e-6
LARGEST_NOISE = 65535.0
"""Smaller norms and larger multipliers are useless, and float32 updates begin to lose precision."""

HINTS = {
    "sampling_rate: missing": "; write 1.0, which refuses every run that draws records in secret, "
    "or the smallest rate that is allowed; null where units is [none]"
}
"""What to write for a key that older files lack."""

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Policy:
    """What a hospital allows. Every key must be in the file: nothing is allowed by a default.

    The numbers of a guarantee are null exactly where ``units`` is ``[none]``. The ledger enforces
    ``epsilon`` at ``delta`` over all runs; ``noise_multiplier`` and ``sampling_rate`` are minima,
    all other numbers are maxima.
    """

    hospital: Annotated[str, Field(min_length=1, max_length=200)] | None
    """The only name under which the hospital takes part; null: any."""
    mechanisms: tuple[Annotated[str, Named(MECHANISMS)], ...]
    """The mechanisms of metaward's own whose runs the hospital takes part in."""
    units: tuple[UnitName, ...]
    """The units of protection whose runs the hospital takes part in."""
    epsilon: Annotated[float, Field(gt=0, le=20)] | None
    """The most that any one protected unit may ever spend, over all runs; null exactly where
    `units` is `[none]`, as for the next four keys."""
    delta: Annotated[float, Field(ge=1e-12, le=1e-3)] | None
    """The delta at which this epsilon holds."""
    noise_multiplier: Annotated[float, Field(gt=0, le=LARGEST_NOISE)] | None
    """The smallest noise multiplier that a run may use."""
    clip: Annotated[float, Field(ge=SMALLEST_CLIP, le=1e6)] | None
    """The largest clip norm that a run may use."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)] | None
    """The smallest sampling rate that a run may use; below 1 its guarantee rests on a secret draw
    of the units before every sum, so 1 refuses all such runs."""
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
    """Whether the mean training loss may leave; only where `units` is `[none]`."""
    plugins: tuple[Annotated[str, Field(pattern=PLUGIN)], ...]
    """The plug-ins that the hospital runs, each as `network:NAME`, `algorithm:NAME`, `source:NAME`,
    `mechanism:NAME`, `function:NAME` (a loss) or `metric:NAME`. Parts that come with metaward are
    none."""

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
        faults = [fault + HINTS.get(fault, "") for fault in faults]
        known = " or ".join(repr(name) for name in sorted(scores))
        for place, name in enumerate(policy.metrics if policy else ()):
            if name not in scores:
                faults.append(f"metrics[{place}]: {name!r} is refused: must be {known}")
        if policy is None or faults:
            raise ConfigError(faults, str(path))
        return policy

    @classmethod
    def open(cls, path: Path | None, scores: Collection[str]) -> Policy:
        """As ``read``, for a hospital at work: every fault is a ``PolicyError``, a refusal.

        ``path`` is None where the node config names no policy.
        """
        if path is None:
            text = 'no policy is named; add policy="/path/to/policy.yaml" to this node\'s config'
            raise PolicyError("policy-missing", text)
        try:
            return cls.read(path, scores)
        except ConfigError as error:
            raise PolicyError("policy-unreadable", str(error)) from error

    def budget(self) -> Budget | None:
        """The cap for any one protected unit; None where nothing is protected."""
        if self.epsilon is None or self.delta is None:
            return None
        return Budget(self.epsilon, self.delta)

    @property
    def mechanism_plugins(self) -> tuple[str, ...]:
        """The names of the mechanisms that do not come with metaward.

        Only when they are loaded is it known which units they protect.
        """
        prefix = "mechanism:"
        return tuple(p.removeprefix(prefix) for p in self.plugins if p.startswith(prefix))

    # -------------------------------------------------------------------------- the decision

    def admit(self, asked: Asked) -> None:
        """``PolicyError`` for the first thing that is asked and not allowed.

        An impossible number (NaN, negative, zero steps) is refused with the code of its key.
        """
        self._admit_run(asked)
        if asked.purpose == "train":
            self._admit_training(asked)
        if asked.purpose == "evaluate":
            self._admit_evaluation(asked)

    def admit_plugins(self, names: Iterable[str]) -> None:
        """``PolicyError`` for the first plug-in that is not allowed, before its code is loaded."""
        for name in names:
            listed("policy-plugin", "plugin", name, self.plugins, "plugins")

    def _admit_run(self, asked: Asked) -> None:
        does = {"train": self.train, "evaluate": self.evaluate, "attend": True}
        mechanisms = (*self.mechanisms, *self.mechanism_plugins)
        if self.hospital is not None:
            listed("policy-hospital", "hospital", asked.hospital, (self.hospital,))
        if not does.get(asked.purpose, False) or not (self.train or self.evaluate):
            allowed = ", ".join(f"{key}: {does[key]}".lower() for key in ("train", "evaluate"))
            raise refused("policy-purpose", "purpose", asked.purpose, allowed, "train, evaluate")
        listed("policy-mechanism", "mechanism", asked.mechanism, mechanisms, "mechanisms")
        listed("policy-unit", "unit", asked.unit, self.units, "units")
        whole("policy-rounds", "rounds", asked.rounds, 1, self.rounds)
        whole("policy-rounds", "round", asked.round, 0, asked.rounds, "rounds")

    def _admit_training(self, asked: Asked) -> None:
        noise, clip = asked.noise_multiplier, asked.clip
        real("policy-noise", "noise_multiplier", noise, self.noise_multiplier, LARGEST_NOISE)
        real("policy-clip", "clip", clip, SMALLEST_CLIP, self.clip)
        least = self.sampling_rate or 1.0
        real("policy-sampling", "sampling_rate", asked.sampling_rate, least, 1.0)
        whole("policy-steps", "steps", asked.steps, 1, self.steps)
        whole("policy-tasks", "tasks", asked.tasks, 1, self.tasks)
        for name in asked.metrics:
            listed("policy-metric", "metrics", name, ("loss",) if self.loss else (), "loss")

    def _admit_evaluation(self, asked: Asked) -> None:
        whole("policy-tasks", "episodes", asked.tasks, 1, self.episodes)
        for name in asked.metrics or ((),):
            listed("policy-metric", "metrics", name, self.metrics)

    # ---------------------------------------------------------------- rules between the keys

    def _guarantee_faults(self) -> Iterator[str]:
        mechanisms = (*self.mechanisms, *self.mechanism_plugins)
        for key, names in (("mechanisms", mechanisms), ("units", self.units)):
            if not names:
                yield f"{key}: [] allows no run; to take part in none, set train, evaluate to false"
        protected = {UNITS[name].protected for name in self.units}
        if len(protected) > 1:
            yield "units: none beside others would void their epsilon; name it alone"
        elif protected:
            yield from self._number_faults(*protected)
        if self.units:
            yield from self._pair_faults()
        if self.loss and protected != {False}:
            yield "loss: true needs units: [none]; no epsilon covers the training loss"

    def _number_faults(self, protected: bool) -> Iterator[str]:
        """There are numbers of a guarantee exactly where there is a guarantee."""
        for key in ("epsilon", "delta", "noise_multiplier", "clip", "sampling_rate"):
            value = getattr(self, key)
            if protected and value is None:
                yield f"{key}: null is no limit; give a number"
            if not protected and value is not None:
                yield f"{key}: {value} promises nothing for unit none; write null"

    def _pair_faults(self) -> Iterator[str]:
        """Mechanisms and units that no run under this policy could use."""
        for name in self.mechanisms:
            if not any(MECHANISMS[name].serves(UNITS[unit]) for unit in self.units):
                yield f"mechanisms: {name} protects none of {', '.join(self.units)}; take it out"
        for name in () if self.mechanism_plugins or not self.mechanisms else self.units:
            if not any(MECHANISMS[key].serves(UNITS[name]) for key in self.mechanisms):
                yield f"units: none of {', '.join(self.mechanisms)} protects {name}; take it out"

    def _evaluation_faults(self) -> Iterator[str]:
        for key, value in (("episodes", self.episodes), ("metrics", list(self.metrics))):
            if self.evaluate and not value:
                yield f"{key}: {value} leaves evaluate: true nothing to send; give some"
            if value and not self.evaluate:
                yield f"{key}: {value} needs evaluate: true"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        text = f"{path}: there is no such file; write one (policies/ holds examples)"
        raise PolicyError("policy-missing", text) from error
    except OSError as error:
        text = f"{path}: cannot be read ({error.strerror}); look at its permissions"
        raise PolicyError("policy-unreadable", text) from error
