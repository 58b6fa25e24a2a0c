"""Ed25519 keys, by which hospitals sign answers and a consortium signs the list of bundles."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from metaward.files import write_private
from metaward.options import ConfigError
from metaward.server.deploy.pki import refuse_readable


def ensure_signing_key(path: Path) -> str:
    """The public half of the key in a file, as a line; a new key is made where there is none."""
    if not path.is_file():
        form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_private(path, Ed25519PrivateKey.generate().private_bytes(*form))
    return public_line(signing_key(path))


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file; ``ConfigError`` where it is none, or others can read it."""
    refuse_readable(path)
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"not an unencrypted private key ({error})"], str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(["not an Ed25519 key; ssh-keygen -t ed25519 makes one"], str(path))
    return key


def public_line(key: Ed25519PrivateKey) -> str:
    """The public half as ``ssh-ed25519 AAAA...``."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
