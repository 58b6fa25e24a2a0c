"""The sections of sim.yaml as types: each field is a key, and the text below it is its meaning.

Parts that can be exchanged (task source, network, learner, combiner, optimiser) are entries of the
registries of their folders; a part's keys are the fields of its dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from metaward.client.desk import LEARNER, LOSS, NETWORK, SOURCE, Positive
from metaward.client.inner import Algorithm, WarmUp
from metaward.client.inner.at_once import Way
from metaward.client.losses import Loss
from metaward.client.losses.weights import ClassWeights
from metaward.client.models import Architecture
from metaward.client.schedule import Order
from metaward.client.tasks.base import TaskSource
from metaward.options import Registry
from metaward.strategies import COMBINE, OUTER, Combine, Outer
from metaward.strategies.quorum import needed

Baseline = Literal[
    "no_privacy", "metric", "untrained", "scratch", "fedavg", "fedavg_names", "local", "centroid"
]
"""The names of ``BASELINES`` (server/baselines.py), which imports this file."""
ENGINES = {
    "inprocess": "metaward.server.engines.inprocess:run_inprocess",
    "flower": "metaward.server.engines.flower:run_flower",
}
"""The engines, each by the import path of its function, since engines import this file."""

if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[tuple(ENGINES)]
Natural = Annotated[int, Field(ge=0)]
RULE = Registry("rule", COMBINE)


@dataclass(frozen=True)
class Data:
    """The place of real data; ``root`` null means the environment's METAWARD_DATA, if any."""

    root: str | None = None
    """The folder of real data; null: the environment's METAWARD_DATA, if it is set."""


@dataclass(frozen=True)
class Client:
    """A hospital: its tasks, its network and inner loop, and how many tasks it works on per round.

    ``schedule``: ``random`` draws new tasks every round; ``passes`` goes through all records before
    any is used again, in disjoint tasks, as every guarantee requires.
    """

    tasks: Annotated[TaskSource, SOURCE]
    model: Annotated[Architecture, NETWORK]
    inner: Annotated[Algorithm, LEARNER]
    tasks_per_round: Positive = 4
    """The most tasks that a hospital works on in a round."""
    schedule: Order = "random"
    """`random` draws new tasks every round. `passes` goes through all records, in disjoint tasks,
    before any record is used again; every guarantee needs it."""
    warm_up: WarmUp | None = None
    """How the coordinates of a network's frame are learned in the first round; null: they are not,
    and the first round is like all others."""
    loss: Annotated[Loss | None, LOSS] = None
    """What learners minimise; null: the loss of the kind of task."""
    class_weights: ClassWeights = "none"
    """Factors of the losses of each class's records, for tasks in which labels mean the same
    everywhere; a class that is not named has 1. They are public, and clipping is unchanged.
    `inverse` is refused, with the reason."""


@dataclass(frozen=True)
class Strategies:
    """How the server combines updates and moves theta, and which replies it accepts."""

    combine: Annotated[Combine, RULE]
    outer: Annotated[Outer, Registry("optimizer", OUTER)]
    hospitals_per_round: Positive | None = None
    """How many training hospitals work in a round; null: all of them."""
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of these hospitals whose valid update a round needs; below it the run stops."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that a round waits for answers. A hospital that has not answered by then is left
    alone for five times as long before it is asked again, then for ten times, and so on."""
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    """How often a round below the quorum asks again, unchanged, those that did not answer; a
    hospital that had answered sends the same bytes again and pays nothing."""
    max_norm: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """An update with a larger norm is rejected. `auto`: what clip norm and noise let an honest
    update reach (units record, patient, task), the clip norm (unit hospital), or, where nothing is
    clipped, 10 times the median norm of the round's updates or of the rounds before, and 1000 at
    most. Where the server adds the noise (unit hospital) a number must not be below `clip_norm`:
    whether an update is rejected must not depend on it."""

    def needed(self, asked: int) -> int:
        """How many of a round's hospitals are the quorum."""
        return needed(self.quorum, asked)


@dataclass(frozen=True)
class FineTune:
    """How the baselines train and fine-tune: the run's learner's rate does not suit all of them.

    ``lr`` is the rate at the training hospitals and at the unseen ones; FedAvg takes ``steps``
    gradient steps of ``batch`` records (0: as many as a task has) for each of a round's tasks, in
    ``rounds`` rounds. A null takes the value of the run's learner.
    """

    lr: Annotated[float, Field(gt=0, le=100)] | None = None
    """The baselines' rate at training and at unseen hospitals; null: that of the run's learner."""
    steps: Positive | None = None
    """Gradient steps that FedAvg takes for each of a round's tasks; null: as the run's learner."""
    batch: Natural | None = None
    """Records of a mini-batch, 0 for as many as a task has; null: as the run's learner."""
    pull: Annotated[float, Field(ge=0, le=10_000)] = 0.1
    """How strongly the baseline `local` pulls each hospital's own model towards the mean of all."""
    rounds: Positive | None = None
    """Rounds in which the baselines are trained; null: as many as the run's."""


