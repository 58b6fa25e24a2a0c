"""The type of sim.yaml: the only place where the parts of a run are chosen and put together.

``load`` reads a yaml file, refuses unknown keys and values (naming the key, the value and what is
allowed) and returns a frozen ``Sim``. Parts that can be exchanged (task source, network, algorithm,
mechanism, combiner, optimiser) are in the registries of their folders; a part's options are the
fields of its dataclass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from metaward.client.desk import LEARNER, MECHANISM, NETWORK, Desk, Seed
from metaward.client.inner import Setting
from metaward.client.tasks.base import TaskSpec
from metaward.files import usable
from metaward.json_text import read_json
from metaward.options import ConfigError, build, compact, plain, show
from metaward.privacy import Mechanism
from metaward.sections import RULE, Client, Data, Server, Strategies
from metaward.strategies import COMBINE
from metaward.strategies.proof import seat_faults
from metaward.yaml_text import merged, override, read_yaml

PACKAGE = Path(__file__).resolve().parent
HERE = PACKAGE.parent if (PACKAGE.parent / "sim.yaml").is_file() else PACKAGE
"""The folder of sim.yaml, configs and policies: the checkout, Flower's bundle, or the package."""

DEFAULT = HERE / "sim.yaml"


@dataclass(frozen=True)
class Sim:
    """A whole and valid run."""

    client: Client
    strategies: Strategies
    privacy: Annotated[Mechanism, MECHANISM]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "run"
    """The name of the run; the name of its result folder begins with it."""
    seed: Seed = 0
    """The seed of all randomness except the noise of a real hospital."""
    data: Data = field(default_factory=Data)
    server: Server = field(default_factory=Server)

    def desk(self) -> Desk:
        """The part of this run that hospitals are sent."""
        client = self.client
        return Desk(
            client.tasks,
            client.model,
            client.inner,
            self.privacy,
            client.tasks_per_round,
            client.schedule,
            self.seed,
            self.server.rounds,
            self.server.checkpoint.every * self.server.checkpoint.keep,
            client.warm_up,
            client.loss,
            client.class_weights,
            self.server.evaluation.score,
            self.server.evaluation.metrics,
        )

    def spec(self) -> TaskSpec:
        """The shape of the run's tasks, with the loss and the scores that it has chosen."""
        return self.desk().spec

    def setting(self) -> Setting:
        """What the run's learner works with, on the CPU."""
        return Setting(self.client.model, self.spec())

    def judging(self) -> list[str]:
        """The names of the hospitals that judge the result (``server.evaluation.judges``)."""
        role = self.server.evaluation.judges
        return [seat.name for seat in self.client.tasks.roster() if seat.role == role]

    def mapping(self) -> dict[str, Any]:
        """The whole configuration as plain data, every default filled in; ``parse`` reads it."""
        mapping: dict[str, Any] = plain(self)
        return mapping

    def canonical(self) -> str:
        """The configuration as canonical JSON, without any path of this machine.

        It is equal for equal runs on all machines; a checkpoint names its digest. Keys of seats are
        left out: a hospital can get a new one, and nothing that is computed depends on it.
        """
        server = replace(self.server, out="results", seats=())
        return compact(replace(self, data=Data(), server=server).mapping())


def load(path: Path, overrides: Sequence[str] = ()) -> Sim:
    """Read a yaml file; ``overrides`` are ``section.key=value`` texts that win over the file."""
    mapping = read(path)
    for text in overrides:
        override(mapping, text)
    return parse(mapping, str(path))


def read(path: Path, above: tuple[Path, ...] = ()) -> Any:
    """The plain data of a yaml file, and of the one that it ``extends``, if it does.

    ``above`` are the files that extend this one. ``ConfigError`` where there is no such file.
    """
    path = shipped(path)
    if not usable(path).exists() or path.is_dir():
        raise ConfigError([_absent(path)], str(path))
    mapping = read_yaml(path.read_bytes(), str(path))
    if not isinstance(mapping, dict) or "extends" not in mapping:
        return mapping
    name = mapping.pop("extends")
    if not isinstance(name, str):
        raise ConfigError(
            [f"extends: {show(name)} is refused: must be the name of a file"], str(path)
        )
    base = next((p for p in (path.parent / name, HERE / name) if p.is_file()), path.parent / name)
    if base.resolve() in (one.resolve() for one in (*above, path)):
        raise ConfigError([f"extends: {name} extends this file, directly or by others"], str(path))
    return merged(read(base, (*above, path)), mapping)


def shipped(path: Path) -> Path:
    """The file; where it is not there, the one of that name that comes with metaward, if any.

    So ``configs/sine.yaml`` and ``sim.yaml`` name the same files in a checkout and outside of one.
    """
    ours = path.parts[:1] == ("configs",) or path == Path(DEFAULT.name)
    return HERE / path if ours and not path.exists() and (HERE / path).is_file() else path


def _absent(path: Path) -> str:
    """What to do where this is no file: perhaps it is the folder of one."""
    if not path.is_dir():
        return f"no such file; the default one is {DEFAULT.name}"
    within = path / "run.yaml"
    way = f"perhaps {within} is meant" if within.is_file() else f"the default one is {DEFAULT.name}"
    return f"no such file, but a folder; {way}"


def load_json(text: str | bytes, source: str = "configuration") -> Sim:
    """Read a configuration that ``canonical`` or a result folder wrote."""
    return parse(_json(text, source), source)


