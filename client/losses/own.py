"""A user's own loss as an entry of the registry: a function, a module or a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from inspect import isfunction
from typing import Any, ClassVar

from torch import Tensor

from metaward.client.losses.base import Loss
from metaward.client.tasks.base import TaskSpec
from metaward.plugins import of_protocol, options_of

Function = Callable[..., Tensor]
"""(outputs (n, ...), labels (n, ...), option=default, ...) -> one loss a record (n,)."""


@dataclass(frozen=True)
class OfFunction(Loss):
    """A loss that a function computes; its yaml options are the function's own parameters."""

    function: ClassVar[Function]

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What the function says."""
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        return type(self).function(outputs, labels, **options)

    def check(self, spec: TaskSpec) -> None:
        """Whatever the function can be computed for; it is tried (``Alone``)."""


def as_loss(name: str, thing: Any) -> type[Any]:
    """The registry entry for a class that has all of ``Loss``, or for a function or module.

    The first two parameters of a function are outputs and labels; the others, each with a type, are
    yaml options. ``TypeError`` where it is neither.
    """
    if isinstance(thing, type):
        if not any("__call__" in vars(base) for base in thing.__mro__):
            raise TypeError(f"{name}: {thing.__name__} lacks __call__(outputs, labels)")
        return of_protocol(Loss)(name, thing)
    if not callable(thing):
        raise TypeError(f"{name}: give a function of outputs and labels, not {thing!r:.80}")
    options = options_of(name, thing, 2, "outputs and labels") if isfunction(thing) else []
    namespace = {"function": staticmethod(thing)}
    title = name.title().replace("_", "")
    return make_dataclass(title, options, bases=(OfFunction,), namespace=namespace, frozen=True)
