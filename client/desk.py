"""What a hospital is sent: the instructions for its work, and nothing of the server's own.

A request carries one desk as JSON. It says where the tasks come from, which network and learner
work on them, what protects the records, and for how many rounds. How updates are combined, where
files lie and which device computes is not in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from metaward.client.inner import ALGORITHMS, Algorithm, FirstRound, Setting, WarmUp
from metaward.client.losses import LOSSES, Loss, with_loss
from metaward.client.losses.own import as_loss
from metaward.client.losses.run import faults as loss_faults
from metaward.client.losses.weights import ClassWeights
from metaward.client.models import MODELS, Architecture, check_architecture
from metaward.client.models.own import as_architecture
from metaward.client.schedule import Order
from metaward.client.scores import asked_metrics, scored
from metaward.client.scores.known import faults as score_faults
from metaward.client.tasks import TASKS
from metaward.client.tasks.arrays import as_source
from metaward.client.tasks.base import TaskSource, TaskSpec
from metaward.json_text import read_json
from metaward.options import ConfigError, Registry, build, compact, hints_of, plain, registry_of
from metaward.plugins import Plugins, of_protocol
from metaward.privacy import MECHANISMS, UNITS, Mechanism
from metaward.privacy.mechanisms import serving


def as_mechanism(name: str, thing: Any) -> type[Any]:
    """The registry entry for a class that has all of ``Mechanism``.
    Its own ``name`` must be this one, because policies, ledgers and reports read the name from the
    class. ``TypeError`` where it differs.
    """
    made = of_protocol(Mechanism)(name, thing)
    if made.name != name:
        raise TypeError(
            f"{name}: the mechanism calls itself {made.name!r}; give it name = {name!r}"
        )
    return made


SOURCE = Registry("source", TASKS, Plugins("metaward.tasks", as_source))
NETWORK = Registry("network", MODELS, Plugins("metaward.networks", as_architecture))
LEARNER = Registry("algorithm", ALGORITHMS, Plugins("metaward.learners", of_protocol(Algorithm)))
LOSS = Registry("function", LOSSES, Plugins("metaward.losses", as_loss), short=True)
MECHANISM = Registry("mechanism", MECHANISMS, Plugins("metaward.mechanisms", as_mechanism), serving)

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True)
class Desk:
    """The parts a hospital works with in ``rounds`` rounds of one learner.

    ``schedule`` says which of its records a round takes (``client.schedule``), ``seed`` draws the
    tasks. ``rewind`` is the most rounds that a resumed run can repeat; a hospital's memory keeps
    its older versions for that many rounds. ``warm_up`` says how the network's frame is learned in
    the first round; None: it is not. ``loss`` and ``class_weights`` say what learners minimise,
    None the loss of the kind of task; ``first_score`` and ``further_scores`` what judging hospitals
    send beside the scores of the kind. A baseline that a run trains as well has a desk of its own.
    """

    source: Annotated[TaskSource, SOURCE]
    architecture: Annotated[Architecture, NETWORK]
    learner: Annotated[Algorithm, LEARNER]
    mechanism: Annotated[Mechanism, MECHANISM]
    tasks_per_round: Positive
    schedule: Order
    seed: Seed
    rounds: Positive
    rewind: Positive
    warm_up: WarmUp | None = None
    loss: Annotated[Loss | None, LOSS] = None
    class_weights: ClassWeights = "none"
    first_score: str | None = None
    further_scores: tuple[str, ...] = ()

    @property
    def spec(self) -> TaskSpec:
        """The shape of the tasks, with the loss and the scores that the run has chosen."""
        own = with_loss(self.source.spec(), self.loss, self.class_weights)
        return scored(own, self.first_score, self.further_scores)

    @property
    def first(self) -> FirstRound | None:
        """What works in the first round in the learner's place; None: the learner itself."""
        return FirstRound(self.warm_up, self.learner) if self.warm_up else None

    def worker(self, round: int) -> Algorithm | FirstRound:
        """What works in a round (from 1)."""
        return self.first or self.learner if round == 1 else self.learner

    def json(self) -> str:
        """Canonical JSON for a message: equal desks are equal text. ``read_desk`` reads it."""
        return compact(plain(self))

    @property
    def learner_tag(self) -> int:
        """64 bits that differ between learners, so that the seeded noise of two differs as well."""
        text = compact(LEARNER.plain(self.learner))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Parts that do not go together: the field at fault, and the text that follows its name."""
        try:
            check_architecture(self.architecture, self.source.spec().input_shape)
        except ValueError as error:
            yield "architecture", f".{error}"
        else:
            yield from self._misfits()
        try:
            self.learner.check(self.source.spec(), self.mechanism.unit)
        except ValueError as error:
            yield "learner", f".algorithm: {error}"
        if self.learner.remembers and self.mechanism.unit.clips_tasks:
            able = (unit.name for unit in UNITS.values() if not unit.clips_tasks)
            yield (
                "learner",
                ".algorithm: it keeps vectors between rounds, which would carry records of one "
                f"{self.mechanism.unit.name} into the updates of later ones, and no noise covers "
                f"that; choose a learner that keeps nothing, or a unit of {', '.join(able)}",
            )
        yield from loss_faults(self.source.spec(), self.loss, self.class_weights)
        yield from score_faults(self.source.spec(), self.first_score, self.further_scores)
        if self.mechanism.unit.protected and self.schedule == "random":
            yield (
                "schedule",
                ": random lets a record return as chance has it, and task sampling "
                f"amplifies nothing for a {self.mechanism.unit.name}; set it to passes",
            )

    def _misfits(self) -> Iterator[tuple[str, str]]:
        """Learners that do not go together with the network."""
        setting = Setting(self.architecture, self.source.spec())
        try:
            self.learner.check_network(setting)
        except ValueError as error:
            yield "learner", f".algorithm: {error}"
        try:
            if self.first:
                self.first.check(setting, self.source.spec(), self.mechanism.unit)
        except ValueError as error:
            yield "warm_up", f": {error}"


def read_desk(text: str) -> Desk:
    """The desk in a message; ``ConfigError`` names every key at fault and every conflict."""
    faults: list[str] = []
    try:
        desk: Desk | None = build(Desk, read_json(text), "", faults)
    except ValueError as error:
        raise ConfigError([f"not JSON: {error}"], "desk") from error
    if desk is not None:
        faults += [f"{field}{fault}" for field, fault in desk.conflicts()]
    if desk is None or faults:
        raise ConfigError(faults, "desk")
    return desk


def asked_plugins(text: str) -> list[str]:
    """``by:name`` of every plug-in that the desk in a message asks for; none of them is loaded."""
    try:
        asked = read_json(text)
    except ValueError:
        return []
    registries = {field: registry_of(hint) for field, hint in hints_of(Desk).items()}
    mapping = asked if isinstance(asked, dict) else {}
    further = mapping.get("further_scores")
    named = [mapping.get("first_score"), *(further if isinstance(further, list) else [])]
    return [
        *(n for field, r in registries.items() if r for n in r.asked_plugins(mapping.get(field))),
        *asked_metrics([name for name in named if isinstance(name, str)]),
    ]
