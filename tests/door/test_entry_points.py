"""Parts that an installed package offers: found lazily, and run where a policy names them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import metaward as mw
from metaward.client.desk import NETWORK, asked_plugins
from metaward.privacy import Refusal
from tests.client.bedside import OPEN, Site, request
from tests.server.small import SMALL

TINY = """
import torch
def tiny(input_shape: tuple[int, ...], width: int = 4) -> torch.nn.Module:
    return torch.nn.Linear(input_shape[0], width)
number = 3
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package into a folder of sys.path, with entry points as pip would write them."""

    def installed(package: str, code: str = TINY, group: str = "networks", **offers: str) -> None:
        (tmp_path / f"{package}.py").write_text(code, encoding="utf-8")
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {package}\nVersion: 1.2\n", encoding="utf-8")
        lines = "".join(f"{name} = {package}:{what}\n" for name, what in offers.items())
        (info / "entry_points.txt").write_text(f"[metaward.{group}]\n{lines}", encoding="utf-8")
        monkeypatch.delitem(sys.modules, package, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    return installed


def with_network(name: str, **options: object) -> mw.ConfigError | object:
    return mw.load(SMALL, {"client.model": {"network": name, **options}})


def test_a_package_adds_a_network_without_a_fork(install: Install, tmp_path: Path) -> None:
    install("demo_parts", tiny="tiny")
    run = mw.load(SMALL, {"client.model": {"network": "tiny", "width": 3}})
    assert run.client.model.width == 3  # type: ignore[attr-defined]
    assert "demo_parts" in sys.modules
    assert mw.run(mw.load(run, {"server.workers": 2}), tmp_path / "run").table


def test_nothing_of_a_package_is_imported_before_it_is_used(install: Install) -> None:
    install("demo_parts", tiny="tiny")
    install("demo_broken", "raise OSError('no library')", broken="x", other="y")
    offered = r"unknown 'tyni'; choose from .*, broken, other, tiny"
    with pytest.raises(mw.ConfigError, match=offered):
        with_network("tyni")
    mw.load(SMALL)
    assert not {"demo_parts", "demo_broken"} & set(sys.modules)


def test_a_broken_one_is_named_when_it_is_used(install: Install) -> None:
    install("demo_broken", "raise OSError('no library')", broken="x")
    install("demo_parts", absent="nothing", wrong="number", tiny="tiny")
    for name, text in (
        ("broken", r"broken of demo_broken 1\.2 cannot be used: OSError: no library"),
        ("absent", r"absent of demo_parts 1\.2 cannot be used: AttributeError"),
        ("wrong", r"wrong of demo_parts 1\.2 cannot be used: TypeError: wrong: give a module"),
    ):
        with pytest.raises(mw.ConfigError, match=rf"client\.model\.network: {text}"):
            with_network(name)
    with_network("tiny")


def test_two_packages_with_one_name(install: Install) -> None:
    install("demo_one", tiny="tiny")
    install("demo_two", tiny="tiny")
    with pytest.raises(mw.ConfigError, match=r"demo_(one|two) 1\.2 and demo_(one|two) 1\.2"):
        with_network("tiny")


def test_metawards_own_names_and_the_programs_come_first(install: Install) -> None:
    install("demo_parts", mlp="tiny", tiny="tiny")
    assert type(mw.load(SMALL).client.model).__name__ == "Mlp"
    mw.register.network("tiny", lambda shape: __import__("torch").nn.Linear(shape[0], 2))
    with_network("tiny")
    assert "demo_parts" not in sys.modules


# ------------------------------------------------------------------------- at a real hospital


def asked_for(name: str) -> object:
    """A request of a run with that network, from a server that has it."""
    run = with_network(name)
    return request(run)  # type: ignore[arg-type]


def forget() -> None:
    """As a hospital's process that has not loaded it yet."""
    sys.modules.pop("demo_parts", None)
    assert NETWORK.plugins is not None
    NETWORK.plugins.entries.clear()


def test_a_hospital_runs_the_plug_ins_that_its_policy_names(
    install: Install, tmp_path: Path
) -> None:
    install("demo_parts", tiny="tiny")
    content = asked_for("tiny")
    forget()
    site = Site(tmp_path, **OPEN)
    answer = site.ask("train", content)  # type: ignore[arg-type]
    assert answer == Refusal("policy-plugin")
    assert "demo_parts" not in sys.modules, "refused before its code was loaded"
    assert site.charges() == 0
    site.write(**OPEN, plugins=["network:other", "algorithm:tiny"])
    assert site.ask("train", content) == Refusal("policy-plugin")  # type: ignore[arg-type]
    site.write(**OPEN, plugins=["network:tiny"])
    assert not isinstance(site.ask("train", content), Refusal)  # type: ignore[arg-type]
    assert "demo_parts" in sys.modules


def test_what_a_desk_asks_for_is_found_without_loading_it() -> None:
    desk = json.loads(mw.load(SMALL).desk().json())
    assert asked_plugins(json.dumps(desk)) == []
    desk["architecture"]["network"] = "tiny"
    desk["learner"]["algorithm"] = "mine"
    assert asked_plugins(json.dumps(desk)) == ["network:tiny", "algorithm:mine"]
    for text in ("", "[]", "{", '{"architecture": 3, "learner": {"algorithm": null}}'):
        assert asked_plugins(text) == []
    assert asked_plugins('{"source": {"source": ["x"]}, "mechanism": {"mechanism": 3}}') == []
