"""The head-end as a whole on one folder: it reads what is missing, carries out what others queue, notes what they tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import date

import pytest
from typer.testing import CliRunner

from day.sites import make_town
from openami.cli import app
from openami.cli import headend as commands
from openami.control.order import Order, State, What
from openami.cosem import ciphering
from openami.cosem.axdr import Data
from openami.cosem.clock import CosemDateTime
from openami.cosem.notification import DataNotification
from openami.cosem.operations import ControlState
from openami.cosem.register_push import RegisterRow, register_body, register_layout_for
from openami.cosem.wrapper import wrap
from openami.demo.run import found
from openami.headend.registers import FIRST_BREATH, LAST_GASP
from openami.headend.status import read_status
from openami.headend.whole import Headend, Wish
from openami.store.contacts import Contacts, MeterLine
from openami.store.deployment import Folder
from openami.store.heard import Heard
from openami.store.keys import load_master_key
from openami.store.order_book import OrderBook
from openami.store.rows import Rows
from served import MIDNIGHT_S, NOON_S, ServedMeter

from .orders_town import no, yes

NUMBER = 3
GUARD_S = 60
FIRST = date(2025, 12, 1)


@pytest.fixture(scope="module")
def town():
    return make_town(days=1)


@pytest.fixture
def folder(tmp_path, town):
    made = Folder(tmp_path / "data")
    found(made, town)
    return made


@pytest.fixture
def meter(town, folder):
    own = town.meters[NUMBER]
    with ServedMeter(serial=own.serial, keys=town.secrets[own.serial].keys, period_s=900, days=1, months=0, control_mode=4) as served:
        master, rows = load_master_key(folder.master_key), Rows.of(folder)
        identity = served.identity
        secrets = {"password_wrapped": master.wrap_secret(identity.password), "hls_secret_wrapped": master.wrap_secret(identity.hls_secret)}
        secrets["transfer_key_wrapped"] = master.wrap_secret(identity.master_key)
        Contacts(rows).add_lines([MeterLine(own.serial, "127.0.0.1", served.port, **secrets)])
        rows.close()
        yield served


def run(folder: Folder, until: Callable[[Headend], bool], guard=None, push: bytes = b"", now_s=lambda: float(NOON_S)) -> None:
    """A head-end of `folder` at noon (or when `now_s` says), until something is so, then stopped in good order."""

    async def scenario() -> None:
        headend = Headend(folder, Wish("127.0.0.1", 0, scan_s=0.05), guard, now_s)
        port = await headend.start()
        try:
            async with asyncio.timeout(GUARD_S):
                if push:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(push)
                    writer.write_eof()
                    while await reader.read(4096):
                        pass
                    writer.close()
                while not until(headend):
                    await asyncio.sleep(0.01)
        finally:
            await headend.stop()

    asyncio.run(scenario())


def queue(folder: Folder, what: What, serial: str) -> str:
    """As another process does it."""
    rows = Rows.of(folder)
    OrderBook(rows).ask(Order("o1", what, "", serial, NOON_S, who="test", why="test"))
    rows.close()
    return "o1"


def settled(headend: Headend) -> bool:
    return headend.book.order("o1").state in (State.CONFIRMED, State.REFUSED, State.FAILED)


def test_what_is_missing_is_read_into_the_journal_without_being_told(folder, meter):
    serial = meter.identity.serial
    run(folder, lambda headend: headend.rounds.tally.rows.get("block_load", 0) > 0 and headend.rounds.tally.rows.get("daily_load", 0) > 0)
    rows = Rows.of(folder)
    (daily,) = Heard(rows).registers("daily", serial=serial)
    assert (daily.stamp_s, daily.source) == (MIDNIGHT_S, "pull")
    assert daily.import_wh is not None
    status = read_status(folder, NOON_S)
    assert serial not in status.never_heard
    assert len(status.never_heard) == status.meters - 1
    rows.close()
    calls: list[str] = []
    run(folder, lambda headend: calls.append("scan") or len(calls) > 30)
    assert "block_load" not in (read_status(folder, NOON_S).state or {})["read_rows"], "after a restart it knows what is here"


@pytest.mark.parametrize(("guard", "state", "closed"), [(yes, State.CONFIRMED, False), (no, State.REFUSED, True)])
def test_an_order_that_another_process_queued_is_carried_out_as_the_guard_says(folder, meter, guard, state, closed):
    queue(folder, What.DISCONNECT, meter.identity.serial)
    run(folder, settled, guard)
    rows = Rows.of(folder)
    assert OrderBook(rows).order("o1").state is state
    rows.close()
    assert (meter.device.relay.state is ControlState.CONNECTED) is closed
    assert read_status(folder, NOON_S).orders == {str(state): 1}


CALENDAR = {"name": "0904544f5532", "seasons": "0100", "weeks": "0100", "days": "0100"}


@pytest.mark.parametrize(
    ("what", "wish"),
    [("load_limit", {"limit_w": 3000}), ("clock", {}), ("calendar", CALENDAR), ("keys", {"client": 48}), ("image", {})],
)
def test_every_kind_of_order_given_by_command_is_carried_out_over_a_restart(folder, meter, monkeypatch, tmp_path, what, wish):
    firmware = tmp_path / "SIM-2.00.bin"
    firmware.write_bytes(bytes(range(200)) * 3)
    words = ["headend", "order", what, meter.identity.serial, "--who", "test", "--why", "test", "--id", "o1", "--data", str(folder.root)]
    words += ["--wish", json.dumps(wish), *(("--image", str(firmware)) if what == "image" else ())]
    with monkeypatch.context() as patch:
        patch.setattr(commands.time, "time", lambda: float(NOON_S))
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output

    def later(headend: Headend) -> bool:
        meter.now_s += 1
        return settled(headend)

    run(folder, lambda headend: len(headend.book.order("o1").steps) > 1, now_s=lambda: float(meter.now_s))
    run(folder, later, now_s=lambda: float(meter.now_s))
    rows = Rows.of(folder)
    order = OrderBook(rows).order("o1")
    rows.close()
    assert order.state is State.CONFIRMED, order.steps[-1]


def pushed(town, push_object: str, row: RegisterRow, clock_s: int, counter: int) -> bytes:
    own = town.meters[NUMBER]
    layout = register_layout_for(own.maker, own.model, push_object)
    assert layout is not None
    body = register_body(layout, own.serial.encode(), CosemDateTime.from_stamp(clock_s, -330), [row])
    plain = DataNotification(counter & 0xFFFF, True, False, b"", body).encode()
    keys = town.secrets[own.serial].keys
    return wrap(1, 64, ciphering.seal(ciphering.GENERAL_GLO, own.system_title, own.security_control, counter, keys, plain))


def word(*bits: int) -> RegisterRow:
    return RegisterRow(None, {("0.0.94.91.18.255", 2): "".join("1" if k in bits else "0" for k in range(128))})


def test_last_gasp_and_first_breath_are_events_each_time_and_others_only_when_they_change(folder, town):
    own, events = town.meters[NUMBER], "0.4.25.9.0.255"
    frames = [
        pushed(town, events, word(LAST_GASP, 81), NOON_S, 100_001),
        pushed(town, events, word(FIRST_BREATH, 81), NOON_S + 60, 100_002),
        pushed(town, events, word(LAST_GASP), NOON_S + 90, 100_003),
        pushed(town, events, word(LAST_GASP), NOON_S + 99, 100_004),
    ]
    run(folder, lambda headend: headend.listener.tally.confirmed == 4, push=b"".join(frames))
    rows = Rows.of(folder)
    told = [(e.at_s - NOON_S, e.bit, e.occurred, e.code) for e in reversed(Heard(rows).events(serial=own.serial))]
    rows.close()
    assert sorted(told) == [
        (0, 81, True, 201),
        (0, LAST_GASP, True, 0),
        (60, FIRST_BREATH, True, 0),
        (90, 81, False, 202),
        (90, LAST_GASP, True, 0),
        (99, LAST_GASP, True, 0),
    ]


def test_a_register_push_becomes_a_row_and_one_that_cannot_be_read_stands_in_quarantine(folder, town):
    daily = "0.6.25.9.0.255"
    own = town.meters[NUMBER]
    layout = register_layout_for(own.maker, own.model, daily)
    assert layout is not None
    row_sent = RegisterRow(MIDNIGHT_S, {("1.0.1.8.0.255", 2): 123_000})
    body = register_body(layout, own.serial.encode(), CosemDateTime.from_stamp(NOON_S, -330), [row_sent])
    keys = town.secrets[own.serial].keys

    def sealed(counter: int, data) -> bytes:
        plain = DataNotification(counter & 0xFFFF, True, False, b"", data).encode()
        return wrap(1, 64, ciphering.seal(ciphering.GENERAL_GLO, own.system_title, own.security_control, counter, keys, plain))

    strange = Data(body.tag, (*body.value[:3], body.value[2]))
    run(folder, lambda headend: headend.listener.tally.confirmed == 2, push=sealed(100_001, body) + sealed(100_002, strange))
    rows = Rows.of(folder)
    (row,) = Heard(rows).registers("daily")
    rows.close()
    assert (row.serial, row.stamp_s, row.import_wh, row.source) == (own.serial, MIDNIGHT_S, 123_000, "push")
    assert read_status(folder, NOON_S).refused == {"layout": 1}
    assert json.loads(row.rest) == row.others
