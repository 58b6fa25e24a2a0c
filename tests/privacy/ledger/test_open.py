"""Make and open a ledger, and every way to open the wrong file."""

import os
import resource
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from metaward.privacy.ledger import Ledger, LedgerError, verify
from metaward.privacy.ledger import file as files
from metaward.privacy.ledger.file import key_path
from tests.privacy.ledger.ledger_desk import code_of, pay, read, spent, vandal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital.ledger"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger.create(path, "phantom-01", "a privacy officer")


def test_a_new_ledger_says_whose_it_is_who_made_it_and_when(ledger: Ledger, path: Path) -> None:
    again = Ledger.open(path)
    assert again == ledger
    assert len(bytes.fromhex(again.id)) == 8
    history = again.history()
    assert (history.hospital, history.who) == ("phantom-01", "a privacy officer")
    assert history.created.endswith("+00:00")
    assert (history.charges, history.replies, history.refusals) == ((), (), ())
    assert verify(path) == []


def test_both_files_are_for_their_owner_only(ledger: Ledger, path: Path) -> None:
    for file in (path, key_path(path)):
        assert file.stat().st_mode & 0o777 == 0o600
    assert len(key_path(path).read_bytes()) == 32


def test_two_ledgers_have_nothing_in_common(ledger: Ledger, tmp_path: Path) -> None:
    """The same record has another pseudonym elsewhere: two ledgers cannot be joined."""
    other = Ledger.create(tmp_path / "other.ledger", "phantom-01")
    assert other.id != ledger.id
    assert other.secret != ledger.secret
    for one in (ledger, other):
        pay(one, 1, "a")
    names = [read(one.path, "SELECT name FROM unit") for one in (ledger, other)]
    assert len(names[0]) == 1
    assert names[0] != names[1]


def test_the_secret_is_not_printed(ledger: Ledger) -> None:
    assert repr(ledger.secret) not in repr(ledger)
    assert "phantom-01" in repr(ledger)


def test_a_ledger_is_never_overwritten(ledger: Ledger, path: Path) -> None:
    pay(ledger, 1)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="never overwritten") as error:
        Ledger.create(path, "phantom-01")
    assert code_of(error) == "ledger-exists"
    path.rename(path.with_name("away"))
    with pytest.raises(LedgerError, match=r"\.key exists") as error:
        Ledger.create(path, "phantom-01")
    assert code_of(error) == "ledger-exists"
    assert path.with_name("away").read_bytes() == before


def test_create_needs_a_name_and_a_folder(path: Path) -> None:
    with pytest.raises(ValueError, match="hospital is empty"):
        Ledger.create(path, " ")
    with pytest.raises(LedgerError, match="cannot be made") as error:
        Ledger.create(path / "no-such-folder" / "a", "phantom-01")
    assert code_of(error) == "ledger-unwritable"


class Killed(BaseException):
    """In the place of a kill: nothing after it is carried out."""


@pytest.mark.parametrize("step", ["_empty", "_create", "rename", "os.fsync"])
def test_a_process_that_is_killed_while_it_makes_a_ledger_leaves_none_or_a_whole_one(
    step: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise Killed

    at = {"rename": Path, "os.fsync": os}.get(step, files)
    name, count = step.rpartition(".")[2], iter(range(9))
    real = getattr(at, name)
    before = {"_create": 1, "os.fsync": 2}.get(step, 0)  # calls that come before the kill
    with monkeypatch.context() as patch:
        patch.setattr(at, name, lambda *a, **k: (real if next(count) < before else dies)(*a, **k))
        with pytest.raises(Killed):
            Ledger.create(path, "phantom-01")
    if step == "os.fsync":
        assert Ledger.open(path).hospital == "phantom-01"
    else:
        with pytest.raises(LedgerError, match=r"there is no ledger|is missing"):
            Ledger.open(path)
        Ledger.create(path, "phantom-01")
    assert verify(path) == []
    assert not list(path.parent.glob(".*making*"))


def test_two_processes_that_make_a_ledger_make_one(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        tries = [pool.submit(Ledger.create, path, "phantom-01") for _ in range(4)]
    errors = [error for one in tries if (error := one.exception()) is not None]
    assert [getattr(error, "code", error) for error in errors] == ["ledger-exists"] * 3
    assert verify(path) == []


def test_missing_ledger(path: Path) -> None:
    with pytest.raises(LedgerError, match="ledger init") as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-missing"
    assert not path.exists()


def test_a_ledger_that_was_there_and_is_gone(ledger: Ledger, path: Path) -> None:
    """It is not made anew, neither at the start nor in the middle of a run."""
    path.unlink()
    with pytest.raises(LedgerError, match="from a backup") as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-missing"
    with pytest.raises(LedgerError) as error:
        pay(ledger, 1)
    assert code_of(error) == "ledger-missing"
    assert not path.exists()


def test_missing_key(ledger: Ledger, path: Path) -> None:
    key_path(path).unlink()
    with pytest.raises(LedgerError, match="put it back") as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-missing"


def test_wrong_key(ledger: Ledger, path: Path) -> None:
    """With another key every record would look as if it had never been used."""
    key_path(path).write_bytes(os.urandom(32))
    with pytest.raises(LedgerError, match="another ledger's key") as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-damaged"
    key_path(path).write_bytes(b"short")
    with pytest.raises(LedgerError, match="5 bytes, not 32"):
        Ledger.open(path)


def damaged(path: Path, words: str) -> None:
    with pytest.raises(LedgerError, match=words) as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-damaged"
    assert len(verify(path)) == 1


def test_files_that_are_no_ledger(ledger: Ledger, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(b"")
    damaged(path, "is empty")
    path.write_bytes(whole[: len(whole) // 2])
    damaged(path, "damaged")
    path.write_bytes(whole[:50])
    damaged(path, "not a ledger")
    path.write_text("Dear colleague, the ledger is in the other folder. " * 100)
    damaged(path, "not a ledger")
    path.write_bytes(whole)
    assert Ledger.open(path) == ledger


def test_another_programs_database(ledger: Ledger, path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE entry (seq); INSERT INTO entry VALUES (1);")
    damaged(path, "another program")


def test_another_format_and_a_ledger_without_rows(ledger: Ledger, path: Path) -> None:
    vandal(path, "PRAGMA user_version = 1")
    damaged(path, "format 1")
    vandal(path, "PRAGMA user_version = 3", "DELETE FROM entry")
    damaged(path, "lacks its first row")


def test_a_folder_is_no_ledger(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LedgerError) as error:
        Ledger.open(path)
    assert code_of(error) == "ledger-missing"


def test_a_full_disk(ledger: Ledger, path: Path) -> None:
    """Files may not grow here: the charge fails as a whole, and later it can be made."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        with pytest.raises(LedgerError, match="space and permissions") as error:
            pay(ledger, 1, range(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code_of(error) == "ledger-unwritable"
    assert spent(ledger, "record:7") == ()
    assert pay(ledger, 1, range(2000)).sequence == 2
    assert verify(path) == []


def test_a_ledger_that_is_held(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaward.privacy.ledger.file.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another process") as error:
            pay(ledger, 1)
    assert code_of(error) == "ledger-busy"
    assert pay(ledger, 1).sequence == 2
