"""Objects and profiles of a meter as values with units, over real sockets: by range, by entry, whole, with nulls, and how many questions it takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from openami.cosem.acse import Conformance
from openami.cosem.apdu import AccessResult
from openami.cosem.profile import BY_ENTRY, BY_RANGE, ProfileGeneric
from openami.errors import InputError, MeterError
from openami.headend.reader import NAMES, parse_object, read_object, read_profile
from openami.headend.session import READER, UTILITY, Denied, open_session
from served import MIDNIGHT_S, SHORT, ServedMeter

BLOCK_LOAD, BILLING = "1.0.99.1.0.255", "1.0.98.1.0.255"
DAY = (MIDNIGHT_S - 86_400 + 1, MIDNIGHT_S)


@pytest.fixture(scope="module", params=[False, True], ids=["wrapper", "hdlc"])
def meter(request):
    with ServedMeter(hdlc=request.param) as served:
        yield served


@pytest.fixture
def own_meter():
    with ServedMeter() as served:
        yield served


def talk(meter, work, client=UTILITY):
    async def go():
        async with await open_session(meter.address, meter.credentials(client), SHORT) as session:
            return await work(session)

    return asyncio.run(go())


def truth(meter, first_s, last_s):
    """(stamp, stored numbers) of the meter's own block load, without asking it over the wire."""
    profile = meter.device.profiles["block_load"]
    rows = zip(profile._stamps, profile._rows, strict=True)
    return [(stamp, tuple(cell.value for cell in row[1:])) for stamp, row in rows if first_s <= stamp <= last_s]


def as_stored(profile):
    """Scaled values back to stored numbers."""
    scale = [10**-c.scaler for c in profile.columns[1:]]
    return [(stamp, tuple(round(v * s) for v, s in zip(values[1:], scale, strict=True))) for stamp, values in profile.rows]


@pytest.mark.parametrize("client", [READER, UTILITY])
def test_a_day_of_block_load_is_what_the_meter_holds(meter, client):
    profile = talk(meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY), client)
    assert (len(profile.rows), len(profile.columns), profile.layout.period_s) == (48, 8, 1800)
    assert as_stored(profile) == truth(meter, *DAY)
    assert [(c.scaler, c.unit) for c in profile.columns[1:]] == [
        (-2, "V"),
        (0, "Wh"),
        (0, "VAh"),
        (0, "Wh"),
        (0, "VAh"),
        (-2, "A"),
        (0, ""),
    ]


def test_a_day_of_block_load_over_hls_takes_four_round_trips_and_one_with_a_known_layout(own_meter):
    known = {}

    async def twice(session):
        first = await read_profile(session, BLOCK_LOAD, *DAY, known=known)
        after_first = session.round_trips
        second = await read_profile(session, BLOCK_LOAD, *DAY, known=known)
        return first, after_first, second, session.round_trips

    first, after_first, second, after_second = talk(own_meter, twice)
    assert len(first.rows) == 48
    assert after_first == 3, "AARQ, the answer to the challenge, one GET; the fourth is the release"
    assert after_second == after_first + 1
    assert second == first


def test_a_kept_layout_of_other_firmware_is_asked_for_again(own_meter):
    async def read(session):
        known = {BLOCK_LOAD: (await read_profile(session, BLOCK_LOAD, *DAY)).layout}
        known[BLOCK_LOAD] = replace(known[BLOCK_LOAD], columns=known[BLOCK_LOAD].columns[:-1])
        return await read_profile(session, BLOCK_LOAD, *DAY, known=known), known

    profile, known = talk(own_meter, read)
    assert len(profile.columns) == len(known[BLOCK_LOAD].columns) == 8


class Asked:
    """Which selections a profile was asked for, and which of them it refuses."""

    def __init__(self, monkeypatch, refused, code=AccessResult.SCOPE_OF_ACCESS_VIOLATED):
        self.selectors, original = [], ProfileGeneric._select

        def select(profile, selection):
            if selection is not None:
                self.selectors.append(selection.selector)
            return code if selection is not None and selection.selector in refused else original(profile, selection)

        monkeypatch.setattr(ProfileGeneric, "_select", select)


