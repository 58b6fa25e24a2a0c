"""Server optimisers as pure functions: ``init`` gives the state, ``step`` moves theta.

``combined`` is the direction theta should move in (Reptile's mean(phi) - theta, or minus a
meta-gradient), so every step adds. Reptile's own outer step is ``sgd``: theta + eps * combined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Vector = NDArray[np.float32]
State = dict[str, Vector]

Rate = Annotated[float, Field(gt=0, le=100)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Outer(Protocol):
    """An entry of ``OUTER``: a frozen dataclass whose fields are its yaml options."""

    def init(self, theta: Vector) -> State:
        """The optimiser's state (named vectors) before the first round."""
        ...

    def step(
        self, theta: Vector, combined: Vector, state: State, at: float
    ) -> tuple[Vector, State]:
        """The next theta (dim,) and state; ``at`` in [0, 1) is the finished share of the run."""
        ...


@dataclass(frozen=True)
class Settling:
    """The optimiser of a run in whose first round hospitals estimate something, and do not descend.

    ``settle`` (theta, combined) gives theta after that round; ``outer`` makes all later steps.
    """

    settle: Callable[[Vector, Vector], Vector]
    outer: Outer

    def init(self, theta: Vector) -> State:
        """The state of ``outer``."""
        return self.outer.init(theta)

    def step(
        self, theta: Vector, combined: Vector, state: State, at: float
    ) -> tuple[Vector, State]:
        """The settled theta in the first round, then steps of ``outer``."""
        if at == 0:
            return self.settle(theta, combined), state
        return self.outer.step(theta, combined, state, at)


@dataclass(frozen=True)
class Scheduled:
    """The outer step size eps: ``lr`` at the start, ``final_lr`` at the end of the run.

    ``schedule`` says how it goes from one to the other: ``linear``, by half a ``cosine`` wave, or
    not at all (``constant``).
    """

    lr: Rate = 1.0
    """The outer step size eps at the start of the run."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the step size goes from `lr` to `final_lr`: not at all, linearly, or by half a cosine
    wave."""
    final_lr: Annotated[float, Field(ge=0, le=100)] = 0.0
    """The step size at the end of the run, for schedules other than `constant`."""

    def rate(self, at: float) -> float:
        """eps when the share ``at`` of the run is finished."""
        if self.schedule == "constant":
            return self.lr
        left = 1 - at if self.schedule == "linear" else (1 + cos(pi * at)) / 2
        return self.final_lr + (self.lr - self.final_lr) * left


@dataclass(frozen=True)
class Sgd(Scheduled):
    """theta + eps * combined."""

    def init(self, theta: Vector) -> State:
        """No state."""
        return {}

    def step(
        self, theta: Vector, combined: Vector, state: State, at: float
    ) -> tuple[Vector, State]:
        """theta + eps * combined."""
        return theta + np.float32(self.rate(at)) * combined, {}


@dataclass(frozen=True)
class Momentum(Scheduled):
    """Heavy-ball momentum (Polyak 1964): v <- beta v + combined; theta + eps * v."""

    beta: Decay = 0.9
    """The share of the velocity that is kept from round to round."""

    def init(self, theta: Vector) -> State:
        """Velocity 0."""
        return {"velocity": np.zeros_like(theta)}

    def step(
        self, theta: Vector, combined: Vector, state: State, at: float
    ) -> tuple[Vector, State]:
        """theta + eps * v."""
        velocity = np.float32(self.beta) * state["velocity"] + combined
        return theta + np.float32(self.rate(at)) * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class Adam(Scheduled):
    """Adam (Kingma, Ba 2015: Adam: A Method for Stochastic Optimization), bias-corrected.

    ``beta1`` and ``beta2`` are the decay rates of the two moments, ``epsilon`` is added to the
    root of the second.
    """

    lr: Rate = 0.001
    """The outer step size eps at the start of the run."""
    beta1: Decay = 0.9
    """The decay rate of the first moment."""
    beta2: Decay = 0.999
    """The decay rate of the second moment."""
    epsilon: Rate = 1e-8
    """What is added to the root of the second moment."""

    def init(self, theta: Vector) -> State:
        """Both moments 0, no steps taken."""
        zero = np.zeros_like(theta)
        return {"first": zero, "second": zero, "steps": np.zeros(1, np.float32)}

    def step(
        self, theta: Vector, combined: Vector, state: State, at: float
    ) -> tuple[Vector, State]:
        """theta + eps * m_hat / (sqrt(v_hat) + epsilon)."""
        steps = state["steps"] + np.float32(1)
        t = int(steps[0])
        first = np.float32(self.beta1) * state["first"] + np.float32(1 - self.beta1) * combined
        square = combined * combined
        second = np.float32(self.beta2) * state["second"] + np.float32(1 - self.beta2) * square
        m = first / np.float32(1 - self.beta1**t)
        v = second / np.float32(1 - self.beta2**t)
        move = np.float32(self.rate(at)) * m / (np.sqrt(v) + np.float32(self.epsilon))
        return np.asarray(theta + move, np.float32), {
            "first": first,
            "second": second,
            "steps": steps,
        }