def data_root(run: Sim) -> Path | None:
    """The data folder on this machine: ``data.root``, else METAWARD_DATA, else none.

    A relative ``data.root`` is taken from the current folder. ``ConfigError`` where it is missing.
    """
    named = run.data.root or os.environ.get("METAWARD_DATA")
    if not named:
        return None
    try:
        root = Path(named).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:  # no such user, no such name
        raise ConfigError([f"data.root (or METAWARD_DATA): {named!r}: {error}"]) from error
    if not usable(root).is_dir():
        raise ConfigError([f"data.root (or METAWARD_DATA): {named!r} is not a folder"])
    return root


def parse(mapping: Any, source: str = "configuration") -> Sim:
    """Plain data to a ``Sim``; ``ConfigError`` with every fault of the whole file."""
    faults: list[str] = []
    run: Sim | None = build(Sim, mapping, "", faults)
    if run is not None:
        faults += cross_faults(run)
    if run is None or faults:
        raise ConfigError(faults, source)
    return run


YAML = {
    "architecture": "client.model",
    "learner": "client.inner",
    "schedule": "client.schedule",
    "warm_up": "client.warm_up",
    "loss": "client.loss",
    "class_weights": "client.class_weights",
    "first_score": "server.evaluation.score",
    "further_scores": "server.evaluation.metrics",
}
"""The yaml key of each field of a desk."""


def cross_faults(run: Sim) -> list[str]:
    """Faults between sections, such as a network that does not fit the tasks."""
    faults = []
    roster = run.client.tasks.roster()
    for role in ("train", "unseen"):
        if not any(seat.role == role for seat in roster):
            faults.append(f"client.tasks: no {role} hospital; the run needs at least one")
    train = sum(seat.role == "train" for seat in roster)
    chosen = run.strategies.hospitals_per_round
    if chosen is not None and chosen > train:
        faults.append(
            f"strategies.hospitals_per_round: {chosen} is more than the {train} training hospitals"
        )
    else:
        faults += combine_faults(run, chosen or train)
    faults += choice_faults(run)
    faults += seat_faults(run.server.seats, [seat.name for seat in roster])
    faults += [YAML[field] + fault for field, fault in run.desk().conflicts()]
    faults += server_noise_faults(run)
    return faults or list(learner_faults(run))


def combine_faults(run: Sim, asked: int) -> Iterator[str]:
    """The fault of a rule that would mean nothing in some round that the quorum lets pass.

    ``asked`` hospitals are chosen for a round.
    """
    options = run.strategies
    for replies in range(options.needed(asked), asked + 1):
        if why := options.combine.unsuited(replies):
            yield (
                f"strategies.combine.rule: {RULE.plain(options.combine)[RULE.by]} {why}, but with "
                f"strategies.quorum = {options.quorum:g} a round of {asked} hospitals goes on with "
                f"{replies}; raise the quorum, ask more hospitals (strategies.hospitals_per_round, "
                "client.tasks), or set the rule to mean"
            )
            return


def choice_faults(run: Sim) -> Iterator[str]:
    """Faults where a round is to be chosen and no hospital is set aside to choose it."""
    evaluation, roster = run.server.evaluation, run.client.tasks.roster()
    aside = any(seat.role == "validation" for seat in roster)
    if evaluation.judges == "validation" and not aside:
        yield (
            "server.evaluation.judges: validation needs hospitals for validation; set "
            "client.tasks.validation (arrays: Records with role validation), or judges: unseen"
        )
    if evaluation.keep == "best" and not aside:
        yield (
            "server.evaluation.keep: best needs hospitals for validation, which choose the round; "
            "set client.tasks.validation (arrays: Records with role validation), or keep: last; "
            "the unseen ones judge the result and choose nothing"
        )
    if evaluation.patience is not None and evaluation.keep != "best":
        yield (
            f"server.evaluation.patience: {evaluation.patience} stops a run when its best round is "
            f"old, but keep is {evaluation.keep}; set keep: best, or patience: null"
        )


def server_noise_faults(run: Sim) -> Iterator[str]:
    """Faults where updates reach the server without noise: what it does must not depend on them."""
    unit, clip, cap = run.privacy.unit, run.privacy.clip, run.strategies.max_norm
    if not unit.noise_at_server:
        return
    if not isinstance(run.strategies.combine, COMBINE["mean"]):
        yield (
            f"strategies.combine.rule: the server's noise for a {unit.name} is measured for the "
            "uniform mean; set it to mean"
        )
    if clip is not None and cap != "auto" and clip > cap:
        yield (
            f"strategies.max_norm: {cap} is below privacy.clip_norm = {clip}, so whether an "
            f"update is rejected would tell its norm, and no noise covers that; set it to auto, "
            f"to {clip} or more, or lower privacy.clip_norm"
        )


def learner_faults(run: Sim) -> Iterator[str]:
    """The fault of a learner without anything to learn, such as one that is a baseline only."""
    setting = run.setting()
    if all(layer.local for layer in run.client.inner.layers(setting)):
        name, network = LEARNER.plain(run.client.inner), NETWORK.plain(run.client.model)
        yield (
            f"client.inner.algorithm: {name[LEARNER.by]} learns nothing: its theta is empty with "
            f"network {network[NETWORK.by]}; choose another learner, or a network with parameters"
        )


def _json(text: str | bytes, source: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise ConfigError([f"not JSON: {error}"], source) from error
