"""What a check of a site found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["good", "doubtful", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What one check found; ``remedy`` says what to do about it."""

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""


Check = Callable[[Path], Iterator[Finding]]
