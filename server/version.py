"""The version of the code: the package's version, the commit if it is a checkout, a digest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import metaward

CHECKOUT = Path(__file__).resolve().parents[1]
"""Here lies .git where the code is a checkout; `--version` need not import all parts to know."""


@cache
def code_version() -> str:
    """For example ``metaward 0.2.0 (5414fa4)``; ``-dirty`` if tracked files have changed since."""
    found = _commit()
    return f"metaward {version('metaward')}" + (f" ({found})" if found else "")


@cache
def code_digest() -> str:
    """The SHA-256 of all modules of the package by their names, in hex, wherever it lies."""
    package, found = Path(metaward.__file__).parent, hashlib.sha256()
    for folder, below, names in os.walk(package, followlinks=True):  # a checkout is linked together
        below.sort()
        for path in (Path(folder) / name for name in sorted(names) if name.endswith(".py")):
            content = path.read_bytes()
            found.update(f"{path.relative_to(package)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def _commit() -> str:
    """The commit; "" outside a checkout or without git."""
    if not (CHECKOUT / ".git").exists():  # an installed package inside somebody else's repository
        return ""
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
