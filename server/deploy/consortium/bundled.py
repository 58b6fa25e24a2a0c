"""The bundle of code that a run of this checkout ships, and its SHA-256."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

from metaward import sim
from metaward.server.deploy.commands import environment
from metaward.server.deploy.consortium.live import FlowerError
from metaward.server.engines.follow import check_checkout

BUILD_SECONDS = 120.0


def bundle_hash() -> str:
    """SHA-256 of the bundle that ``flwr run`` makes of this checkout, in hexadecimal digits.

    The same source always gives the same bytes. ``ConfigError`` outside a checkout.
    """
    check_checkout()
    with tempfile.TemporaryDirectory(prefix="metaward-") as name:
        place = Path(name)
        done = subprocess.run(
            ["flwr", "build", "--app", str(sim.HERE)],
            cwd=place,
            env=environment(place / "home"),
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        made = list(place.glob("*.fab"))
        if done.returncode or len(made) != 1:
            raise FlowerError(f"flwr build: {(done.stderr + done.stdout).strip()[-500:]}")
        return hashlib.sha256(made[0].read_bytes()).hexdigest()
