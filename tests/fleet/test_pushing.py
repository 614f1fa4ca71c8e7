"""What a simulated meter pushes by itself: its own words, ciphered, repeated until confirmed; and what it does when the supply goes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from openami.cosem import ciphering, notification
from openami.cosem.apdu import Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.is15959 import read_status_word
from openami.cosem.profile import read_buffer
from openami.cosem.register_push import push_kind, push_object_of, read_registers, register_layout_for
from openami.cosem.wrapper import unwrap, wrap
from openami.errors import InputError
from openami.fleet.associations import PUSH
from openami.fleet.device import build_device, new_identity
from openami.fleet.pusher import NotPushed, Pushed, Pusher, Target
from openami.fleet.pushing import INSTANTANEOUS, ROWS_MAX

NOW = 1_790_000_000
BLOCK, DAY = 1800, 86_400
HEADEND = b"OAM\x00TEST"


def meter(**more):
    return build_device(new_identity("XMA0000007", np.random.default_rng(7)), NOW, **{"days": 2, "months": 1, **more})


def opened(device, octets):
    """(security control, invocation counter, notification) of a push's APDU."""
    sealed = ciphering.parse_sealed(octets)
    plain = ciphering.open_sealed(sealed, device.identity.keys)
    return sealed.security_control, sealed.invocation_counter, notification.DataNotification.decode(plain)


def read(push):
    return read_registers(register_layout_for("OAM", "SIM-1P", push_object_of(push.body)), push.body)


def drained(device, now_s):
    """Every push that is due, settled as it comes."""
    found = []
    while (sent := device.pushing.take(now_s)) is not None:
        found.append(read(opened(device, device.pushing.seal(sent))[2]))
        device.pushing.settle(sent)
    return found


def test_the_first_pushes_are_the_newest_of_everything():
    device = meter()
    device.pushing.start(NOW)
    found = {push.kind: push for push in drained(device, NOW)}
    assert set(found) == {"events", "instantaneous", "block_load", "daily", "billing"}
    assert {push.device_id for push in found.values()} == {b"XMA0000007"}
    newest = read_buffer(device.profiles["block_load"].columns, device.profiles["block_load"].get(2, None, NOW))[-1]
    (row,) = found["block_load"].rows
    assert row.stamp_s == newest.stamp_s
    assert row.values["1.0.1.29.0.255", 2] == newest.values[2].value
    assert row.values["1.0.12.27.0.255", 2] == Decimal(newest.values[1].value).scaleb(-2)
    assert found["daily"].rows[0].values["1.0.1.8.0.255", 2] <= found["instantaneous"].rows[0].values["1.0.1.8.0.255", 2]
    assert found["billing"].rows[0].values["1.0.1.6.0.255", 5] < found["billing"].rows[0].stamp_s


def test_every_new_row_is_pushed_once_and_only_when_settled():
    device = meter()
    device.pushing.start(NOW)
    drained(device, NOW)
    later = NOW + 3 * BLOCK
    device.life.advance(later)
    first = device.pushing.take(later)
    again = device.pushing.take(later)
    assert (first.kind, first.rows, again.rows_to) == ("block_load", 3, first.rows_to)
    (push,) = drained(device, later)
    stamps = [row.stamp_s for row in push.rows]
    assert [b - a for a, b in pairwise(stamps)] == [BLOCK, BLOCK]
    assert drained(device, later) == []


def test_many_rows_go_in_several_pushes():
    device = meter()
    device.pushing.start(NOW)
    drained(device, NOW)
    later = NOW + DAY
    device.life.advance(later)
    counts = [len(push.rows) for push in drained(device, later) if push.kind == "block_load"]
    assert counts == [ROWS_MAX, ROWS_MAX, ROWS_MAX]


def test_what_was_put_off_comes_with_the_next_row():
    device = meter()
    device.pushing.start(NOW)
    drained(device, NOW)
    device.life.advance(NOW + BLOCK)
    device.pushing.put_off(device.pushing.take(NOW + BLOCK))
    assert device.pushing.take(NOW + BLOCK) is None
    device.life.advance(NOW + 2 * BLOCK)
    (push,) = drained(device, NOW + 2 * BLOCK)
    assert len(push.rows) == 2


def test_each_attempt_has_its_own_counter_and_the_same_invoke_id():
    device = meter()
    device.pushing.start(NOW)
    sent = device.pushing.take(NOW)
    seen = [opened(device, device.pushing.seal(sent)) for _ in range(2)]
    assert [control for control, _, _ in seen] == [0x20, 0x20]
    assert seen[1][1] == seen[0][1] + 1
    assert [push.long_invoke_id for _, _, push in seen] == [sent.invoke, sent.invoke]
    assert seen[0][2].confirmed


