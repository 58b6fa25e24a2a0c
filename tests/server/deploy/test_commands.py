"""What Flower's processes are told: TLS and registered keys only, loopback only, private files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from metaward.server.deploy import commands
from metaward.server.deploy.layout import Site

SITE = Site(Path("/data/it's = a 'site' é"))
NORTH = SITE.hospitals(["south", "north east"])[1]


def test_a_hospitals_paths_survive_flowers_parser() -> None:
    """By Flower's own function: it splits the text at spaces and equal signs outside quotes."""
    assert parse_config_args([commands.node_config(NORTH)]) == {
        "partition-id": 1,
        "policy": f"{SITE.root}/hospitals/north east/policy.yaml",
        "ledger": f"{SITE.root}/hospitals/north east/ledger.sqlite",
        "data-root": f"{SITE.root}/hospitals/north east/data",
        "memory": f"{SITE.root}/hospitals/north east/memory",
        "device": "cpu",
        "signing-key": f"{SITE.root}/hospitals/north east/signing.key",
        "audit-log": f"{SITE.root}/hospitals/north east/audit.jsonl",
        "download": False,
    }


def test_with_a_guard_the_supernode_is_told_its_socket_and_no_file() -> None:
    guarded = replace(NORTH, socket=Path("/run/a b/1.sock"))
    told = parse_config_args([commands.node_config(guarded)])
    assert told == {"partition-id": 1, "guard": "/run/a b/1.sock"}


def test_the_device_is_in_the_hospitals_own_configuration() -> None:
    (there,) = Site(SITE.root, "cuda:1").hospitals(["north"])
    assert parse_config_args([commands.node_config(there)])["device"] == "cuda:1"


def test_the_connection_names_our_authority_and_never_says_insecure() -> None:
    found = tomllib.loads(commands.connection(SITE, 4711))["superlink"]
    assert found["default"] == commands.CONNECTION
    assert found[commands.CONNECTION] == {
        "address": "127.0.0.1:4711",
        "root-certificates": str(SITE.authority.certificate),
    }


def test_servers_listen_on_loopback_with_tls_and_node_authentication() -> None:
    link = commands.superlink(SITE, 4711)
    node = commands.supernode(SITE, NORTH, 4711, 4712)
    for command, port in ((link, "4711"), (node, "4712")):
        assert "--insecure" not in command
        assert command[command.index("--host") + 1] == "127.0.0.1"
        assert command[command.index("--port") + 1] == port
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= set(link)
    assert link[link.index("--ssl-keyfile") + 1] == str(SITE.server.key)
    assert link[link.index("--database") + 1] == str(SITE.database)
    assert node[node.index("--root-certificates") + 1] == str(SITE.authority.certificate)
    assert node[node.index("--auth-supernode-private-key") + 1] == str(NORTH.key)
    assert node[node.index("--superlink") + 1] == "127.0.0.1:4711"


def test_a_hospitals_process_is_told_of_no_other_hospital() -> None:
    told = json.dumps([commands.supernode(SITE, NORTH, 1, 2), commands.hospital_environment(NORTH)])
    assert "hospitals/north east/" in told
    assert "hospitals/south" not in told
    assert str(SITE.server.key) not in told
    assert str(SITE.authority.key) not in told


def test_our_own_settings_and_data_stay_with_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAWARD_DATA", "/data/of/all")
    monkeypatch.setenv("METAWARD_HOSPITAL_LOG", "/data/of/all/log")
    server, hospital = commands.server_environment(SITE), commands.hospital_environment(NORTH)
    assert not [key for key in server if key.startswith("METAWARD_")]
    assert {k: v for k, v in hospital.items() if k.startswith("METAWARD_")} == {
        "METAWARD_HOSPITAL_LOG": str(NORTH.log)
    }
    assert server["FLWR_HOME"] != hospital["FLWR_HOME"]
    for env in (server, hospital):
        assert env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert env["FLWR_DISABLE_UPDATE_CHECK"] == "1"
        assert env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
