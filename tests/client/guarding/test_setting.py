"""``guard.yaml``: read strictly, every fault named, nothing started with a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from metaward.client.errors import NodeError
from metaward.client.guarding.relay import relay
from metaward.client.guarding.service import listening
from metaward.client.guarding.setting import GuardSetting
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.privacy.wire import encode_request
from tests.client.bedside import request
from tests.client.guarding.post import Post


@pytest.fixture
def made(tmp_path: Path) -> Post:
    return Post(tmp_path)


def test_relative_paths_start_at_the_files_folder(made: Post) -> None:
    setting = GuardSetting.read(made.settings)
    assert setting.socket == str(made.socket)
    assert setting.node["ledger"] == str(made.path)
    assert setting.node["partition-id"] == 0
    setting.check()


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        ({"ledgr": "x"}, r"node.ledgr: no such key; did you mean ledger\?"),
        ({"simulation": "/tmp"}, "node.simulation: no such key; choose from"),
        ({"guard": "/tmp"}, "node.guard: no such key"),
        ({"policy": ""}, "node.policy: missing"),
        ({"partition-id": None}, "node.partition-id: missing"),
        ({"device": [1]}, r"node.device: \[1\] is no text"),
    ],
)
def test_a_wrong_key_is_named(made: Post, node: dict[str, Any], fault: str) -> None:
    made.set(**node)
    with pytest.raises(ConfigError, match=fault):
        GuardSetting.read(made.settings)


@pytest.mark.parametrize("key", ["partition-id", "policy", "ledger", "signing-key", "audit-log"])
def test_a_missing_key_is_named(made: Post, key: str) -> None:
    content = yaml.safe_load(made.settings.read_text())
    del content["node"][key]
    made.settings.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=f"node.{key}: missing"):
        GuardSetting.read(made.settings)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("socket: [", "yaml"),
        ("socket: a\n", "node"),
        ("", ""),
        ("socket: ''\nnode: {}", "socket"),
    ],
)
def test_what_is_no_setting_is_refused(made: Post, text: str, fault: str) -> None:
    made.settings.write_text(text)
    with pytest.raises(MetawardError, match=f"(?i){fault}"):
        GuardSetting.read(made.settings)


def test_a_missing_file_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="deploy init"):
        GuardSetting.read(tmp_path / "guard.yaml")


def test_policy_ledger_key_and_device_are_tried_before_the_start(made: Post) -> None:
    for node, code in (
        ({"policy": "none.yaml"}, "policy-missing"),
        ({"ledger": "none"}, "there is no ledger"),
        ({"signing-key": "none"}, "cannot be read"),
        ({"device": "gpu"}, "'gpu' is not cpu"),
    ):
        made.set(**node)
        with pytest.raises(MetawardError, match=code):
            GuardSetting.read(made.settings).check()


def test_a_socket_of_a_guard_that_ended_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "guard.sock"
    with listening(place):
        place.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(place)
    with listening(place):
        assert place.is_socket()
        assert place.stat().st_mode & 0o777 == 0o660
    assert not place.exists()


def test_no_file_is_removed_for_a_socket(tmp_path: Path) -> None:
    place = tmp_path / "ledger.sqlite"
    place.write_bytes(b"all that was spent")
    with pytest.raises(NodeError, match="name another place"), listening(place):
        pass
    assert place.read_bytes() == b"all that was spent"


def test_too_long_a_name_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with (
        pytest.raises(NodeError, match="too long; name another place"),
        listening(tmp_path / ("x" * 120)),
    ):
        pass


def test_without_a_guard_the_hospital_says_so(made: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaward.client.guarding.relay.AWAY_SECONDS", 0.2)
    with pytest.raises(NodeError, match="start it: metaward guard") as caught:
        relay(made.socket, "train", encode_request(request()), 7)
    assert caught.value.code == "guard-missing"
