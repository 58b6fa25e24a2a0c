"""Register your own parts by one call each; a run then names them like metaward's own.

    @metaward.register.network("tiny")
    def tiny(input_shape: tuple[int, ...], width: int = 16) -> torch.nn.Module: ...

    run = metaward.load("sim.yaml", {"client.model": {"network": "tiny", "width": 32}})

Registered parts also reach the worker processes of both engines on this machine. A second
registration of a name replaces the first; names of metaward's own parts cannot be taken
(``ValueError``). At a real hospital nothing is registered this way: a package that is installed
there offers its parts by entry points (``metaward.networks``, ``metaward.learners``,
``metaward.tasks``, ``metaward.losses``, ``metaward.metrics``, ``metaward.mechanisms``), and the
hospital's policy names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar, overload

from torch import nn

from metaward.client.desk import LEARNER, LOSS, MECHANISM, NETWORK, SOURCE
from metaward.client.losses.own import Function
from metaward.client.models.own import Make, OwnNetwork
from metaward.client.scores import METRIC
from metaward.client.tasks.arrays import Records
from metaward.client.tasks.kinds import Score
from metaward.options import Registry

Part = TypeVar("Part")
Network = TypeVar("Network", bound=Make | nn.Module)


@overload
def network(name: str, make: Network, *, own_start: bool = True) -> Network: ...
@overload
def network(
    name: str, make: None = None, *, own_start: bool = True
) -> Callable[[Network], Network]: ...
def network(name: str, make: Any = None, *, own_start: bool = True) -> Any:
    """Register a network as ``client.model.network: name``; without ``make``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        make: a function (or the class of a module) whose first parameter is the shape of a record
            without the batch axis, and whose other parameters, each with a type, are yaml options;
            it returns the body, a ``torch.nn.Module`` from records (n, *input_shape) float32 to
            features (n, features). Or such a module itself. Or a frozen dataclass with the members
            of ``metaward.client.models.Architecture``.
        own_start: whether theta starts with the weights that ``make`` gives, loaded or drawn (what
            torch draws in it is a function of the run's seed); if False, they are drawn again,
            He-normal.

    Raises:
        TypeError: ``make`` is none of these.
        ValueError: the name is taken by metaward.

    A configuration that names the network is refused (``ConfigError``) where a record could not be
    protected in it: layers that mix records (BatchNorm) or draw at random (dropout), buffers,
    layers in plain lists, parameters without effect. Parameters with ``requires_grad`` False are
    constants: neither trained nor sent.
    """
    if make is None:
        return lambda made: network(name, made, own_start=own_start)
    NETWORK.register(name, OwnNetwork(make, own_start))
    return make


@overload
def learner(name: str, cls: type[Part]) -> type[Part]: ...
@overload
def learner(name: str, cls: None = None) -> Callable[[type[Part]], type[Part]]: ...
def learner(name: str, cls: Any = None) -> Any:
    """Register a learner as ``client.inner.algorithm: name``; without ``cls``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        cls: a class with the members of ``metaward.client.inner.Algorithm``, often one of
            metaward's learners with another ``update``. Its annotated fields are yaml options; it
            becomes a frozen dataclass if it is none.

    Raises:
        TypeError: ``cls`` lacks members, or is a dataclass that is not frozen.
        ValueError: the name is taken by metaward.

    Which sums a learner takes over a record is found in a rehearsal, and charged before they are
    computed: the learner declares nothing.
    """
    return _registered(LEARNER, name, cls)


@overload
def tasks(name: str, source: Sequence[Records]) -> Sequence[Records]: ...
@overload
def tasks(name: str, source: type[Part]) -> type[Part]: ...
@overload
def tasks(name: str, source: None = None) -> Callable[[type[Part]], type[Part]]: ...
def tasks(name: str, source: Any = None) -> Any:
    """Register tasks as ``client.tasks.source: name``; without ``source``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        source: a list with one ``metaward.Records``, its arrays, for each hospital. Or a class
            with the members of ``metaward.client.tasks.base.TaskSource``, as for ``learner``.

    Raises:
        TypeError: ``source`` is neither.
        ValueError: arrays that do not fit each other, or a name taken by metaward.

    Tasks of arrays with classes have the yaml options ``ways``, ``shots``, ``queries``,
    ``canonical``, ``train_shots`` and ``train_queries``; those of targets ``shots`` and
    ``queries``. Each worker process gets a copy of the arrays.
    """
    return _registered(SOURCE, name, source)


@overload
def mechanism(name: str, cls: type[Part]) -> type[Part]: ...
@overload
def mechanism(name: str, cls: None = None) -> Callable[[type[Part]], type[Part]]: ...
def mechanism(name: str, cls: Any = None) -> Any:
    """Register a mechanism as ``privacy.mechanism: name``; without ``cls``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        cls: a class with the members of ``metaward.privacy.Mechanism``, as for ``learner``.

    Raises:
        TypeError: ``cls`` lacks members, or is a dataclass that is not frozen.
        ValueError: the name is taken by metaward.

    metaward accounts for what the mechanism declares; its author has to prove that this is true.
    ``metaward privacy audit`` attacks it as it attacks metaward's own.
    """
    return _registered(MECHANISM, name, cls)


Loss = TypeVar("Loss", bound=Function | type)


@overload
def loss(name: str, function: Loss) -> Loss: ...
@overload
def loss(name: str, function: None = None) -> Callable[[Loss], Loss]: ...
def loss(name: str, function: Any = None) -> Any:
    """Register a loss as ``client.loss: name``; without ``function``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        function: of the outputs of n records and their labels, as the kind of task has them: logits
            (n, N) and classes (n,) int64, or outputs and targets (n, targets) float32. It returns
            one loss for each record (n,). Its other parameters, each with a type, are yaml options.
            Or a torch loss with ``reduction="none"``, or a frozen dataclass with the members of
            ``metaward.client.losses.Loss``.

    Raises:
        TypeError: ``function`` is none of these.
        ValueError: the name is taken by metaward.

    It is computed for each record alone, by ``torch.func.vmap``, so that no record moves the
    gradient of another. A configuration that names it is refused (``ConfigError``) where that fails
    on made-up records: where it branches on values, draws at random, or gives no finite gradient.
    """
    return _registered(LOSS, name, function)


Measure = TypeVar("Measure", bound=Callable[..., float])


@overload
def metric(
    name: str,
    function: Measure,
    *,
    label: str | None = None,
    higher_is_better: bool = True,
    lowest: float = -inf,
    highest: float = inf,
    scale: float = 1,
    digits: int = 3,
) -> Measure: ...
@overload
def metric(
    name: str,
    function: None = None,
    *,
    label: str | None = None,
    higher_is_better: bool = True,
    lowest: float = -inf,
    highest: float = inf,
    scale: float = 1,
    digits: int = 3,
) -> Callable[[Measure], Measure]: ...
def metric(name: str, function: Any = None, *, label: str | None = None, **form: Any) -> Any:
    """Register a score for ``server.evaluation.metrics``; without ``function``, a decorator.

    Args:
        name: lower-case letters, digits and underscores.
        function: of the outputs of one task's query records, logits (n, N) or outputs (n, targets),
            and their labels (n,) or (n, targets), as torch tensors on the CPU; it returns a number.
        label: how tables call it; None: its name.
        higher_is_better: whether a larger number is a better one.
        lowest: the least that it can be; what a hospital sends below it is rejected.
        highest: the most that it can be.
        scale: tables show the number times this.
        digits: digits after the point in tables.
        form: the five of these that have no line of their own in the signature.

    Raises:
        TypeError: ``function`` is none.
        ValueError: the name is taken by metaward.

    A configuration that names it is refused (``ConfigError``) where it gives no finite number in
    its range for made-up records.
    """
    if function is None:
        return lambda given: metric(name, given, label=label, **form)
    if not callable(function):
        raise TypeError(f"{name}: give a function of outputs and labels, not {function!r:.80}")
    METRIC.register(
        name, Score(name, label or name, function, **{"higher_is_better": True, **form})
    )
    return function


def names() -> dict[str, list[str]]:
    """The parts this process registered: yaml key (``network``, ...) -> names, in their order."""
    registries = (SOURCE, NETWORK, LEARNER, MECHANISM, LOSS, METRIC)
    return {r.by: list(r.plugins.registered) for r in registries if r.plugins}


def _registered(registry: Registry, name: str, thing: Any) -> Any:
    if thing is None:
        return lambda given: _registered(registry, name, given)
    registry.register(name, thing)
    return thing
