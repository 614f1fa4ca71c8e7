"""Counters in hand, secrets of lines, contacts: what the head-end remembers of meters between conversations."""

from __future__ import annotations

import asyncio

import pytest

from openami.errors import DataError, InputError, RequestError
from openami.headend.lines import COUNTERS_IN_A_BLOCK, CountersInHand, Lines, reader_title
from openami.headend.session import PUBLIC, READER, UTILITY
from openami.registry import Meter
from openami.store.contacts import COUNTER_END, Contact, Contacts, MeterLine
from openami.store.keys import MasterKey
from openami.store.rows import Rows

MASTER = MasterKey(b"\x42" * 32)
TITLE = b"OAM\x00\x00TST"


@pytest.fixture
def rows(tmp_path):
    made = Rows(tmp_path / "registry.db", create=True)
    meters = [Meter(f"M{k}", bytes(7) + bytes((k,)), "XMA", "XMA-1P", 0, k, 0x20, 1) for k in range(3)]
    made.add_registry([], [], meters, [], [], [("M0", MASTER.wrap(b"e" * 16), MASTER.wrap(b"a" * 16))])
    yield made
    made.close()


def test_counters_are_given_out_once_whoever_asks(rows):
    book = Contacts(rows)
    hands = [CountersInHand(book), CountersInHand(book)]
    spans = [(first, first + 100) for k in range(40) for first in [hands[k % 2].reserve_counters("M0", TITLE, 100, 0)]]
    used = [n for first, behind in spans for n in range(first, behind)]
    assert len(used) == len(set(used))


def test_a_process_that_dies_leaves_its_counters_unused_and_one_that_ends_gives_them_back(rows):
    book = Contacts(rows)
    CountersInHand(book).reserve_counters("M0", TITLE, 100, 0)
    after_death = book.next_counter("M0", TITLE)
    assert after_death == COUNTERS_IN_A_BLOCK
    hand = CountersInHand(book)
    first = hand.reserve_counters("M0", TITLE, 100, 0)
    hand.return_counters("M0", TITLE, first + 7, first + 100)
    hand.close()
    assert (first, book.next_counter("M0", TITLE)) == (after_death, after_death + 7)


def test_what_is_returned_out_of_order_is_not_given_out_again(rows):
    hand = CountersInHand(Contacts(rows))
    first, second = hand.reserve_counters("M0", TITLE, 100, 0), hand.reserve_counters("M0", TITLE, 100, 0)
    hand.return_counters("M0", TITLE, first + 5, first + 100)
    assert hand.reserve_counters("M0", TITLE, 100, 0) == second + 100


def test_a_counter_that_the_meter_is_ahead_with_is_overtaken(rows):
    hand = CountersInHand(Contacts(rows))
    hand.reserve_counters("M0", TITLE, 100, 0)
    assert hand.reserve_counters("M0", TITLE, 100, 1_000_000) == 1_000_000
    assert hand.reserve_counters("M0", TITLE, 100, 0) == 1_000_100


def test_used_up_counters_ask_for_new_keys(rows):
    with pytest.raises(RequestError, match=r"are used up .*order a key change"):
        Contacts(rows).reserve_counters("M0", TITLE, 100, COUNTER_END - 50)


def test_when_a_meter_was_heard_never_goes_back(rows):
    book = Contacts(rows)
    book.note_contacts([Contact("M0", None, 1, 50, "silent")])
    assert book.contacts()["M0"] == Contact("M0", None, 1, 50, "silent")
    book.note_contacts([Contact("M0", 100)])
    book.note_contacts([Contact("M0", None, 1, 200, "silent"), Contact("M1", 5)])
    assert book.contacts() == {"M0": Contact("M0", 100, 1, 200, "silent"), "M1": Contact("M1", 5)}
    book.note_contacts([Contact("M0", 90)])
    assert book.contacts()["M0"].heard_s == 100


def test_a_line_is_changed_by_a_newer_one(rows):
    book = Contacts(rows)
    book.add_lines([MeterLine("M0", "192.0.2.1", 4059)])
    book.add_lines([MeterLine("M0", "192.0.2.2", 4059, True, "dt 7")])
    assert book.lines() == {"M0": MeterLine("M0", "192.0.2.2", 4059, True, "dt 7")}


@pytest.mark.parametrize(
    ("serial", "client", "words"),
    [
        ("M2", READER, "it is not known where meter M2 listens"),
        ("M0", READER, "meter M0 has no password in the registry"),
        ("M0", UTILITY, "meter M0 has no HLS secret in the registry"),
        ("M1", READER, "meter M1 has no keys in the registry"),
    ],
)
def test_what_is_missing_for_a_conversation_is_named(rows, serial, client, words):
    book = Contacts(rows)
    book.add_lines([MeterLine("M0", "127.0.0.1", 1), MeterLine("M1", "127.0.0.1", 1, password_wrapped=MASTER.wrap_secret(b"12345678"))])
    with pytest.raises(InputError, match=words):
        asyncio.run(Lines(rows, MASTER, TITLE).open(serial, client))


def test_another_master_key_opens_nothing(rows):
    Contacts(rows).add_lines([MeterLine("M0", "127.0.0.1", 1, password_wrapped=MASTER.wrap_secret(b"12345678"))])
    with pytest.raises(DataError, match="cannot be unwrapped"):
        asyncio.run(Lines(rows, MasterKey(b"\x43" * 32), TITLE).open("M0", READER))


def test_secrets_show_in_no_repr():
    line = MeterLine("M0", "127.0.0.1", 1, password_wrapped=b"PASSWORD", hls_secret_wrapped=b"HLSSECRET", transfer_key_wrapped=b"TRANSFER")
    assert all(word not in repr(line) for word in ("PASSWORD", "HLSSECRET", "TRANSFER"))


def test_the_reader_asks_under_another_title_than_confirms_pushes():
    assert reader_title(TITLE) != TITLE
    assert len(reader_title(TITLE)) == 8
    assert PUBLIC == 16