@dataclass(frozen=True)
class Evaluation:
    """When and how theta is evaluated at hospitals that do not train, which round's theta is the
    result, and with which baselines it is compared."""

    every: Positive = 10
    """Rounds between two evaluations, at the unseen hospitals and at those for validation."""
    episodes: Positive = 10
    """Tasks of each hospital in such an evaluation."""
    final_episodes: Positive = 100
    """Tasks of an unseen hospital in the final table."""
    keep: Literal["last", "best"] = "last"
    """The round whose theta is the result, of the run and of each trained baseline: `last`, or
    `best` by the mean main score after adaptation at the hospitals for validation
    (`client.tasks`)."""
    patience: Positive | None = None
    """With `keep: best`, training stops when its best round is this many evaluations old; null: it
    takes all rounds."""
    score: str | None = None
    """The score by which rounds and runs are compared, such as `auroc`; null: the first one of the
    kind of task, `accuracy` or `mse`."""
    metrics: tuple[str, ...] = ()
    """Further scores that judging hospitals send, such as `[balanced_accuracy, auroc]`; each has a
    table of its own."""
    judges: Literal["unseen", "validation"] = "unseen"
    """The hospitals that judge the result. With `validation` those set aside for it do so, and the
    unseen ones are never evaluated: settings can be compared without a look at them."""
    baselines: tuple[Baseline, ...] = ("scratch", "fedavg", "fedavg_names", "centroid")
    """The baselines that the run's learner is compared with."""
    scratch_steps: Natural = 0
    """Above 0: the table also has a fit from scratch with this number of adaptation steps."""
    fine_tune: FineTune = field(default_factory=FineTune)


@dataclass(frozen=True)
class Checkpoint:
    """How often the state is saved, and how many of the last ones are kept."""

    every: Positive = 5
    """Rounds between two checkpoints; under privacy every round is saved."""
    keep: Positive = 3
    """How many of the last checkpoints are kept."""


@dataclass(frozen=True)
class Flower:
    """Resources of one hospital in Flower's simulation runtime, and how long hospitals may take.

    Within ``startup_timeout`` seconds all hospitals must connect; for ``return_timeout`` seconds a
    round waits for a reconnected hospital to identify itself.
    """

    cpus: Positive = 1
    """CPU cores of one hospital in Flower's simulation."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """The share of a GPU of one hospital in Flower's simulation."""
    cluster: str | None = None
    """The head of a Ray cluster, as `host:port` or `auto`, on whose machines hospitals work; null:
    the environment's RAY_ADDRESS, and without it this machine alone. On a cluster Ray decides
    how many hospitals work at once, not `workers`, and each machine has its own METAWARD_DATA and
    METAWARD_DEVICE."""
    machines: Positive | None = None
    """How many machines of the cluster a run needs at its start; null: one is enough."""
    startup_timeout: Annotated[float, Field(gt=0)] = 180.0
    """Seconds within which all hospitals must connect."""
    return_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a round waits for a reconnected hospital to identify itself."""


@dataclass(frozen=True)
class Server:
    """The run: engine, rounds, workers, device, evaluation, checkpoints, result folder."""

    engine: EngineName = "inprocess"
    """How the run is simulated: in worker processes of this machine, or on Flower's runtime."""
    rounds: Positive = 100
    """Rounds of meta-training."""
    workers: Positive = 2
    """Worker processes of a simulation, one torch thread each."""
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """The device of the simulated hospitals. In a deployment each hospital sets its own."""
    inner: Way = "auto"
    """How simulated hospitals compute the inner loops of several tasks: `loop` one after the other,
    `batched` as one program of tensors, also those of hospitals that one worker simulates side by
    side, or `auto`: `batched` on a GPU, and on a CPU within a hospital for small networks: all but
    those with convolutions, and noised sums of these as well. `fused` is `loop` with compiled code
    for the gradients of network `conv` on a CPU: of images of 1 to 3 channels, `halve: pool`, a
    `width` of 16, 32, 48 or 64, and cross-entropy. It needs a C++ compiler, is built at its first
    use and kept in METAWARD_CACHE (by default metaward in the user's cache folder); where there is
    none, or for another network, the log says why, and `loop` it is. Exact MAML and the way back of
    Proto-MAML keep autograd. `auto` never chooses it, because results would differ in the last bits
    between machines with and without a compiler."""
    chunk: Positive = 64
    """The most tasks at once where inner loops are batched; lower it where memory runs out."""
    out: str = "results"
    """The folder in which a new result folder is made for each run."""
    start: str | None = None
    """A file from which the body starts, such as the `body.safetensors` of a run on public records;
    null: as the network draws it. The report names where it comes from."""
    events: tuple[Literal["tensorboard"], ...] = ()
    """Programs that draw metrics while a run goes on: `[tensorboard]` writes its event files into
    the result folder."""
    seats: tuple[str, ...] = ()
    """The public key of each hospital, as `ssh-ed25519 AAAA... NAME`: then only answers count that
    its owner has signed. `metaward deploy` fills it in; without keys, as in a simulation,
    signatures are not looked at."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Above 0: while a run goes on, its server offers metrics for Prometheus on this port, on
    loopback alone (`pip install 'metaward[prometheus]'`)."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    flower: Flower = field(default_factory=Flower)
