"""The journal: whole batches in order, for ever; damage is named, never read as something else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import DataError, InputError, StorageError
from openami.store.journal import Journal, Refusal, pack, unpack


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.db", create=True)
    yield opened
    opened.close()


def refusal(seq: int, position: int = 0, cause: str = "malformed") -> Refusal:
    return Refusal(seq, position, cause, "why", None, 7, b"\x00\xff")


# Packing


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_packed_frames_come_back(frames: list[bytes]) -> None:
    assert unpack(pack(frames)) == tuple(frames)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.data())
def test_a_shortened_or_lengthened_batch_is_refused(frames: list[bytes], data: st.DataObject) -> None:
    blob = pack(frames)
    cut = data.draw(st.integers(0, len(blob) - 1))
    for damaged in (blob[:cut], blob + b"\x00"):
        with pytest.raises(DataError, match="restore the journal"):
            unpack(damaged)


@given(st.binary(max_size=60))
def test_unpack_of_anything_is_frames_or_a_data_error(blob: bytes) -> None:
    try:
        frames = unpack(blob)
    except DataError:
        return
    assert pack(frames) == blob


# Batches


def test_batches_come_back_in_order_with_their_time(journal: Journal) -> None:
    seqs = [journal.append(frames, at) for frames, at in (([b"a", b"bc"], 10), ([b""], 20), ([b"d"], 15))]
    assert seqs == sorted(seqs)
    assert [(b.seq, b.received_us, b.frames) for b in journal.batches()] == [
        (seqs[0], 10, (b"a", b"bc")),
        (seqs[1], 20, (b"",)),
        (seqs[2], 15, (b"d",)),
    ]


def test_batches_after_a_seq_leave_the_earlier_ones_out(journal: Journal) -> None:
    first, second = journal.append([b"a"], 1), journal.append([b"b"], 2)
    assert [b.seq for b in journal.batches(after=first)] == [second]


def test_frames_are_counted_over_all_batches(journal: Journal) -> None:
    journal.append([b"a", b"b"], 1)
    journal.append([b"c"], 2)
    assert journal.frames() == 3


def test_what_was_appended_is_there_after_reopening(journal: Journal) -> None:
    journal.append([b"a"], 1)
    journal.close()
    again = Journal(journal.path, create=True)
    assert [b.frames for b in again.batches()] == [(b"a",)]
    again.close()


def test_append_is_on_disk_when_it_returns_even_if_the_process_is_killed(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from openami.store.journal import Journal\n"
    code += "Journal(Path(sys.argv[1]), create=True).append([b'kept'], 1); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "journal.db")], check=False)
    assert [b.frames for b in Journal(tmp_path / "journal.db").batches()] == [(b"kept",)]


def test_the_log_is_synced_at_every_commit(journal: Journal) -> None:
    """WAL with synchronous=FULL (2): a commit waits for the disk, so a confirmed frame survives the loss of power."""
    modes = [journal._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert modes == ["wal", 2]


def test_a_reader_beside_the_writer_sees_whole_batches(journal: Journal) -> None:
    journal.append([b"a", b"b"], 1)
    reader = Journal(journal.path)
    seen = reader.batches()
    assert next(seen).frames == (b"a", b"b")
    journal.append([b"c"] * 3, 2)
    assert next(seen).frames == (b"c",) * 3
    reader.close()


def test_a_reader_may_add_refusals_while_frames_come_in(journal: Journal) -> None:
    """`collect` does so beside a running head-end: its refusals must not fail because the journal grew since it began to read."""
    journal.append([b"a"], 1)
    journal.append([b"b"], 2)
    reader = Journal(journal.path)
    for batch in reader.batches():
        if batch.seq < 4:
            journal.append([b"late"], 3)
        reader.refuse([refusal(batch.seq)])
    assert len(reader.quarantine()) == journal.frames()
    reader.close()


# Verdicts


def test_settled_counters_and_refusals_are_remembered_together(journal: Journal) -> None:
    seq = journal.append([b"a"], 1)
    journal.settle(seq, [("M1", 5), ("M2", 9)], [refusal(seq)])
    journal.settle(seq + 1, [("M1", 6)], [])
    assert (journal.settled(), journal.counters()) == (seq + 1, {"M1": 6, "M2": 9})
    assert journal.quarantine() == [refusal(seq)]


def test_a_settle_that_fails_leaves_everything_as_it_was(journal: Journal) -> None:
    journal.settle(3, [("M1", 5)], [])
    with pytest.raises(DataError):
        journal.settle(4, [("M1", 6)], [Refusal(4, 0, None, "", None, 0, b"")])  # type: ignore[arg-type]
    assert (journal.settled(), journal.counters()) == (3, {"M1": 5})


def test_refusals_of_a_reader_do_not_move_how_far_the_headend_has_judged(journal: Journal) -> None:
    reader = Journal(journal.path)
    assert reader.settled() == 0
    journal.settle(8, [("M1", 5)], [])
    reader.refuse([refusal(2)])
    assert journal.settled() == 8
    reader.close()


def test_the_same_refusal_twice_is_one(journal: Journal) -> None:
    for _ in range(2):
        journal.refuse([refusal(1), refusal(1, 1)])
    assert journal.quarantine() == [refusal(1), refusal(1, 1)]


def test_quarantine_gives_the_newest_of_a_cause_newest_last(journal: Journal) -> None:
    journal.refuse([refusal(k, cause="bad_tag" if k % 2 else "policy") for k in range(6)])
    assert [r.seq for r in journal.quarantine("bad_tag", limit=2)] == [3, 5]


# Damage and refusal


def test_a_journal_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no journal at .*journal\.db"):
        Journal(tmp_path / "journal.db")


@pytest.mark.parametrize("create", [True, False])
def test_another_schema_version_is_refused(journal: Journal, create: bool) -> None:
    journal._db.execute("PRAGMA user_version=99")
    journal.close()
    with pytest.raises(DataError, match="schema 99"):
        Journal(journal.path, create=create)


def test_an_empty_file_is_no_journal_to_read(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"")
    with pytest.raises(DataError, match="schema 0"):
        Journal(tmp_path / "journal.db")


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is not a database, but it is long enough to look at" * 40)
    with pytest.raises(DataError, match=r"journal .*journal\.db is corrupt"):
        Journal(path, create=create)
    assert path.read_bytes().startswith(b"this is not")


def test_damaged_pages_are_named(journal: Journal) -> None:
    for k in range(200):
        journal.append([bytes(500)], k)
    journal.close()
    octets = bytearray(journal.path.read_bytes())
    octets[4096:-4096] = b"\xa5" * (len(octets) - 8192)
    journal.path.write_bytes(octets)
    reader = Journal(journal.path)
    with pytest.raises(DataError, match="is corrupt"):
        list(reader.batches())
    reader.close()


def test_a_batch_whose_bytes_were_cut_is_named(journal: Journal) -> None:
    journal.append([b"abc"], 1)
    journal._db.execute("UPDATE batch SET octets = substr(octets, 1, 9)")
    with pytest.raises(DataError, match="a journal batch"):
        list(journal.batches())


def test_a_missing_table_is_the_files_fault_not_the_machines(journal: Journal) -> None:
    journal._db.execute("DROP TABLE counter")
    with pytest.raises(DataError, match="no such table"):
        journal.counters()


def test_a_second_receiver_on_the_same_journal_is_refused(journal: Journal) -> None:
    with pytest.raises(InputError, match="another head-end is writing"):
        Journal(journal.path, create=True)


def test_a_refused_start_does_not_keep_the_next_one_out(journal: Journal) -> None:
    journal._db.execute("PRAGMA user_version=99")
    journal.close()
    with pytest.raises(DataError):
        Journal(journal.path, create=True)
    sqlite3.connect(journal.path, isolation_level=None).execute("PRAGMA user_version=1")
    Journal(journal.path, create=True).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        Journal(tmp_path / "file" / "journal" / "journal.db", create=True)


def test_a_full_disk_stores_nothing_of_the_batch(small_disk: Path) -> None:
    journal = Journal(small_disk / "journal.db", create=True)
    kept = journal.append([b"kept"], 1)
    with pytest.raises(StorageError, match="full"):
        journal.append([os.urandom(4_000_000)], 2)
    assert [b.seq for b in journal.batches()] == [kept]
    assert journal.append([b"after"], 3) > kept
    journal.close()
