"""Certificates and keys of a deployment: private authority, server certificate, node keys.

A hospital proves who it is by signing with its own key, which never leaves its folder; it knows the
server by a certificate of the authority. All keys are on the elliptic curve P-384, the only kind
of node key that Flower accepts. Certificates follow RFC 5280, key identifiers included, because
strict verifiers refuse them otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from metaward.files import write_private
from metaward.options import ConfigError
from metaward.privacy.signing import (
    new_signing_key,
    public_text,
    read_private_key,
    read_signing_key,
    refuse_readable,
)

Key = ec.EllipticCurvePrivateKey
AUTHORITY_DAYS, SERVER_DAYS, RENEW_DAYS = 3650, 365, 30
SKEW = timedelta(minutes=10)  # clocks differ: a certificate is valid a little before it is made


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its private key."""

    certificate: Path
    key: Path

    def exists(self) -> bool:
        """Whether both files exist."""
        return self.certificate.is_file() and self.key.is_file()


def ensure_authority(pair: Pair, name: str = "metaward deployment") -> None:
    """Make a certificate authority, unless it exists already."""
    if pair.exists():
        refuse_readable(pair.key)
        return
    key = new_key()
    subject = _name(name)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = _certificate(subject, subject, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    _write(pair, key, builder.sign(key, SHA384()))


def ensure_server(pair: Pair, authority: Pair, hosts: Sequence[str]) -> None:
    """Make a server certificate for these host names and IP addresses, unless a good one exists.

    A new one is made where the old one ends within 30 days, is for other hosts, or was signed by
    another authority.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    if pair.exists() and _good(pair, issuer, hosts):
        refuse_readable(pair.key)
        return
    key, signer = new_key(), load_key(authority.key)
    alternative = x509.SubjectAlternativeName(_alternatives(hosts))
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = _certificate(_name(hosts[0]), issuer.subject, key.public_key(), SERVER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(purpose, critical=False)
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(alternative, critical=False)
    _write(pair, key, builder.sign(signer, SHA384()))


def ensure_node_key(private: Path, public: Path) -> None:
    """Make a hospital's key in OpenSSH's format, unless it exists, and write its public half."""
    if not private.is_file():
        pem = new_key().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_private(private, pem)
    key = load_key(private)
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def ensure_signing_key(path: Path) -> str:
    """The public half of the Ed25519 key in a file, as a line; a missing key is made."""
    if not path.is_file():
        write_private(path, new_signing_key())
    return public_text(read_signing_key(path))


# ------------------------------------------------------------------------------ key files


def new_key() -> Key:
    """A new private key, from the operating system's entropy."""
    return ec.generate_private_key(ec.SECP384R1())


def load_key(path: Path) -> Key:
    """A private key, PEM or OpenSSH; ``ConfigError`` if it is none or others can read it."""
    key = read_private_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(["not an elliptic curve key"], str(path))
    return key


# -------------------------------------------------------------------------------- details


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _good(pair: Pair, issuer: x509.Certificate, hosts: Sequence[str]) -> bool:
    found = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    try:
        found.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):  # another authority's
        return False
    ends = found.not_valid_after_utc - timedelta(days=RENEW_DAYS)
    return list(names) == _alternatives(hosts) and ends > datetime.now(UTC)


def _write(pair: Pair, key: Key, certificate: x509.Certificate) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(pair.key, pem)
    pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))


def _alternatives(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_alternative(host) for host in hosts]


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
