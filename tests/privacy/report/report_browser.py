"""Headless Chromium over the DevTools protocol on two pipes: no port, no extra package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and answers on 4.
LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); \
os.execvp(sys.argv[3], sys.argv[3:])"
PATIENCE = 30.0


@dataclass
class Browser:
    """One tab; ``events`` holds everything that the browser reported and nobody asked for."""

    commands: int
    answers: int
    session: str = ""
    number: int = 0
    rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        """The result of one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self.number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self.events.append(found)

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"Chromium said nothing for {PATIENCE} s"
            more = os.read(self.answers, 1 << 20)
            assert more, "Chromium ended"
            self.rest += more
        text, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def open(self, path: Path) -> None:
        """Load a file and wait until it has loaded; forget older events."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not self.named("Page.loadEventFired"):
            self.events.append(self._read())

    def named(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the events of one kind since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def shape(self, width: int, scheme: str) -> None:
        """A screen of a width (CSS pixels), in the light or dark colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def pdf(self) -> bytes:
        """The page as it prints on A4."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(found["data"])

    def picture(self) -> bytes:
        """The whole page as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium of our own with an empty profile folder, stopped at the end."""
    to_it, commands = os.pipe()
    answers, from_it = os.pipe()
    program = shutil.which("chromium")
    assert program, "chromium is not on the PATH"
    launch = [sys.executable, "-c", LAUNCH, *_high(to_it, from_it)]
    process = subprocess.Popen(
        [*launch, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=HIGH,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for fd in (to_it, from_it, *HIGH):
        os.close(fd)
    try:
        yield _tab(Browser(commands, answers))
    finally:
        os.close(commands)  # Chromium ends when its pipe does
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


HIGH = (200, 201)
"""Where the pipes wait, out of the way of descriptors 3 and 4."""


def _high(*fds: int) -> list[str]:
    for fd, high in zip(fds, HIGH, strict=True):
        os.dup2(fd, high)
    return [str(high) for high in HIGH]


def _tab(found: Browser) -> Browser:
    target = found.call("Target.createTarget", url="about:blank")["targetId"]
    attached = found.call("Target.attachToTarget", targetId=target, flatten=True)
    found.session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        found.call(f"{domain}.enable")
    return found
