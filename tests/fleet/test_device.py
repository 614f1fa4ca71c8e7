"""The simulated meter as a server: what it holds, what it counts, who may do what, over real sockets in both framings."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem.acse import Mechanism
from openami.cosem.apdu import AccessResult, ActionOutcome, Item, Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.clock import CosemDateTime
from openami.cosem.objects import read_scaler_unit
from openami.cosem.operations import KeyId, key_transfer
from openami.cosem.profile import by_range, read_buffer, read_captures
from openami.cosem.server import Served, Violation
from openami.errors import InputError, MeterError, RequestError
from openami.fleet.associations import RELAY_OBIS
from openami.fleet.device import build_device, new_identity
from openami.fleet.households import load_households, true_consumption
from openami.fleet.life import Load
from openami.fleet.serve import serve_device
from openami.headend.session import FIRMWARE, PUBLIC, READER, UTILITY, Credentials, Denied, MeterAddress, SilentMeter, open_session

NOW = 1_790_000_000
DAY = 86_400
MIDNIGHT = (NOW + 19_800) // DAY * DAY - 19_800
BLOCK_LOAD = Ref(7, "1.0.99.1.0.255", 2)
RELAY = Ref(70, RELAY_OBIS, 1)
IMPORT_WH = (3, "1.0.1.8.0.255")
NAME = Item(Ref(1, "0.0.42.0.0.255", 2))
ZERO = Data(Tag.INTEGER, 0)


def identity(hls=Mechanism.HLS):
    return new_identity("XMA0000007", np.random.default_rng(7), hls)


def meter(**more):
    return build_device(identity(more.pop("hls", Mechanism.HLS)), NOW, **{"days": 3, "months": 0, **more})


@pytest.fixture(scope="module")
def untouched():
    """A meter that no test changes."""
    return meter(months=2)


def wh(device, at_s, key=IMPORT_WH):
    return device.objects[key].get(2, None, at_s).value


def rows(device, name, now_s=NOW):
    profile = device.profiles[name]
    return read_buffer(profile.columns, profile.get(2, None, now_s))


# -- what it holds ----------------------------------------------------------------------------------------------------------------


def test_block_load_has_every_interval_of_its_days(untouched):
    stamps = [row.stamp_s for row in rows(untouched, "block_load")]
    assert stamps[0] == MIDNIGHT - 3 * DAY + 1800
    assert {later - sooner for sooner, later in pairwise(stamps)} == {1800}
    assert NOW - 1800 < stamps[-1] <= NOW


def test_blocks_add_up_to_the_days_and_days_to_the_register(untouched):
    blocks = rows(untouched, "block_load")
    daily = rows(untouched, "daily_load")
    for before, after in pairwise(daily):
        inside = [row.values[2].value for row in blocks if before.stamp_s < row.stamp_s <= after.stamp_s]
        assert len(inside) == 48
        assert sum(inside) == after.values[1].value - before.values[1].value


def test_a_week_is_the_week_of_a_real_household(untouched):
    data = load_households()
    number = int(np.random.default_rng(1).integers(0, len(data.ids)))
    weeks = true_consumption(data.metered_wh[number].reshape(1, -1))[0].reshape(7, -1).sum(axis=1)
    monday = MIDNIGHT - datetime.fromtimestamp(MIDNIGHT + 19_800, UTC).weekday() * DAY - 7 * DAY
    counted = untouched.life.load.energy(monday, monday + 7 * DAY) / 900
    assert counted in weeks


def test_billing_rows_stand_at_the_first_of_each_month(untouched):
    first = [CosemDateTime.decode(row.values[0].value) for row in rows(untouched, "billing")]
    assert [(one.day, one.hour, one.minute) for one in first] == [(1, 0, 0)] * 2
    registers = [row.values[2].value for row in rows(untouched, "billing")]
    assert registers == sorted(registers)
    assert all(row.values[2].value == sum(zone.value for zone in row.values[3:7]) for row in rows(untouched, "billing"))


@pytest.mark.parametrize("name", ["instantaneous", "block_load", "daily_load", "billing"])
def test_scaler_profiles_have_the_same_registers_in_another_order(untouched, name):
    profile = untouched.profiles[name]
    row = next(one for one in untouched.tables.profiles if one.name == name)
    scalers = untouched.objects[7, row.scalers]
    columns = read_captures(scalers.get(3, None, NOW))
    shown = scalers.get(2, None, NOW).value[0].value
    registers = [column.obis for column in profile.columns if column.class_id in (3, 4) and column.attribute == 2]
    assert sorted(column.obis for column in columns) == sorted(set(registers))
    assert [column.obis for column in columns] != registers
    for column, pair in zip(columns, shown, strict=True):
        assert read_scaler_unit(pair) == read_scaler_unit(untouched.objects[column.class_id, column.obis].attributes[3])


def test_every_captured_column_is_an_object_with_that_attribute(untouched):
    for profile in untouched.profiles.values():
        for column in profile.columns:
            assert isinstance(untouched.objects[column.class_id, column.obis].get(column.attribute, None, NOW), Data)


def test_the_same_seed_gives_the_same_meter():
    one, other, third = meter(), meter(), meter(seed=2)
    assert rows(one, "block_load") == rows(other, "block_load") != rows(third, "block_load")


@given(st.lists(st.integers(0, 4 * 3600), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_asking_often_changes_nothing(pauses):
    asked, silent = build_cached(), build_cached()
    at = NOW
    for pause in pauses:
        at += pause
        wh(asked, at)
    assert [asked.life.milli(q) for q in ("import_wh", "import_vah", "import_wh_zone_2")] == [
        (silent.life.advance(at), silent.life.milli(q))[1] for q in ("import_wh", "import_vah", "import_wh_zone_2")
    ]
    assert rows(asked, "block_load", at) == rows(silent, "block_load", at)


def build_cached():
    return meter(days=1)


@given(st.lists(st.integers(0, 5_000), min_size=672, max_size=672), st.lists(st.integers(0, 3 * 7 * DAY), min_size=2, max_size=6))
@settings(max_examples=20, deadline=None)
def test_energy_of_a_span_is_the_sum_of_its_pieces(quarters, cuts):
    load = Load(np.array(quarters, np.int32))
    edges = sorted(NOW + cut for cut in cuts)
    assert sum(load.energy(a, b) for a, b in pairwise(edges)) == load.energy(edges[0], edges[-1])
    assert load.energy(MIDNIGHT, MIDNIGHT + 7 * DAY) == 900 * sum(quarters)


# -- the relay ----------------------------------------------------------------------------------------------------------------------


def order(device, method, at_s):
    return device.objects[70, RELAY_OBIS].act(method, ZERO, at_s).code


@pytest.mark.parametrize("mode", [2, 4])
def test_an_open_relay_stops_the_counting_to_the_second(mode):
    device = meter(control_mode=mode)
    opened, closed, end = NOW + 1_234, NOW + 9_876, NOW + 20_000
    before = device.life._total
    assert order(device, 1, opened) is ActionOutcome.SUCCESS
    assert order(device, 2, closed) is ActionOutcome.SUCCESS
    device.life.advance(end)
    load = device.life.load
    assert device.life._total - before == load.energy(NOW, opened) + load.energy(closed, end)


def test_in_mode_6_the_meter_closes_by_itself_and_counts_from_then():
    device = meter(control_mode=6)
    before = device.life._total
    order(device, 1, NOW + 100)
    order(device, 2, NOW + 200)
    assert device.objects[70, RELAY_OBIS].get(3, None, NOW + 229).value == 2
    end = NOW + 4_000
    assert device.objects[70, RELAY_OBIS].get(3, None, end).value == 1
    load = device.life.load
    assert device.life._total - before == load.energy(NOW, NOW + 100) + load.energy(NOW + 230, end)
    assert [(row.stamp_s, row.values[1].value) for row in rows(device, "events_control", end)] == [(NOW + 100, 301), (NOW + 230, 302)]


def test_blocks_are_zero_while_the_relay_is_open():
    device = meter(control_mode=0)
    assert order(device, 1, NOW) is ActionOutcome.TEMPORARY_FAILURE
    device = meter(control_mode=4)
    order(device, 1, NOW)
    later = NOW + 4 * 3600
    assert [row.values[2].value for row in rows(device, "block_load", later) if row.stamp_s > NOW + 1800] == [0] * 7
    assert device.objects[1, "0.0.94.91.18.255"].get(2, None, later).value[84] == "1"


# -- what a client changes ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_moves_the_captures_and_is_logged():
    device = meter()
    shown = CosemDateTime.from_stamp(NOW + 600)
    code = device.objects[8, "0.0.1.0.0.255"].set(2, Data(Tag.OCTET_STRING, shown.encode()), NOW)
    assert code is AccessResult.SUCCESS
    kept = len(rows(device, "block_load"))
    device.life.advance(NOW + 7200)
    new = [row.stamp_s for row in rows(device, "block_load", NOW + 7200)][kept:]
    assert new
    assert all((stamp + 19_800) % 1800 == 0 for stamp in new)
    assert new[-1] <= NOW + 7200 + 600
    assert [row.values[1].value for row in rows(device, "events_transaction")] == [151]


def test_the_capture_period_is_one_of_two():
    device = meter()
    period = device.objects[1, "1.0.0.8.4.255"]
    assert period.set(2, Data(Tag.LONG_UNSIGNED, 600), NOW) is AccessResult.OTHER_REASON
    assert period.set(2, Data(Tag.LONG_UNSIGNED, 900), NOW) is AccessResult.SUCCESS
    stamps = [row.stamp_s for row in rows(device, "block_load", NOW + 7200)]
    assert stamps[-1] - stamps[-2] == 900


def test_an_image_must_be_verified_before_it_is_activated():
    device = meter()
    image = device.objects[18, "0.0.44.0.0.255"]
    begin = Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, b"SIM-2.00"), Data(Tag.DOUBLE_LONG_UNSIGNED, 200)))
    assert image.act(1, begin, NOW).code is ActionOutcome.SUCCESS
    for k, size in ((0, 128), (1, 72)):
        block = Data(Tag.STRUCTURE, (Data(Tag.DOUBLE_LONG_UNSIGNED, k), Data(Tag.OCTET_STRING, b"\x01" * size)))
        assert image.act(2, block, NOW).code is ActionOutcome.SUCCESS
    assert image.act(4, ZERO, NOW).code is ActionOutcome.OTHER_REASON
    assert image.act(3, ZERO, NOW).code is ActionOutcome.SUCCESS
    assert image.act(4, ZERO, NOW).code is ActionOutcome.SUCCESS
    assert device.objects[1, "1.0.0.2.0.255"].get(2, None, NOW).value == b"SIM-2.00"
    assert [row.values[1].value for row in rows(device, "events_transaction")] == [157]


def test_a_blank_image_is_not_accepted():
    device = meter()
    assert not device.accepts_image(b"SIM-2.00", b"\xff" * 300)
    assert not device.accepts_image(b"", b"firmware")


@pytest.mark.parametrize("wrong", [{"days": 0}, {"days": 91}, {"period_s": 600}, {"control_mode": 7}])
def test_what_a_meter_cannot_be_is_refused_in_a_sentence(wrong):
    with pytest.raises(InputError, match=r"\d"):
        meter(**wrong)


@pytest.mark.parametrize("serial", ["", "A" * 17, "XMA 1", "XMÄ1"])
def test_a_serial_that_is_none_is_refused(serial):
    with pytest.raises(InputError, match="--serial"):
        new_identity(serial, np.random.default_rng(1))


# -- over sockets ---------------------------------------------------------------------------------------------------------------------


def credentials(client, who, **more):
    secrets = {PUBLIC: {}, READER: {"mechanism": Mechanism.LLS, "secret": who.password, "keys": who.keys}}
    high = {"mechanism": who.hls, "secret": who.hls_secret, "keys": who.keys}
    return Credentials(client, **{**secrets.get(client, high), **more})


def talk(device, work, hdlc=False, clock=lambda: NOW):
    """Serves `device` and runs work(address, events)."""

    async def run():
        events = []
        async with await serve_device(device, hdlc=hdlc, clock=clock, told=events.append) as server:
            return await work(MeterAddress("127.0.0.1", server.port, hdlc), events)

    return asyncio.run(run())


@pytest.mark.parametrize("hdlc", [False, True], ids=["wrapper", "hdlc"])
@pytest.mark.parametrize("hls", [Mechanism.HLS, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256])
@pytest.mark.parametrize("client", [PUBLIC, READER, UTILITY, FIRMWARE])
def test_each_client_associates_and_reads_the_name(client, hls, hdlc):
    device = meter(hls=hls, days=1)

    async def work(address, events):
        async with await open_session(address, credentials(client, device.identity)) as session:
            return await session.get(NAME)

    assert talk(device, work, hdlc).value == b"XMA0000007"


@pytest.mark.parametrize("hdlc", [False, True], ids=["wrapper", "hdlc"])
@pytest.mark.parametrize("client", [READER, UTILITY])
@pytest.mark.parametrize("suite", [1, 2])
def test_suites_1_and_2_by_their_keys(client, hdlc, suite):
    size = 32 if suite == 2 else 16
    who = replace(identity(Mechanism.HLS_GMAC), keys=Keys(bytes(range(size)), bytes(range(64, 64 + size))), suite=suite)
    device = build_device(who, NOW, days=1, months=0)
    policy = {"policy": (0x20 if client == READER else 0x30) | 1} if suite == 1 else {}

    async def work(address, events):
        async with await open_session(address, credentials(client, who, **policy)) as session:
            return await session.get(NAME)

    assert talk(device, work, hdlc).value == b"XMA0000007"


def test_keys_of_another_suite_are_no_identity():
    with pytest.raises(RequestError, match="do not belong together"):
        replace(identity(), suite=2)


def test_a_day_over_hdlc_in_seven_round_trips_from_a_cold_start(untouched):
    async def work(address, events):
        async with await open_session(address, replace(credentials(UTILITY, untouched.identity), counter=0x7000_0000)) as session:
            rows = await session.get(Item(BLOCK_LOAD, by_range(MIDNIGHT - DAY + 1800, MIDNIGHT)))
            return len(rows.value), session.round_trips

    assert talk(untouched, work, hdlc=True) == (48, 4)  # SNRM, AARQ, challenge, GET; then RLRQ and DISC


@pytest.mark.parametrize("hdlc", [False, True], ids=["wrapper", "hdlc"])
def test_a_day_of_block_load_comes_whole_by_range(hdlc, untouched):
    async def work(address, events):
        async with await open_session(address, credentials(READER, untouched.identity)) as session:
            return await session.get(Item(BLOCK_LOAD, by_range(MIDNIGHT - DAY + 1800, MIDNIGHT)))

    buffer = talk(untouched, work, hdlc)
    columns = untouched.profiles["block_load"].columns
    assert len(columns) == 8
    assert read_buffer(columns, buffer) == [r for r in rows(untouched, "block_load") if MIDNIGHT - DAY < r.stamp_s <= MIDNIGHT]


ALLOWED = [
    (PUBLIC, "get", Ref(8, "0.0.1.0.0.255", 2), True),
    (PUBLIC, "get", Ref(1, "0.0.43.1.3.255", 2), True),
    (PUBLIC, "get", Ref(1, "0.0.96.1.0.255", 2), True),
    (PUBLIC, "get", BLOCK_LOAD, False),
    (PUBLIC, "get", Ref(3, "1.0.1.8.0.255", 2), False),
    (READER, "get", BLOCK_LOAD, True),
    (READER, "get", Ref(70, RELAY_OBIS, 3), True),
    (READER, "set", Ref(8, "0.0.1.0.0.255", 2), False),
    (READER, "action", RELAY, False),
    (FIRMWARE, "action", RELAY, False),
    (FIRMWARE, "get", BLOCK_LOAD, False),
    (FIRMWARE, "get", Ref(18, "0.0.44.0.0.255", 6), True),
    (UTILITY, "action", Ref(18, "0.0.44.0.0.255", 1), False),
    (UTILITY, "set", Ref(8, "0.0.1.0.0.255", 2), True),
    (UTILITY, "action", RELAY, True),
]


@pytest.mark.parametrize(("client", "verb", "ref", "allowed"), ALLOWED, ids=lambda x: str(x))
def test_rights_differ_by_client(client, verb, ref, allowed):
    device = meter(days=1)
    clock = Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(NOW).encode())

    async def work(address, events):
        async with await open_session(address, credentials(client, device.identity)) as session:
            try:
                if verb == "get":
                    await session.get(Item(ref))
                elif verb == "set":
                    await session.set(Item(ref), clock)
                else:
                    await session.action(ref, ZERO)
            except Denied as error:
                return error.code, [e for e in events if isinstance(e, Violation)]
            return "", []

    got, violations = talk(device, work)
    assert got == ("" if allowed else "read write denied")
    assert [(one.client, one.cause) for one in violations] == ([] if allowed else [(client, "rights")])


def test_the_object_list_shows_each_client_its_own_rights(untouched):
    async def work(address, events):
        lists = {}
        for client in (READER, UTILITY):
            async with await open_session(address, credentials(client, untouched.identity)) as session:
                lists[client] = (await session.get(Item(Ref(15, "0.0.40.0.0.255", 2)))).value
        return lists

    lists = talk(untouched, work)
    for client, allowed in ((READER, 0), (UTILITY, 1)):
        assert len(lists[client]) == len(untouched.objects) + 1
        relay = next(one.value for one in lists[client] if one.value[0].value == 70)
        assert [method.value[1].value for method in relay[3].value[1].value] == [allowed, allowed]


def test_new_keys_hold_from_the_next_association_and_the_old_no_more():
    device = meter(days=1)
    who = device.identity
    new = Keys(b"N" * 16, who.keys.ak)

    async def work(address, events):
        wrapped = key_transfer(who.master_key, {KeyId.GLOBAL_ENCRYPTION: new.ek})
        async with await open_session(address, credentials(UTILITY, who)) as session:
            await session.action(Ref(64, "0.0.43.0.3.255", 2), wrapped)
            await session.get(NAME)
        async with await open_session(address, credentials(UTILITY, who, keys=new)) as session:
            await session.get(NAME)
        with pytest.raises(MeterError):
            await open_session(address, credentials(UTILITY, who))

    talk(device, work)
    assert [row.values[1].value for row in rows(device, "events_transaction")] == [164]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"secret": b"not the password"}, "authentication"),
        ({"keys": Keys(bytes(16), bytes(16))}, "bad_tag"),
        ({"counter": 0}, "replay"),
        ({"policy": 0x20}, "security"),
    ],
)
def test_what_is_not_genuine_gets_no_data(change, cause):
    device = meter(days=1)

    async def work(address, events):
        async with await open_session(address, credentials(UTILITY, device.identity)) as session:
            await session.get(NAME)
        events.clear()
        with pytest.raises(MeterError):
            await open_session(address, credentials(UTILITY, device.identity, **change))
        return [e.cause for e in events if isinstance(e, Violation)], [e for e in events if isinstance(e, Served) and e.client == UTILITY]

    causes, served = talk(device, work)
    assert causes == [cause]
    assert served == []


def test_two_links_of_one_client_share_its_counters():
    device = meter(days=1)
    seen = []

    async def work(address, events):
        who = credentials(UTILITY, device.identity)
        async with await open_session(address, who) as one, await open_session(address, who) as other:
            await other.get(NAME)
            seen.append(device.counter(UTILITY))
            with pytest.raises(MeterError):
                await one.get(NAME)  # its counter lies behind the other link's
            seen.append(device.counter(UTILITY))

    talk(device, work)
    assert seen[0] == seen[1]


def test_the_counter_that_the_public_client_reads_only_grows():
    device = meter(days=1)

    async def work(address, events):
        counters = []
        for _ in range(3):
            async with await open_session(address, credentials(UTILITY, device.identity)) as session:
                await session.get(NAME)
            counters.append(device.counter(UTILITY))
        return counters

    first, second, third = talk(device, work)
    assert 0 < first < second < third


@pytest.mark.parametrize("hdlc", [False, True], ids=["wrapper", "hdlc"])
def test_garbage_costs_only_its_own_connection(hdlc):
    device = meter(days=1)

    async def work(address, events):
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(bytes(range(256)) * 8)
        await writer.drain()
        async with await open_session(address, credentials(PUBLIC, device.identity)) as session:
            value = await session.get(NAME)
        writer.close()
        return value

    assert talk(device, work, hdlc).value == b"XMA0000007"


def test_a_silent_connection_is_closed():
    device = meter(days=1)

    async def run():
        async with await serve_device(device, idle_s=0.01) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_a_closed_server_hangs_up():
    device = meter(days=1)

    async def run():
        server = await serve_device(device)
        session = await open_session(MeterAddress("127.0.0.1", server.port), credentials(PUBLIC, device.identity))
        await server.close()
        with pytest.raises(SilentMeter):
            await session.get(NAME)

    asyncio.run(run())


def test_a_port_that_cannot_be_had_is_said():
    with pytest.raises(InputError, match="--port"):
        asyncio.run(serve_device(meter(days=1), port=70_000))


def test_bills_are_found_by_their_own_date(untouched):
    profile = untouched.profiles["billing"]
    bills = rows(untouched, "billing")
    dates = [CosemDateTime.decode(row.values[0].value).to_stamp(330) for row in bills]
    asked = by_range(dates[1], dates[1])
    own_date = Data(Tag.STRUCTURE, (profile.columns[0].encode(), *asked.parameters.value[1:]))
    for selection in (asked, asked._replace(parameters=own_date)):
        assert profile.get(2, selection, NOW).value == (Data(Tag.STRUCTURE, bills[1].values),)
    other = Data(Tag.STRUCTURE, (profile.columns[2].encode(), *asked.parameters.value[1:]))
    assert profile.get(2, asked._replace(parameters=other), NOW) is AccessResult.SCOPE_OF_ACCESS_VIOLATED
