"""The kernel's library: compiled once a machine by the compiler that is there, then kept.

It calls nothing of torch or Python, so it needs neither their headers nor ninja, and takes seconds.
It is made for the processor that it runs on, hence kept by a name that holds the processor's
features, the sources and the compiler's options. Floating-point arithmetic stays as it is elsewhere
in the process: there is no -ffast-math, which would also hide values that are not finite.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from metaward.errors import RunError

HERE = Path(__file__).resolve().parent
SOURCES = ("kernel.cpp.md", "layers.cpp.md")
OPTIONS = (
    *("-x", "c++", "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 300.0
"""Seconds that a compiler may take, or another process that has it at work."""


class NoKernel(RunError):
    """There is no kernel, and the text says why; whatever asks for one goes on without."""


def library() -> ctypes.CDLL:
    """The kernel's functions, compiled if nobody has done so before.

    ``NoKernel`` where there is no compiler, no folder to keep the library in, or where the compiled
    library cannot be loaded. A process tries once.
    """
    found = _outcome()
    if isinstance(found, str):
        raise NoKernel(found)
    return found


@cache
def _outcome() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    try:
        return ctypes.CDLL(str(_kept()))
    except NoKernel as reason:
        return str(reason)
    except (OSError, Timeout, subprocess.SubprocessError) as error:
        return f"the kernel could not be built: {error}"


def folder() -> Path:
    """Where libraries are kept: METAWARD_CACHE, else metaward in the user's folder for caches."""
    own = os.environ.get("METAWARD_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaward"


def _kept() -> Path:
    """The compiled library; one process compiles, and others wait for it."""
    if os.name != "posix":
        raise NoKernel(f"the kernel is built on Linux and macOS, not on {platform.system()}")
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except RuntimeError as error:  # a user without a home
        raise NoKernel(f"the kernel has no folder: {error}; set METAWARD_CACHE") from error
    path = place / f"kernel-{_key()}.so"
    if not path.exists():
        with FileLock(path.with_suffix(".lock"), timeout=PATIENCE):
            if not path.exists():
                _compile(path)
    _check_owner(place)
    _check_owner(path)
    return path


def _compile(path: Path) -> None:
    """Compile next to ``path`` and move the result there, so that nobody loads half of it."""
    compiler = _compiler()
    with tempfile.TemporaryDirectory(dir=path.parent) as made:
        out = Path(made) / path.name
        done = subprocess.run(
            [compiler, *OPTIONS, str(HERE / SOURCES[0]), "-o", str(out)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise NoKernel(f"{compiler} cannot compile the kernel: {done.stderr.strip()[:500]}")
        out.replace(path)


def _compiler() -> str:
    """The compiler of the environment's CXX, else the first of ``COMPILERS`` on the path."""
    named = os.environ.get("CXX")
    for name in (named,) if named else COMPILERS:
        if found := shutil.which(name):
            return found
    raise NoKernel(f"there is no C++ compiler ({named or ', '.join(COMPILERS)}); install g++")


def _check_owner(path: Path) -> None:
    """``NoKernel`` where others could have written what will run with the records in hand."""
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NoKernel(f"{path} can be written by others; remove it, or set METAWARD_CACHE")


def _key() -> str:
    """A name for what the library depends on."""
    texts = [
        *((HERE / name).read_text(encoding="utf-8") for name in SOURCES),
        *OPTIONS,
        _processor(),
    ]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _processor() -> str:
    """The processor's name and features: a library for another one may stop the process."""
    known = Path("/proc/cpuinfo")
    if not known.exists():
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = known.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    return "\n".join([platform.machine(), *(line for line in lines if line.startswith(wanted))])
