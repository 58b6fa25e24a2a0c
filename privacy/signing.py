"""A hospital's signature under what leaves it: Ed25519 (RFC 8032) over a canonical statement.

The statement says which hospital answers which request of which run, with what, and how far its
ledger had come. So an answer counts for one request alone, and from the holder of the key alone.
Signatures are deterministic: the same answer sent again has the same bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from metaward.options import ConfigError, compact
from metaward.privacy.event import Mark

PURPOSE = b"metaward answer\n"
"""Signed before the statement, so that no signature of another program's could be taken for one."""
KIND = "ssh-ed25519"


@dataclass(frozen=True)
class Statement:
    """What a hospital signs.

    ``kind`` is that of the answer, ``request`` the digest of the request and ``content`` the
    SHA-256 of the answer's content, both in hex (``privacy.wire``); ``mark`` is the row of the
    ledger that stored the answer, None for an answer that none stores.
    """

    schema: int
    kind: str
    hospital: str
    run: str
    round: int
    request: str
    content: str
    mark: Mark | None

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        return PURPOSE + compact(asdict(self)).encode("ascii")


@dataclass(frozen=True)
class Signature:
    """The hospital that claims an answer, and its 64 bytes under the answer's statement."""

    hospital: str
    signature: bytes


def sign(key: Ed25519PrivateKey, statement: Statement) -> Signature:
    """The signature of the hospital that the statement names."""
    return Signature(statement.hospital, key.sign(statement.canonical()))


def verify(key: Ed25519PublicKey, statement: Statement, signature: bytes) -> bool:
    """Whether the holder of ``key`` has signed exactly this statement."""
    try:
        key.verify(signature, statement.canonical())
    except InvalidSignature:
        return False
    return True


# ----------------------------------------------------------------------------------- keys


def new_signing_key() -> bytes:
    """A new private key in OpenSSH's format, from the operating system's entropy."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The key in a file; ``ConfigError`` if it is no Ed25519 key or others can read it."""
    key = read_private_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        text = f"not an Ed25519 key; make one: ssh-keygen -t ed25519 -N '' -f {path.name}"
        raise ConfigError([text], str(path))
    return key


def read_private_key(path: Path) -> object:
    """A private key of any kind, PEM or OpenSSH; ``ConfigError`` if it is none or not private."""
    try:
        refuse_readable(path)
        content = path.read_bytes()
    except OSError as error:
        text = f"cannot be read ({error.strerror}); name a private key's file"
        raise ConfigError([text], str(path)) from error
    load = load_ssh_private_key if b"OPENSSH" in content else load_pem_private_key
    try:
        return load(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError([f"not an unencrypted private key ({error})"], str(path)) from error


def refuse_readable(path: Path) -> None:
    """``ConfigError`` where anybody but the owner can read or write the file."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        fault = (
            f"others may use this private key (mode {mode:o}); chmod 600 it, and make a new one if "
            "somebody may have read it"
        )
        raise ConfigError([fault], str(path))


def read_public_key(text: str) -> Ed25519PublicKey:
    """The key in a text ``ssh-ed25519 AAAA...``, with or without a comment.

    ``ValueError`` where the text is none.
    """
    try:
        key = load_ssh_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"no public key as in '{KIND} AAAA...'") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"a key of another kind; it must begin with {KIND}")
    return key


def public_text(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """``ssh-ed25519 AAAA...``, without a comment."""
    public = key if isinstance(key, Ed25519PublicKey) else key.public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
