"""``verify`` sees whatever was changed in the file, and says where."""

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.ledger import Ledger, LedgerError, verify
from metaward.privacy.ledger.chain import canonical
from metaward.privacy.ledger.file import key_path
from tests.privacy.ledger.ledger_desk import full, pay, read, vandal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hospital.ledger"
    full(path)
    return path


def body(path: Path, sequence: int) -> bytes:
    (row,) = read(path, f"SELECT body FROM entry WHERE seq = {sequence}")
    return bytes(row[0])


def forge(path: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Rewrite the whole chain with valid hashes: what a knowing forger would do."""
    previous = bytes(32)
    for seq, kind, old in read(path, "SELECT seq, kind, body FROM entry ORDER BY seq"):
        content = json.loads(old)
        change(seq, content)
        new = canonical(content)
        whole = previous + seq.to_bytes(8, "big") + kind.encode() + b"\0" + new
        digest = hashlib.sha256(whole).digest()
        update = "UPDATE entry SET body = ?, previous = ?, hash = ? WHERE seq = ?"
        vandal(path, update, values=(new, previous, digest, seq))
        previous = digest


def test_a_sound_ledger_has_no_faults_and_its_chain_is_what_is_promised(path: Path) -> None:
    """Recomputed here by hand: nothing of the package is used to read or to hash."""
    assert verify(path) == []
    rows = read(path, "SELECT seq, kind, body, previous, hash FROM entry ORDER BY seq")
    kinds = ["init", "charge", "reply", "refusal", "charge", "reply", "charge"]
    assert [kind for _, kind, *_ in rows] == kinds
    last = b"\0" * 32
    for seq, kind, content, previous, digest in rows:
        assert previous == last
        whole = last + seq.to_bytes(8, "big") + kind.encode("ascii") + b"\0" + content
        last = hashlib.sha256(whole).digest()
        assert digest == last
    assert read(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_charge_by_another_unit(path: Path) -> None:
    def change(sequence: int, content: dict[str, Any]) -> None:
        if sequence == 5:
            content["description"]["protection"]["unit"] = "patient"

    forge(path, change)
    assert "row 5 protects each patient, in a ledger that counts by record" in verify(path)


@pytest.mark.parametrize("field", ["noise_multiplier", "sampling_rate"])
def test_a_charge_for_other_sums_than_it_describes(path: Path, field: str) -> None:
    def change(sequence: int, content: dict[str, Any]) -> None:
        if sequence == 5:
            content["description"]["sums"][0][field] = 0.75

    forge(path, change)
    assert "row 5 charges for other noise than its described sums have" in verify(path)


@pytest.mark.parametrize("sequence", range(1, 8))
def test_one_byte_of_a_body(path: Path, sequence: int) -> None:
    """Every byte of every kind of row, one bit each (a different one from byte to byte)."""
    whole = body(path, sequence)
    assert len(whole) > 50
    update = f"UPDATE entry SET body = ? WHERE seq = {sequence}"
    for place in range(0, len(whole), 1 if sequence in (2, 3) else 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        vandal(path, update, values=(bytes(changed),))
        assert any(f"row {sequence} " in fault or sequence == 1 for fault in verify(path)), place
    vandal(path, update, values=(whole,))
    assert verify(path) == []


def test_one_byte_of_the_file(path: Path) -> None:
    """The same without SQL: the bytes of a charge as they lie on the disk."""
    raw, charge = path.read_bytes(), body(path, 2)[:100]
    start = raw.index(charge)
    for place in range(start, start + len(charge), 9):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        assert verify(path) != [], place
    path.write_bytes(raw)
    assert verify(path) == []


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE entry SET kind = 'refusal' WHERE seq = 5"], "row 5 was changed"),
        (["UPDATE entry SET kind = 'note' WHERE seq = 5"], "kind 'note'"),
        (["UPDATE entry SET hash = zeroblob(32) WHERE seq = 5"], "row 6 does not follow"),
        (["UPDATE entry SET previous = zeroblob(32) WHERE seq = 5"], "row 5 does not follow"),
        (["DELETE FROM entry WHERE seq = 4"], "row 5 is where row 4 should be"),
        (["DELETE FROM entry WHERE seq = 1"], "lacks its first row"),
        (
            ["DELETE FROM entry WHERE seq = 4", "UPDATE entry SET seq = seq - 1 WHERE seq > 4"],
            "row 4 does not follow",
        ),
        (
            [
                "UPDATE entry SET seq = -5 WHERE seq = 5",
                "UPDATE entry SET seq = 5 WHERE seq = 2",
                "UPDATE entry SET seq = 2 WHERE seq = -5",
            ],
            "row 2 does not follow",
        ),
        (["UPDATE entry SET seq = -5 WHERE seq = 5"], "row -5 is where"),
        (
            ["UPDATE total SET count = count - 1 WHERE unit = 2"],
            r"table total: 1 .*\(2, .*2\.0",
        ),
        (
            ["UPDATE total SET event = replace(event, '2.0', '9.0') WHERE unit = 2"],
            "table total: 2",
        ),
        (["DELETE FROM total WHERE unit = 1"], r"table total: 1 .*\(1, .*2\.0"),
        (["INSERT INTO total VALUES (9, '{}', 1)"], "table total: 1 "),
        (["UPDATE unit SET name = 'record:00' WHERE id = 2"], "table unit: 1 .*: 2$"),
        (["DELETE FROM unit WHERE id = 2"], "table unit: 1 .*: 2$"),
        (["UPDATE request SET reply = x'00' WHERE charge = 2"], "table request: 1 "),
        (["UPDATE request SET answered = NULL, reply = NULL"], "table request: 2 "),
        (["UPDATE request SET charge = 2 WHERE charge = 7"], "table request: 1 "),
        (["DELETE FROM request WHERE charge = 5"], "table request: 1 "),
        (["UPDATE refused SET count = 2"], "table refused: 1 "),
        (["DELETE FROM refused"], "table refused: 1 "),
        (["DROP TABLE refused"], "'refused' was added, removed"),
        (["CREATE TABLE extra (x)"], "'extra' was added"),
    ],
)
def test_rows_and_tables(path: Path, statements: list[str], words: str) -> None:
    vandal(path, *statements)
    faults = verify(path)
    assert any(re.search(words, fault) for fault in faults), faults


@pytest.mark.parametrize("statement", ["UPDATE entry SET kind = 'x'", "DELETE FROM entry"])
def test_the_triggers_stop_a_careless_hand(path: Path, statement: str) -> None:
    before = read(path, "SELECT * FROM entry")
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        read(path, statement)
    assert read(path, "SELECT * FROM entry") == before


def test_triggers_that_are_gone(path: Path) -> None:
    read(path, "DROP TRIGGER entry_stays")
    assert verify(path) == ["file: table or trigger 'entry_stays' was added, removed or changed"]


def test_a_tail_that_was_cut_off_shows_where_tables_are_left_behind(path: Path) -> None:
    vandal(path, "DELETE FROM entry WHERE seq = 7")
    assert {fault.split(":")[0] for fault in verify(path)} == {"table total", "table request"}


def test_a_tail_that_was_cut_off_cleanly_shows_in_a_mark_only(path: Path) -> None:
    """Row 7 charged unit 1 once more. With its traces removed too, the rest is a sound ledger."""
    ledger = Ledger.open(path)
    seen = ledger.mark()
    assert ledger.holds(seen)
    vandal(
        path,
        "DELETE FROM entry WHERE seq = 7",
        "DELETE FROM request WHERE charge = 7",
        "UPDATE total SET count = count - 4 WHERE unit = 1",
    )
    assert verify(path) == []
    assert not ledger.holds(seen)


def test_a_chain_that_was_forged_as_a_whole_shows_in_a_mark_only(path: Path) -> None:
    seen = Ledger.open(path).mark()

    def change(seq: int, content: dict[str, Any]) -> None:
        if seq == 4:
            content["reason"] = "nothing of importance"

    forge(path, lambda seq, content: None)
    assert Ledger.open(path).holds(seen)  # forging nothing changes nothing
    forge(path, change)
    assert verify(path) == []
    assert not Ledger.open(path).holds(seen)


def test_forged_content_that_makes_no_sense(path: Path) -> None:
    """Valid hashes do not help where a reply has no charge before it, or units have no name."""

    def change(seq: int, content: dict[str, Any]) -> None:
        if seq == 3:
            content["charge"] = 5
        if seq == 5:
            content["new"] = []

    forge(path, change)
    text = "\n".join(verify(path))
    assert "row 3 is a reply without a charge before it" in text
    assert "row 5 charges units 4, which were never named" in text


def test_forged_charges_for_another_deal(path: Path) -> None:
    def change(seq: int, content: dict[str, Any]) -> None:
        if seq == 7:
            content["deal"] = "deal:" + "0" * 64

    forge(path, change)
    assert "row 7 deals the records into other tasks" in "\n".join(verify(path))


def test_forged_second_reply(path: Path) -> None:
    def change(seq: int, content: dict[str, Any]) -> None:
        if seq == 6:
            content["charge"] = 2

    forge(path, change)
    assert "row 6 answers a request that was answered before" in "\n".join(verify(path))


def test_forged_content_that_cannot_be_read(path: Path) -> None:
    def change(seq: int, content: dict[str, Any]) -> None:
        if seq in (5, 6):
            del content["time"]

    forge(path, change)
    assert "rows 5, 6 cannot be read" in "\n".join(verify(path))


def test_nothing_is_built_on_a_row_that_was_changed(path: Path) -> None:
    vandal(path, "UPDATE entry SET body = CAST(' ' || body AS BLOB) WHERE seq = 7")
    with pytest.raises(LedgerError, match="row 7 is not what was once written"):
        pay(Ledger.open(path), 9)


def test_a_key_that_others_can_read(path: Path) -> None:
    key_path(path).chmod(0o640)
    (fault,) = verify(path)
    assert "chmod 600 hospital.ledger.key" in fault


def test_missing_ledger_and_missing_key(path: Path, tmp_path: Path) -> None:
    assert "no ledger" in verify(tmp_path / "other.ledger")[0]
    shutil.move(key_path(path), tmp_path / "away")
    assert "put it back" in verify(path)[0]


def test_faults_name_no_unit(path: Path) -> None:
    """A fault may be mailed to somebody: pseudonyms stay where they are."""
    names = [name for (name,) in read(path, "SELECT name FROM unit")]
    vandal(path, "UPDATE total SET count = count + 1", "UPDATE unit SET name = name || '0'")
    text = "\n".join(verify(path))
    assert "table unit: 4" in text
    assert not any(name.partition(":")[2] in text for name in names)
