"""Which application bundles a hospital runs: a list of SHA-256 hashes, each signed by a known key.

Flower's SuperLink ships a bundle of code with every run, and a SuperNode runs what it gets. A
consortium reads a bundle once and signs its hash; the hospital keeps the list of signed hashes and
the public keys whose signatures it accepts. Signatures are Ed25519 (Bernstein et al. 2012:
High-speed high-security signatures), keys have OpenSSH's form.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from metaward.files import replace_file
from metaward.options import ConfigError, build
from metaward.privacy.signing import public_text, read_public_key
from metaward.yaml_text import read_yaml

PURPOSE = "metaward bundle 1"
"""What a signature is for: one that was made for another purpose does not admit a bundle."""
HASH = r"^[0-9a-f]{64}$"


@dataclass(frozen=True)
class Bundle:
    """One bundle that may run: the SHA-256 of its bytes, and who says so."""

    sha256: Annotated[str, Field(pattern=HASH)]
    version: str
    """The version of the code in it, for people."""
    signer: str
    """The public key that signed, as one line of OpenSSH's form."""
    signature: str
    """The signature in base64."""


@dataclass(frozen=True)
class BundleList:
    """The content of a list of bundles, ``bundles.yaml``."""

    bundles: tuple[dict[str, str], ...]
    """One mapping for each bundle: sha256, version, signer and signature."""

    def read(self, source: str) -> list[Bundle]:
        """The bundles; ``ConfigError`` for each mapping that is none."""
        faults: list[str] = []
        made = [build(Bundle, one, f"bundles[{n}]", faults) for n, one in enumerate(self.bundles)]
        if faults:
            raise ConfigError(faults, source)
        return [one for one in made if one is not None]


def read_bundles(path: Path) -> list[Bundle]:
    """The bundles in a list; ``ConfigError`` where there is no such file or it is none."""
    faults: list[str] = []
    if not path.is_file():
        raise ConfigError(["no such file; metaward deploy approve makes it"], str(path))
    listed = build(BundleList, read_yaml(path.read_bytes(), str(path)), "", faults)
    if listed is None or faults:
        raise ConfigError(faults, str(path))
    found: list[Bundle] = listed.read(str(path))
    return found


def write_bundles(path: Path, bundles: Iterable[Bundle]) -> None:
    """Write a list that ``read_bundles`` reads."""
    head = "# Application bundles that hospitals may run; metaward deploy approve adds one.\n"
    content = {"bundles": [vars(one) for one in bundles]}
    replace_file(path, (head + yaml.safe_dump(content, sort_keys=False, width=1000)).encode())


def signed_bundle(sha256: str, version: str, key: Ed25519PrivateKey) -> Bundle:
    """A bundle with the signature of ``key`` over its hash and version."""
    if not re.fullmatch(HASH, sha256):
        raise ConfigError([f"{sha256!r} is not a SHA-256 in hexadecimal digits"])
    signature = b64encode(key.sign(_message(sha256, version))).decode()
    return Bundle(sha256, version, public_text(key), signature)


def admitted(sha256: str, bundles: Sequence[Bundle], signers: Sequence[str]) -> Bundle | None:
    """The entry that admits a bundle: its hash, with a signature of one of the ``signers``."""
    trusted = {_bare(key) for key in signers}
    for bundle in bundles:
        if bundle.sha256 == sha256 and _bare(bundle.signer) in trusted and _genuine(bundle):
            return bundle
    return None


def _genuine(bundle: Bundle) -> bool:
    try:
        signature = b64decode(bundle.signature, validate=True)
        read_public_key(bundle.signer).verify(signature, _message(bundle.sha256, bundle.version))
    except (InvalidSignature, ValueError):
        return False
    return True


def _bare(key: str) -> tuple[str, ...]:
    """A public key without its comment."""
    return tuple(key.split()[:2])


def _message(sha256: str, version: str) -> bytes:
    return json.dumps([PURPOSE, sha256, version], separators=(",", ":")).encode()