@pytest.mark.parametrize("code", [AccessResult.SCOPE_OF_ACCESS_VIOLATED, AccessResult.OTHER_REASON, AccessResult.TYPE_UNMATCHED])
def test_a_meter_without_range_is_read_by_entry(own_meter, monkeypatch, code):
    asked = Asked(monkeypatch, {BY_RANGE}, code)
    profile = talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))
    assert asked.selectors[:3] == [BY_RANGE, BY_ENTRY, BY_ENTRY]
    assert as_stored(profile) == truth(own_meter, *DAY)
    assert len(profile.buffer.value) < len(own_meter.device.profiles["block_load"])


def test_a_meter_with_no_selection_at_all_is_read_whole(own_meter, monkeypatch):
    Asked(monkeypatch, {BY_RANGE, BY_ENTRY})
    assert as_stored(talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))) == truth(own_meter, *DAY)


def test_a_meter_that_agreed_to_no_selection_is_not_asked_for_one(own_meter, monkeypatch):
    asked = Asked(monkeypatch, set())
    for client, setup in own_meter.device.setups.items():
        own_meter.device.setups[client] = replace(setup, conformance=setup.conformance & ~Conformance.SELECTIVE_ACCESS)
    assert len(talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY)).rows) == 48
    assert asked.selectors == []


def test_a_meter_without_lists_is_asked_one_by_one(own_meter):
    for client, setup in own_meter.device.setups.items():
        own_meter.device.setups[client] = replace(setup, conformance=setup.conformance & ~Conformance.MULTIPLE_REFERENCES)
    profile = talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))
    assert as_stored(profile) == truth(own_meter, *DAY)
    assert profile.columns[1].unit == "V"


def test_registers_tell_their_scalers_where_there_is_no_scaler_profile(own_meter):
    own_meter.device.objects.pop((7, "1.0.94.91.4.255"))
    profile = talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))
    assert [c.unit for c in profile.columns[1:]] == ["V", "Wh", "VAh", "Wh", "VAh", "A", ""]


def test_rows_that_leave_out_what_has_not_changed_are_filled_in():
    with ServedMeter(deltas=True) as meter:
        profile = talk(meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))
        assert any(cell.value is None for row in profile.buffer.value for cell in row.value)
        assert as_stored(profile) == truth(meter, *DAY)


def test_an_empty_range_is_no_rows(meter):
    assert talk(meter, lambda session: read_profile(session, BLOCK_LOAD, 0, 1)).rows == ()


def test_an_answer_in_blocks_is_put_together(own_meter, monkeypatch):
    monkeypatch.setattr(
        "openami.headend.session.ClientSettings",
        lambda **how: __import__("openami.cosem.client").cosem.client.ClientSettings(max_pdu=300, **how),
    )
    assert as_stored(talk(own_meter, lambda session: read_profile(session, BLOCK_LOAD, *DAY))) == truth(own_meter, *DAY)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_read(meter, name):
    value = talk(meter, lambda session: read_object(session, NAMES[name]))
    assert value is not None


def test_a_register_has_its_unit(meter):
    assert talk(meter, lambda session: read_object(session, NAMES["voltage"]))["unit"] == "V"


def test_what_is_not_there_is_denied_by_name(meter):
    with pytest.raises(Denied, match=r"does not give 1\.0\.199\.8\.0\.255 \(class 3, 2\) to client 48: object undefined"):
        talk(meter, lambda session: read_object(session, parse_object("3:1.0.199.8.0.255")))
    with pytest.raises(MeterError, match=r"does not tell what profile 1\.0\.99\.9\.0\.255 holds"):
        talk(meter, lambda session: read_profile(session, "1.0.99.9.0.255"))


@pytest.mark.parametrize(
    "text", ["", "blockload", "3", "3:1.0.1.8.0", "3:1.0.1.8.0.256", "x:1.0.1.8.0.255", "3:1.0.1.8.0.255:2:2", "70000:1.0.1.8.0.255"]
)
def test_an_object_that_is_none_says_how_to_write_one(text):
    with pytest.raises(InputError, match="write CLASS:OBIS:ATTRIBUTE"):
        parse_object(text)
