"""Rubbish from one address does not fill the journal; a genuine frame from the same address is never dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from openami.headend import gate as module
from openami.headend.gate import Gate, network_of
from openami.headend.intake import Intake
from openami.store.journal import Journal

from .meters import AUTHENTICATED, ENCRYPTED, admission, push

HERE, THERE = "192.0.2.7", "192.0.2.8"


@pytest.fixture
def intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    monkeypatch.setattr(module, "REFUSED_MAX", 5)
    journal = Journal(tmp_path / "journal.db", create=True)
    yield Intake(journal, admission())
    journal.close()


def rubbish(count: int) -> list[bytes]:
    return [b"\x00\x02" + bytes([k]) for k in range(count)]


def test_a_flood_of_rubbish_is_dropped_and_genuine_frames_pass(intake: Intake) -> None:
    intake.take([(HERE, octets) for octets in rubbish(6)])
    replies = intake.take([(HERE, b"\x00\x02more"), (HERE, push(AUTHENTICATED, 1)), (HERE, push(ENCRYPTED, 1))])
    assert [reply is not None for reply in replies] == [False, True, True]
    assert (intake.tally.dropped, intake.journal.frames()) == (1, 8)


def test_another_address_is_not_touched(intake: Intake) -> None:
    intake.take([(HERE, octets) for octets in rubbish(6)])
    intake.take([(THERE, b"\x00\x02more")])
    assert (intake.tally.dropped, intake.journal.frames()) == (0, 7)


def test_a_gateway_with_more_good_frames_than_bad_is_not_limited(intake: Intake) -> None:
    intake.take([(HERE, push(AUTHENTICATED, k)) for k in range(1, 9)])
    intake.take([(HERE, octets) for octets in rubbish(7)])
    intake.take([(HERE, b"\x00\x02more")])
    assert (intake.tally.dropped, intake.journal.frames()) == (0, 16)


def test_a_replay_from_a_limited_address_is_dropped(intake: Intake) -> None:
    intake.take([(THERE, push(AUTHENTICATED, 3))])
    intake.take([(HERE, octets) for octets in rubbish(6)])
    intake.take([(HERE, push(AUTHENTICATED, 2))])
    assert intake.tally.dropped == 1


def test_one_line_for_an_address_and_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    gate.turn(0.0)
    for _ in range(50):
        gate.drop(gate.sender(HERE))
    with caplog.at_level(logging.WARNING):
        assert not gate.turn(59.0)
        assert gate.turn(60.0)
    assert [record.getMessage() for record in caplog.records] == [
        "from 192.0.2.7: 50 frames dropped, 0 refused, 0 taken in within a minute"
    ]


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
