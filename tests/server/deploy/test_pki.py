"""Certificates that TLS takes for the right host and authority only; keys for their owner only."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from metaward.files import write_private
from metaward.options import ConfigError
from metaward.server.deploy import pki

HOSTS = ("localhost", "127.0.0.1")


def make(folder: Path, name: str = "ca") -> pki.Pair:
    folder.mkdir(exist_ok=True)
    pair = pki.Pair(folder / f"{name}.crt", folder / f"{name}.key")
    pki.ensure_authority(pair)
    return pair


@pytest.fixture
def authority(tmp_path: Path) -> pki.Pair:
    return make(tmp_path / "authority")


@pytest.fixture
def server(tmp_path: Path, authority: pki.Pair) -> pki.Pair:
    pair = pki.Pair(tmp_path / "server.crt", tmp_path / "server.key")
    pki.ensure_server(pair, authority, HOSTS)
    return pair


def shake_hands(server: pki.Pair, trusted: Path, host: str) -> str:
    """A TLS handshake in memory; the version that both agree on."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(server.certificate, server.key)
    here = ssl.create_default_context(cafile=str(trusted))
    here.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = here.wrap_bio(to_client, to_server, server_hostname=host)
    other = there.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, other, client, other):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return str(client.version())


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_trusts_the_authority_takes_the_server(
    server: pki.Pair, authority: pki.Pair, host: str
) -> None:
    assert shake_hands(server, authority.certificate, host) == "TLSv1.3"


@pytest.mark.parametrize("host", ["127.0.0.2", "example.org"])
def test_another_host_is_refused(server: pki.Pair, authority: pki.Pair, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Mm]ismatch|not valid for"):
        shake_hands(server, authority.certificate, host)


def test_another_authority_of_the_same_name_is_refused(server: pki.Pair, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(server, make(tmp_path / "other").certificate, "localhost")


def test_the_servers_own_certificate_signs_nothing(server: pki.Pair, tmp_path: Path) -> None:
    below = pki.Pair(tmp_path / "below.crt", tmp_path / "below.key")
    pki.ensure_server(below, server, HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(below, server.certificate, "localhost")


def test_private_keys_are_for_their_owner_only(
    authority: pki.Pair, server: pki.Pair, tmp_path: Path
) -> None:
    node = tmp_path / "node.key"
    pki.ensure_node_key(node, tmp_path / "node.key.pub")
    for key in (authority.key, server.key, node):
        assert key.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.rglob("*.writing"))


def test_a_node_key_is_what_flower_takes(tmp_path: Path) -> None:
    private, public = tmp_path / "node.key", tmp_path / "node.key.pub"
    pki.ensure_node_key(private, public)
    key = load_ssh_private_key(private.read_bytes(), None)
    known = load_ssh_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(known, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    assert key.public_key() == known


def test_what_is_there_is_used_again(authority: pki.Pair, server: pki.Pair, tmp_path: Path) -> None:
    node, public = tmp_path / "node.key", tmp_path / "node.key.pub"
    pki.ensure_node_key(node, public)
    files = [authority.key, authority.certificate, server.key, server.certificate, node, public]
    before = [file.read_bytes() for file in files]
    public.unlink()  # it can be made from the private one; a new key would be a new hospital
    pki.ensure_authority(authority)
    pki.ensure_server(server, authority, HOSTS)
    pki.ensure_node_key(node, public)
    assert [file.read_bytes() for file in files] == before


def test_two_hospitals_have_two_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pki.ensure_node_key(tmp_path / name, tmp_path / f"{name}.pub")
    assert (tmp_path / "a.pub").read_bytes() != (tmp_path / "b.pub").read_bytes()


def test_a_key_that_others_can_read_is_refused(authority: pki.Pair) -> None:
    authority.key.chmod(0o640)
    with pytest.raises(ConfigError, match=r"ca\.key: others may use.*mode 640.*chmod 600"):
        pki.ensure_authority(authority)


@pytest.mark.parametrize("content", [b"", b"no key at all"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "node.key", content)
    with pytest.raises(ConfigError, match=r"node\.key: not an unencrypted private key"):
        pki.ensure_node_key(tmp_path / "node.key", tmp_path / "node.key.pub")


def renewed(server: pki.Pair, authority: pki.Pair, hosts: tuple[str, ...] = HOSTS) -> bool:
    before = server.certificate.read_bytes()
    pki.ensure_server(server, authority, hosts)
    return server.certificate.read_bytes() != before


def test_a_server_certificate_is_renewed_in_time(
    tmp_path: Path, authority: pki.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pki.Pair(tmp_path / "s.crt", tmp_path / "s.key")
    monkeypatch.setattr(pki, "SERVER_DAYS", 29)
    pki.ensure_server(pair, authority, HOSTS)
    monkeypatch.undo()
    assert renewed(pair, authority)
    ends = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc
    assert ends - datetime.now(UTC) > timedelta(days=300)
    assert not renewed(pair, authority)


def test_a_server_certificate_for_other_hosts_or_of_another_authority_is_renewed(
    server: pki.Pair, authority: pki.Pair, tmp_path: Path
) -> None:
    assert renewed(server, authority, ("localhost", "10.0.0.1"))
    assert renewed(server, make(tmp_path / "other"), ("localhost", "10.0.0.1"))
