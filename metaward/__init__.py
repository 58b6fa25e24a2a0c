"""Federated meta-learning for hospitals: private few-shot tasks, a shared initialisation.

    import metaward as mw

    run = mw.load("sim.yaml", {"privacy.epsilon": 3})
    print(mw.plan(run).verdict)
    result = mw.run(run, out="results/e3")
    model = result.adapt(x, y)
    model.predict(x_new)

Names are loaded when they are used: a hospital's process, which imports ``metaward.client``, does
not import the server.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaward import register
    from metaward.client.tasks.arrays import Records
    from metaward.door import columns, compare, load, open, plan, resume, run
    from metaward.errors import MetawardError
    from metaward.options import ConfigError
    from metaward.result import Model, Result
    from metaward.server.events import numbers

# The folders of this package are at the top of the repository: client, privacy, strategies, server.
# A checkout links to them and an installation holds them here; Flower's bundles leave links out,
# so there the folders are found next to this one.
_HERE = Path(__file__).resolve().parent
if not (_HERE / "client").is_dir():
    __path__.append(str(_HERE.parent))

_HOMES = {
    "ConfigError": "metaward.options",
    "MetawardError": "metaward.errors",
    "Model": "metaward.result",
    "Records": "metaward.client.tasks.arrays",
    "Result": "metaward.result",
    "columns": "metaward.door",
    "compare": "metaward.door",
    "load": "metaward.door",
    "numbers": "metaward.server.events",
    "open": "metaward.door",
    "plan": "metaward.door",
    "resume": "metaward.door",
    "run": "metaward.door",
}

__all__ = [
    "ConfigError",
    "MetawardError",
    "Model",
    "Records",
    "Result",
    "columns",
    "compare",
    "load",
    "numbers",
    "open",
    "plan",
    "register",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "register":
        return import_module("metaward.register")
    if name not in _HOMES:
        raise AttributeError(f"module 'metaward' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