def test_a_written_object_list_changes_the_push():
    device = meter()
    device.pushing.start(NOW)
    drained(device, NOW)
    setup = device.objects[40, INSTANTANEOUS]
    setup.attributes[2] = Data(Tag.ARRAY, setup.attributes[2].value[:4])
    device.run(Ref(40, INSTANTANEOUS, 1), Data(Tag.INTEGER, 0), NOW)
    sent = device.pushing.take(NOW)
    assert (sent.setup, len(sent.body.value)) == (INSTANTANEOUS, 4)


# -- supply -----------------------------------------------------------------------------------------------------------------------


def events(push):
    return {bit.bit for bit in read_status_word(push.status_word)[0]}


def test_an_outage_is_told_as_it_begins_and_as_it_ends_and_silent_in_between():
    device = meter()
    device.pushing.start(NOW)
    drained(device, NOW)
    device.power_off(NOW + 100)
    gasp = device.pushing.take(NOW + 100)
    assert (gasp.last_gasp, gasp.confirmed) == (True, False)
    (push,) = drained(device, NOW + 100)
    assert 85 in events(push)
    assert push.clock_stamp_s == NOW + 100
    device.life.advance(NOW + 2 * BLOCK)
    device.pushing.ask(INSTANTANEOUS)
    assert device.pushing.take(NOW + 2 * BLOCK) is None
    device.power_on(NOW + 2 * BLOCK + 60)
    breath = drained(device, NOW + 2 * BLOCK + 60)[0]
    assert events(breath) & {85, 86} == {86}


def test_an_outage_stands_in_the_event_log_and_the_counters():
    device = meter()
    failures, minutes = device.objects[1, "0.0.96.7.0.255"], device.objects[3, "0.0.94.91.8.255"]
    before = failures.attributes[2].value, minutes.attributes[2].value
    log = device.profiles["events_power"]
    device.power_off(NOW + 60)
    device.power_off(NOW + 90)  # it is off already
    device.power_on(NOW + 60 + 600)
    rows = [(row.stamp_s, row.values[1].value) for row in read_buffer(log.columns, log.get(2, None, NOW + 700))]
    assert rows[-2:] == [(NOW + 60, 101), (NOW + 660, 102)]
    assert (failures.attributes[2].value - before[0], minutes.attributes[2].value - before[1]) in {(1, 10), (1, 11)}


def test_in_the_dark_nothing_is_counted_and_no_block_is_captured():
    lit, dark = meter(), meter()
    dark.power_off(NOW)
    dark.power_on(NOW + 4 * BLOCK)

    def wh(device, at_s):
        return device.objects[3, "1.0.1.8.0.255"].get(2, None, at_s).value

    end = NOW + 8 * BLOCK
    assert wh(dark, NOW + 4 * BLOCK) == wh(dark, NOW) == wh(lit, NOW)
    assert wh(dark, end) - wh(dark, NOW + 4 * BLOCK) == pytest.approx(wh(lit, end) - wh(lit, NOW + 4 * BLOCK), abs=1)
    stamps = [
        [row.stamp_s for row in read_buffer(d.profiles["block_load"].columns, d.profiles["block_load"].get(2, None, end))]
        for d in (lit, dark)
    ]
    gone = set(stamps[0]) - set(stamps[1])
    assert len(gone) == 4
    assert all(NOW < stamp <= NOW + 4 * BLOCK for stamp in gone)


def test_blocks_add_up_to_the_register_over_an_outage():
    device = meter()
    profile, register = device.profiles["block_load"], device.objects[3, "1.0.1.8.0.255"]
    start = read_buffer(profile.columns, profile.get(2, None, NOW))[-1].stamp_s
    begin = register.get(2, None, start).value if start == NOW else None
    device.power_off(NOW + 700)
    device.power_on(NOW + 9_000)
    end = start + 10 * BLOCK
    device.life.advance(end)
    total = register.get(2, None, end).value
    rows = [row for row in read_buffer(profile.columns, profile.get(2, None, end)) if row.stamp_s > start]
    twin = meter()
    twin.life.advance(start)
    before = begin if begin is not None else twin_register(start)
    assert sum(row.values[2].value for row in rows) == total - before


def twin_register(at_s):
    """The register at an earlier instant: a meter built then shows it."""
    device = build_device(new_identity("XMA0000007", np.random.default_rng(7)), at_s, days=2, months=1)
    return device.objects[3, "1.0.1.8.0.255"].get(2, None, at_s).value


def test_a_bill_that_falls_into_the_dark_is_made():
    device = meter(months=0)
    count = len(device.profiles["billing"])
    device.power_off(NOW)
    device.power_on(NOW + 40 * DAY)
    assert len(device.profiles["billing"]) == count + 1


