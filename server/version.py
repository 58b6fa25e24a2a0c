"""The version of the code: the package's version, and the commit if it is a checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""Here lies .git where the code is a checkout; `--version` need not import all parts to know."""


@cache
def code_version() -> str:
    """For example ``metaward 0.2.0 (5414fa4)``; ``-dirty`` if tracked files have changed since."""
    found = _commit()
    return f"metaward {version('metaward')}" + (f" ({found})" if found else "")


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
