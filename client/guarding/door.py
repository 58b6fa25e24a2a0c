"""Whether somebody listens at a Unix socket."""

from __future__ import annotations

import socket
from pathlib import Path


def is_open(place: Path) -> bool:
    """Whether somebody listens there now. A socket that a killed process left does not count."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            return False
    return True