# -- on the wire ------------------------------------------------------------------------------------------------------------------


class Headend(asyncio.DatagramProtocol):
    """Takes pushes over TCP and UDP, confirms all but the first `deaf` ones."""

    def __init__(self, device, deaf=0):
        self.device, self.deaf, self.pushes, self.counters = device, deaf, [], []
        self.came = asyncio.Event()

    def answer(self, frame):
        control, counter, push = opened(self.device, frame.apdu)
        assert (frame.source, frame.destination) == (1, PUSH)
        self.counters.append(counter)
        self.came.set()
        if len(self.counters) <= self.deaf:
            return b""
        self.pushes.append(read(push))
        confirm = notification.DataNotificationConfirm(push.long_invoke_id, True, False, b"").encode()
        keys = self.device.identity.keys
        return wrap(PUSH, 1, ciphering.seal(ciphering.GENERAL_GLO, HEADEND, control, counter, keys, confirm)) if push.confirmed else b""

    async def stream(self, reader, writer):
        try:
            while head := await reader.readexactly(8):
                (frame,) = unwrap(head + await reader.readexactly(int.from_bytes(head[6:], "big")))
                writer.write(self.answer(frame))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        (frame,) = unwrap(data)
        self.transport.sendto(self.answer(frame), addr)


async def served(headend, udp):
    if udp:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: headend, local_addr=("127.0.0.1", 0))
        return transport, transport.get_extra_info("sockname")[1]
    server = await asyncio.start_server(headend.stream, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def until(holds, told):
    async with asyncio.timeout(20):
        while not holds():
            await told.wait()
            told.clear()


def pushed(device, udp, deaf=0, confirmed=True, work=None, count=5):
    """(what the head-end got, what the pusher told)."""

    async def run():
        headend, told, changed = Headend(device, deaf), [], asyncio.Event()

        def tell(one):
            told.append(one)
            changed.set()

        server, port = await served(headend, udp)
        pusher = Pusher(device, Target("127.0.0.1", port, udp), tell, clock=lambda: NOW)
        pusher.answer_s = 0.2 if deaf else 5.0
        task = asyncio.create_task(pusher.run(confirmed))
        await until(lambda: len(told) >= count, changed)
        if work:
            await work(device, headend)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.close()
        return headend, told

    return asyncio.run(run())


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "unconfirmed"])
def test_pushes_arrive_over_real_sockets(udp, confirmed):
    headend, told = pushed(meter(), udp, confirmed=confirmed)
    assert {push.kind for push in headend.pushes} == {"events", "instantaneous", "block_load", "daily", "billing"}
    assert {(one.confirmed, one.attempts) for one in told} == {(confirmed, 1)}
    assert headend.counters == sorted(set(headend.counters))


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_push_without_confirmation_is_repeated_under_a_fresh_counter(udp):
    headend, told = pushed(meter(), udp, deaf=1, count=1)
    assert told[0] == Pushed("events", "0.4.25.9.0.255", 0, True, 2)
    assert headend.counters[0] < headend.counters[1]


def test_a_head_end_that_is_not_there_is_told_and_the_rows_are_kept():
    device = meter()
    for setup in device.tables.pushes:
        device.objects[40, setup].attributes[6] = Data(Tag.UNSIGNED, 0)

    async def run():
        server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        told, changed = [], asyncio.Event()
        task = asyncio.create_task(
            Pusher(device, Target("127.0.0.1", port), lambda one: (told.append(one), changed.set()), clock=lambda: NOW).run()
        )
        await until(lambda: len(told) >= 5, changed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return told

    told = asyncio.run(run())
    assert all(isinstance(one, NotPushed) and "no connection" in one.why for one in told[:5])
    device.pushing.ask("0.5.25.9.0.255")
    assert device.pushing.take(NOW).rows == 1


def test_the_last_gasp_leaves_and_then_nothing():
    async def outage(device, headend):
        headend.came.clear()
        device.power_off(NOW)
        async with asyncio.timeout(10):
            await headend.came.wait()

    headend, _ = pushed(meter(), udp=True, work=outage)
    assert 85 in events(headend.pushes[-1])


@pytest.mark.parametrize("text", ["", "host", "host:", ":4059", "host:0", "host:70000", "host:x", "::1:4059"])
def test_a_wrong_target_is_one_sentence(text):
    with pytest.raises(InputError, match="HOST:PORT"):
        Target.parse(text)


def test_targets_of_both_families():
    assert str(Target.parse("[::1]:4059")) == "[::1]:4059"
    assert Target.parse("head-end:4059", True) == ("head-end", 4059, True)
    assert {push_kind(setup) for setup in meter().tables.pushes} == {"instantaneous", "events", "block_load", "daily", "billing"}
