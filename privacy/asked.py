"""What a request asks of a hospital, and how each value is held against a limit of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metaward.errors import BAD_INPUT, MetawardError


class PolicyError(MetawardError):
    """A request outside the policy. ``code`` may leave the hospital; ``reason`` stays there.

    The code is one of ``release.POLICY_CODES``. The reason names the value, the limit and the key
    that sets it; it is for the hospital's own log and ledger.
    """

    exit_code = BAD_INPUT

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Asked:
    """What a request asks for, as the hospital reads it from the request itself.

    ``mechanism`` and ``unit`` are names. ``noise_multiplier`` is the smallest that would be used,
    ``clip`` the largest norm; both None where nothing is protected. ``steps`` are inner steps T of
    a task, ``tasks`` those of the round (``evaluate``: its episodes), ``rounds`` the whole run's
    and ``round`` the present one, from 0. ``metrics`` names every number that would leave besides
    the update: ``loss`` in training; in evaluation the scores of the kind of task, at least one.
    ``attend`` asks for the public seat alone.
    """

    purpose: Literal["train", "evaluate", "attend"]
    hospital: str
    mechanism: str
    unit: str
    rounds: int
    round: int = 0
    tasks: int = 0
    steps: int = 0
    noise_multiplier: float | None = None
    clip: float | None = None
    metrics: tuple[str, ...] = ()


def refused(code: str, name: str, asked: object, allowed: object, key: str = "") -> PolicyError:
    """The server wrote what is asked: it is quoted and cut, so that it cannot forge log lines."""
    return PolicyError(
        code, f"{name}: {asked!r:.80} is asked, policy key {key or name} allows {allowed}"
    )


def listed(code: str, name: str, asked: object, allowed: tuple[str, ...], key: str = "") -> None:
    """``PolicyError`` for a name that is not in the policy's list of them."""
    if asked not in allowed:
        raise refused(code, name, asked, ", ".join(allowed) or "none", key)


def whole(code: str, name: str, asked: object, low: int, high: int, key: str = "") -> None:
    """``PolicyError`` for what is no whole number from ``low`` to ``high``."""
    if not (type(asked) is int and low <= asked <= high):
        raise refused(code, name, asked, f"{low} to {high}", key)


def real(code: str, key: str, asked: object, low: float | None, high: float | None) -> None:
    """A null limit is that of unit ``none``: there must be nothing to limit. NaN is in no range."""
    if low is None or high is None:
        if asked is not None:
            raise refused(code, key, asked, "null only, as for unit none")
    elif type(asked) is bool or not isinstance(asked, (int, float)) or not low <= asked <= high:
        raise refused(code, key, asked, f"{low} to {high}")
