"""What a request asks of a hospital, and how a value is compared with a limit of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metaward.errors import BAD_INPUT, MetawardError


class PolicyError(MetawardError):
    """A request outside the policy. ``code`` may leave the hospital; ``reason`` stays there.

    The code is one of ``release.POLICY_CODES``. The reason names the value, the limit and the key
    that sets the limit; only the hospital's own log and ledger keep it.
    """

    exit_code = BAD_INPUT

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Asked:
    """What a request asks for, as the hospital reads it from the request itself.

    ``mechanism`` and ``unit`` are names. ``noise_multiplier`` is the smallest multiplier and
    ``clip`` the largest norm that would be used; both are None where nothing is protected.
    ``steps`` are the inner steps of a task, ``tasks`` the tasks of the round (or its episodes),
    ``rounds`` those of the whole run and ``round`` the present one, from 0. ``metrics`` names every
    number that would leave besides the update: ``loss`` in training, at least one score in
    evaluation. ``sampling_rate`` is the probability of the secret draw before each sum, 1 without
    one. ``attend`` asks for the public seat alone.
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
    sampling_rate: float = 1.0


def refused(code: str, name: str, asked: object, allowed: object, key: str = "") -> PolicyError:
    """A refusal. The server wrote what is asked: it is quoted and cut, so it cannot forge a log."""
    return PolicyError(
        code, f"{name}: {asked!r:.80} is asked, policy key {key or name} allows {allowed}"
    )


def listed(code: str, name: str, asked: object, allowed: tuple[str, ...], key: str = "") -> None:
    """``PolicyError`` for a name that is not in the policy's list of them."""
    if asked not in allowed:
        raise refused(code, name, asked, ", ".join(allowed) or "none", key)


def whole(code: str, name: str, asked: object, low: int, high: int, key: str = "") -> None:
    """``PolicyError`` unless ``asked`` is a whole number from ``low`` to ``high``."""
    if not (type(asked) is int and low <= asked <= high):
        raise refused(code, name, asked, f"{low} to {high}", key)


def real(code: str, key: str, asked: object, low: float | None, high: float | None) -> None:
    """``PolicyError`` unless ``asked`` is a number from ``low`` to ``high``; NaN is not.

    A limit is None for unit ``none``, and then there must be no number at all.
    """
    if low is None or high is None:
        if asked is not None:
            raise refused(code, key, asked, "null only, as for unit none")
    elif type(asked) is bool or not isinstance(asked, (int, float)) or not low <= asked <= high:
        raise refused(code, key, asked, f"{low} to {high}")
