"""A seat belongs to a key: an answer counts only where the hospital's signature stands under it.

``server.seats`` of the configuration names the public key of every hospital. Without it, as in a
simulation, signatures are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from metaward.options import nearest
from metaward.privacy import Answer, Refusal
from metaward.privacy.signing import Signature, Statement, public_text, read_public_key, verify
from metaward.privacy.wire import Request, stated

Note = Callable[[Statement, bytes], None]
"""Called with each verified statement and its signature, to keep them."""


@dataclass(frozen=True)
class SeatKeys:
    """The public key of each hospital; empty: nobody has to prove a seat.

    ``note`` takes each statement as it is verified; after ``kept`` they must be on the disk. It is
    called before anything is done with the answers.
    """

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    note: Note = lambda statement, signature: None
    kept: Callable[[], None] = lambda: None

    def __bool__(self) -> bool:
        return bool(self.keys)

    def fault(self, answer: Answer, signature: Signature | None, request: Request) -> str | None:
        """The fixed word for why an answer to this request proves nothing; None where it does."""
        if not self.keys:
            return None
        if signature is None:
            return "unsigned" + (f"-{answer.code}" if isinstance(answer, Refusal) else "")
        if not isinstance(answer, Refusal) and answer.hospital != signature.hospital:
            return "wrong-signature"
        statement = stated(answer, request, signature.hospital)
        key = self.keys.get(signature.hospital)
        if key is None or not verify(key, statement, signature.signature):
            return "wrong-signature"
        self.note(statement, signature.signature)
        return None


OPEN = SeatKeys()
"""No signatures are expected."""


def seat_line(hospital: str, key: str) -> str:
    """An entry of ``server.seats``: the public key as a line of OpenSSH's, the name as comment."""
    return f"{' '.join(key.split()[:2])} {hospital}"


def read_keys(seats: Sequence[str]) -> dict[str, Ed25519PublicKey]:
    """The hospitals' keys from ``server.seats``; ``ValueError`` where an entry is none."""
    return dict(_read(line) for line in seats)


def seat_faults(seats: Sequence[str], roster: Sequence[str]) -> Iterator[str]:
    """What is wrong with ``server.seats`` for this roster."""
    owners: dict[str, str] = {}
    for place, line in enumerate(seats):
        try:
            name, key = _read(line)
        except ValueError as error:
            yield f"server.seats[{place}]: {line!r:.90} is refused: {error}"
            continue
        if name not in roster:
            hint = nearest(name, roster, f"the roster has {some(roster)}")
            yield f"server.seats[{place}]: {name!r} is no hospital of the roster; {hint}"
        owner = owners.setdefault(public_text(key), name)
        if owner != name:
            yield f"server.seats[{place}]: {name} has the key of {owner}; each has one of its own"
    missing = [name for name in roster if name not in owners.values()]
    if seats and missing:
        yield (
            f"server.seats: {some(missing)} without a key; name the public key of every hospital "
            "of the roster, or of none"
        )


def _read(line: str) -> tuple[str, Ed25519PublicKey]:
    words = line.split(maxsplit=2)
    if len(words) < 3:
        raise ValueError("write it as 'ssh-ed25519 AAAA... NAME', with the hospital's name")
    return words[2].strip(), read_public_key(line)


def some(names: Sequence[str]) -> str:
    """A few of the names, and how many there are beside them, for errors."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
