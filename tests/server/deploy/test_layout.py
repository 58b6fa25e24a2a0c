"""A deployment's folder: private, safe to make twice, and never at a hospital's expense."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from metaward.options import ConfigError
from metaward.privacy.ledger import Ledger, verify
from metaward.server.deploy.layout import Site, prepare
from metaward.server.folder import BusyError

NAMES = ["north", "east side"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("hospital: null\n")
    return path


@pytest.fixture
def site(tmp_path: Path, policy: Path) -> Site:
    site = Site(tmp_path / "dep")
    with site.lock():
        prepare(site, NAMES, policy, None)
    return site


def test_everything_is_there(site: Site, policy: Path) -> None:
    north, east = site.hospitals(NAMES)
    assert (north.index, east.index) == (0, 1)
    for hospital in (north, east):
        assert hospital.folder == site.root / "hospitals" / hospital.name
        assert hospital.policy.read_bytes() == policy.read_bytes()
        assert hospital.key.is_file()
        assert hospital.public_key.is_file()
        assert list(hospital.data.iterdir()) == []
        assert Ledger.open(hospital.ledger).hospital == hospital.name
        assert verify(hospital.ledger) == []
    assert north.key.read_bytes() != east.key.read_bytes()
    assert site.authority.exists()
    assert site.server.exists()


def test_nobody_else_can_look_in(site: Site) -> None:
    folders = [site.root, *(p for p in site.root.rglob("*") if p.is_dir())]
    assert len(folders) > 8
    inner = site.root / "hospitals"  # its parent and its children are closed
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode)
        assert mode == 0o700 or folder == inner, folder
    assert (site.root / ".gitignore").read_text().splitlines()[-1] == "*"


def test_a_second_time_changes_nothing_that_a_hospital_owns(
    site: Site, policy: Path, tmp_path: Path
) -> None:
    north, _ = site.hospitals(NAMES)
    north.policy.write_text("hospital: north  # stricter\n")
    Ledger.open(north.ledger).refuse("policy-clip", "so that it is not as new")
    (north.data / "records.npz").write_bytes(b"x")
    before = {p: p.read_bytes() for p in site.root.rglob("*") if p.is_file()}
    policy.write_text("hospital: null\nepsilon: 20\n")
    with site.lock():
        prepare(site, NAMES, policy, tmp_path)
    assert {p: p.read_bytes() for p in before} == before
    assert not north.data.is_symlink(), "its own records win over the run's data folder"


def test_a_ledger_that_got_lost_is_not_replaced_by_a_new_one(site: Site, policy: Path) -> None:
    north, _ = site.hospitals(NAMES)
    north.ledger.unlink()
    prepare(site, NAMES, policy, None)
    assert not north.ledger.exists()
    north.ledger.with_name("ledger.sqlite.key").unlink()
    prepare(site, NAMES, policy, None)
    assert not north.ledger.exists()


def test_a_data_folder_is_linked_and_follows_the_run(
    site: Site, policy: Path, tmp_path: Path
) -> None:
    north, _ = site.hospitals(NAMES)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        prepare(site, NAMES, policy, tmp_path / name)
        assert north.data.resolve() == (tmp_path / name).resolve()
    prepare(site, NAMES, policy, None)
    assert not north.data.is_symlink()
    assert list((tmp_path / "second").iterdir()) == []


def test_without_a_policy_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such policy file"):
        prepare(Site(tmp_path / "dep"), NAMES, tmp_path / "none.yaml", None)
    assert not (tmp_path / "dep").exists()


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", 'say "a"', "back\\slash", "two\nlines"]
)
def test_a_name_that_no_folder_or_command_line_can_carry_is_refused(
    tmp_path: Path, policy: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="cannot"):
        prepare(Site(tmp_path / "dep"), ["north", name], policy, None)
    assert not (tmp_path / "dep").exists()


def test_a_folder_with_quotes_is_refused(tmp_path: Path, policy: Path) -> None:
    with pytest.raises(ConfigError, match="cannot carry quotes"):
        prepare(Site(tmp_path / 'a "deployment"'), NAMES, policy, None)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, policy: Path) -> None:
    with pytest.raises(ConfigError, match="holds other files"), Site(tmp_path).lock():
        pass
    assert list(tmp_path.iterdir()) == [policy]


def test_one_deployment_at_a_time(site: Site) -> None:
    with site.lock(), pytest.raises(BusyError, match="another deployment"), site.lock():
        pass
