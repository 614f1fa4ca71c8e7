"""A simulated meter, and the fleet when nobody answers."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from openami.cosem import ciphering, notification, wrapper
from openami.cosem.ciphering import Keys
from openami.cosem.push import layout_for, read_push
from openami.errors import StorageError
from openami.fleet.faults import plant
from openami.fleet.meter import BLOCK_LOAD_PUSH, SimulatedMeter
from openami.fleet.run import Fleet
from openami.fleet.town import build_town, measure

KEYS = Keys(b"\x01" * 16, b"\x02" * 16)
STAMP = 1_764_528_300


@pytest.mark.parametrize(("maker", "model", "control"), [("XMA", "XMA-1P", 0x20), ("XMB", "XMB-1P", 0x30), ("XMB", "XMB-LTCT", 0x30)])
def test_a_push_says_what_the_meter_measured(maker: str, model: str, control: int) -> None:
    layout = layout_for(maker, model, BLOCK_LOAD_PUSH)
    meter = SimulatedMeter("M1", b"TTTTTTTT", layout, control, KEYS, 41)
    values = {"import_wh": 123, "import_vah": 130}
    (frame,) = wrapper.unwrap(meter.push(STAMP + 5, STAMP, values))
    sealed = ciphering.parse_sealed(frame.apdu)
    push = notification.DataNotification.decode(ciphering.open_sealed(sealed, KEYS))
    read = read_push(layout, push.body)
    assert (sealed.security_control, sealed.invocation_counter, push.long_invoke_id, push.confirmed) == (control, 41, 41, True)
    assert (read.device_id, read.clock_stamp_s) == (b"M1", STAMP + 5)
    assert [(stamp, {k: v for k, v in row.items() if k in values}) for stamp, row in read.rows] == [(STAMP, values)]


def test_every_push_uses_up_one_counter() -> None:
    meter = SimulatedMeter("M1", b"TTTTTTTT", layout_for("XMA", "XMA-1P", BLOCK_LOAD_PUSH), 0x20, KEYS, 7)
    frames = [meter.push(STAMP, STAMP, {}) for _ in range(3)]
    assert [ciphering.parse_sealed(wrapper.unwrap(f)[0].apdu).invocation_counter for f in frames] == [7, 8, 9]


@pytest.mark.parametrize("apdu", [b"", b"\x00", b"\xdb\x08TTTTTTTT", b"\x10\x00\x00\x00\x01\x00"])
def test_what_is_no_confirmation_confirms_nothing(apdu: bytes) -> None:
    meter = SimulatedMeter("M1", b"TTTTTTTT", layout_for("XMB", "XMB-1P", BLOCK_LOAD_PUSH), 0x30, KEYS, 7)
    assert not meter.confirms(apdu, 1)


def test_a_fleet_that_nobody_answers_gives_up_and_says_so() -> None:
    town = build_town(1, 20, date(2025, 12, 1), 1, ("BR-DS2",))
    plan = plant(town)
    measure(town)
    fleet = Fleet(town, plan, "127.0.0.1", lambda: 1, attempts=2)
    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(fleet.run())
    first = caught.value.exceptions[0]
    assert isinstance(first, StorageError)
    assert "in 2 attempts; is it running?" in str(first)
    assert fleet.outcome.confirmed == set()
