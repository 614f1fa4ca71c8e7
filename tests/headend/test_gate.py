"""Rubbish does not fill the journal; a genuine frame from the same address is never left out; what is not stored is counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from openami.headend import gate as module
from openami.headend import intake as intake_module
from openami.headend.gate import REFILL_S, Allowance, Gate, network_of
from openami.headend.intake import Intake
from openami.store.deployment import Deployment
from openami.store.journal import Journal

from .meters import AUTHENTICATED, ENCRYPTED, admission, push

HERE, THERE = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    """One whose clock is `at`; a KiB an hour of one address, two of all."""
    journal = Journal(tmp_path / "journal.db", create=True)
    at = [1_000.0]
    monkeypatch.setattr(intake_module.time, "monotonic", lambda: at[0])
    intake = Intake(journal, admission(), allowance=Allowance(percent=100, address_kib=1, all_kib=2))
    intake.at = at  # type: ignore[attr-defined]
    yield intake
    journal.close()


def rubbish(octets: int = 1_024) -> bytes:
    return b"\x00\x02".ljust(octets, b"\xee")


def test_a_flood_of_rubbish_is_left_out_and_counted_and_genuine_frames_pass(intake: Intake) -> None:
    intake.take([(HERE, rubbish())])
    replies = intake.take([(HERE, b"\x00\x02more"), (HERE, push(AUTHENTICATED, 1)), (HERE, push(ENCRYPTED, 1))])
    assert [reply is not None for reply in replies] == [False, True, True]
    assert (intake.tally.not_stored, intake.journal.frames()) == ({"malformed": 1}, 3)


def test_each_cause_is_counted_as_it_would_have_been_refused(intake: Intake) -> None:
    intake.take([(THERE, push(AUTHENTICATED, 3))])
    intake.take([(HERE, rubbish())])
    forged = bytearray(push(AUTHENTICATED, 4))
    forged[-1] ^= 1
    stranger = bytearray(push(AUTHENTICATED, 5))
    stranger[10:18] = b"NOBODYIS"
    intake.take([(HERE, one) for one in (bytes(forged), bytes(stranger), push(AUTHENTICATED, 2), b"\x00\x01")])
    assert intake.tally.not_stored == {"bad_tag": 1, "unknown_meter": 1, "replayed_counter": 1, "malformed": 1}
    assert intake.admission.counter(AUTHENTICATED.serial) == 3


def test_another_address_has_room_of_its_own(intake: Intake) -> None:
    intake.take([(HERE, rubbish())])
    intake.take([(THERE, rubbish(512))])
    assert (intake.tally.not_stored, intake.journal.frames()) == ({}, 2)


def test_all_together_have_no_more_than_their_room(intake: Intake) -> None:
    intake.take([(HERE, rubbish(1_020)), (THERE, rubbish(1_030))])
    intake.take([("192.0.2.9", rubbish(10))])
    assert (intake.tally.not_stored, intake.journal.frames()) == ({"malformed": 1}, 2)


def test_a_gateway_earns_room_by_its_genuine_frames(intake: Intake) -> None:
    genuine = [push(AUTHENTICATED, k) for k in range(1, 5)]
    intake.take([(HERE, rubbish()), (THERE, rubbish())])
    intake.take([(HERE, octets) for octets in genuine])
    earned = sum(map(len, genuine))
    intake.take([(HERE, rubbish(earned))])
    intake.take([(HERE, rubbish(10)), (THERE, rubbish(10))])
    assert (intake.tally.not_stored, intake.journal.frames()) == ({"malformed": 2}, 7)


def test_room_comes_back_with_time(intake: Intake) -> None:
    intake.take([(HERE, rubbish(2_048))])  # a batch may take too much: it is paid back
    intake.at[0] += REFILL_S  # type: ignore[attr-defined]
    intake.take([(HERE, rubbish(10))])
    assert intake.tally.not_stored == {"malformed": 1}
    intake.at[0] += 60  # type: ignore[attr-defined]
    intake.take([(HERE, rubbish(10))])
    assert (intake.tally.not_stored, intake.journal.frames()) == ({"malformed": 1}, 2)


def test_one_line_for_an_address_and_minute(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    gate.turn(0.0)
    for _ in range(50):
        gate.leave_out(gate.sender(HERE), "malformed")
    with caplog.at_level(logging.WARNING):
        assert not gate.turn(59.0)
        assert gate.turn(60.0)
        assert gate.turn(120.0)
    assert [record.getMessage() for record in caplog.records] == [
        "from 192.0.2.7 within a minute: 0 frames taken in, 0 refused; refused and not stored: 50 malformed"
    ]


def test_who_was_not_heard_for_an_hour_is_forgotten() -> None:
    gate = Gate()
    gate.turn(0.0)
    gate.sender(HERE)
    gate.turn(REFILL_S + 1)
    assert not gate._senders


def test_the_folder_sets_the_room() -> None:
    deployment = Deployment("x", "Asia/Kolkata", 15, date(2025, 12, 1), 1, "BR", "00" * 8, refused_all_kib=7, refused_percent=0)
    assert Allowance.of(deployment) == Allowance(0, Allowance().address_kib, 7)


def test_memory_does_not_grow_with_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESSES_MAX", 3)
    gate = Gate()
    for k in range(10):
        gate.sender(f"192.0.2.{k}")
    assert list(gate._senders) == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:9::", "2001:db8::/64"),
    ],
)
def test_an_ipv6_network_counts_as_one(host: str, network: str) -> None:
    assert network_of(host) == network
