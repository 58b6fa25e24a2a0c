"""Registered parts on their way into the worker processes of a simulation on this machine.

To read pickled code is to run it, so it is read in two places only: a worker of the in-process
engine gets it from the process that starts it, and the processes of the flower engine find it in a
file of that engine's own temporary folder. Their environment names the file; it belongs to this
user, and nobody else can read or write it. Pickled code is never read from a message or a result
folder. A hospital whose node config names a policy or a ledger reads none: there, plug-ins are
installed packages, and the policy names them.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import cloudpickle

from metaward.client.desk import LEARNER, LOSS, MECHANISM, NETWORK, SOURCE
from metaward.client.scores import METRIC
from metaward.plugins import PluginError

REGISTRIES = (SOURCE, NETWORK, LEARNER, MECHANISM, LOSS, METRIC)
VARIABLE = "METAWARD_PLUGINS"


def packed() -> bytes:
    """Everything that this process has registered, as bytes; empty where there is nothing."""
    things = {r.by: r.plugins.registered for r in REGISTRIES if r.plugins and r.plugins.registered}
    if not things:
        return b""
    with _by_value():
        data: bytes = cloudpickle.dumps(things)
        return data


def unpack(data: bytes) -> None:
    """Register what another metaward process of this user has packed."""
    things = cloudpickle.loads(data) if data else {}
    for registry in REGISTRIES:
        for name, thing in things.get(registry.by, {}).items():
            registry.register(name, thing)


def write(path: Path) -> None:
    """Pack into a new file that this user alone can read."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(packed())


@cache
def receive() -> None:
    """Register what the engine that started this process has written, if anything, only once.

    ``PluginError`` where the file is not this user's own and private.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return
    path = Path(named)
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PluginError(
            f"{VARIABLE}: {path} is not private to this user, so nothing is read from it"
        )
    unpack(path.read_bytes())


@contextmanager
def _by_value() -> Iterator[None]:
    """Pickle the code of modules that a worker could not import: scripts and files near them."""
    installed = [os.path.realpath(place) for place in _places()]
    with ExitStack() as undo:
        for name, module in list(sys.modules.items()):
            if name == getattr(module, "__name__", "") and _is_the_users(module, installed):
                cloudpickle.register_pickle_by_value(module)
                undo.callback(cloudpickle.unregister_pickle_by_value, module)
        yield


def _places() -> set[str]:
    """The folders of Python's own modules and of installed ones."""
    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    return {*map(sysconfig.get_path, keys), *site.getsitepackages(), site.getusersitepackages()}


def _is_the_users(module: ModuleType, installed: Sequence[str]) -> bool:
    """Whether a module is neither metaward's, nor Python's own, nor installed."""
    file, package = getattr(module, "__file__", None), module.__name__.partition(".")[0]
    if not file or package in ("__main__", "__mp_main__", "metaward"):
        return False
    path = os.path.realpath(file)
    return not any(path.startswith(place + os.sep) for place in installed)
