"""Gaps found in the day grid, read from a simulated meter over a real socket, kept in the journal, and in the grid when it is collected again."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from day.sites import FIRST, make_site, make_town, pushes
from openami.control.order import Order, State, What
from openami.cosem.axdr import Data, Tag
from openami.day import Site, collect
from openami.errors import MeterError
from openami.headend.gaps import Gap, joined, missing, site_gaps, without
from openami.headend.lines import Lines, reader_title
from openami.headend.orders import OrderDesk
from openami.headend.plan import Limits, Plan, Priority
from openami.headend.pulled import BLOCK_LOAD_PROFILE, pulled, read_pulled
from openami.headend.reader import Column, ProfileLayout
from openami.headend.rounds import Rounds, gap_tasks
from openami.headend.schedule import Asked, due_registers, register_tasks
from openami.headend.session import Patience
from openami.readings import CHANNEL_BY_NAME, MISSING, Calendar, Quality
from openami.store.contacts import MeterLine
from openami.store.journal import Journal
from openami.store.keys import load_master_key
from openami.store.order_book import OrderBook
from served import NOON_S, ServedMeter

NUMBER = 3
"""The meter of the town that is really served."""
FORENOON = 48
"""Slots of 15 minutes up to noon, when the simulated meter lives."""


@pytest.fixture(scope="module")
def town():
    return make_town(days=1)


@pytest.fixture(scope="module")
def frames(town):
    """The meter's pushes from 02:00 to 05:00 and from 09:00 on are lost; in the afternoon nobody has pushed yet."""
    lost = {*range(8, 20), *range(36, FORENOON)}
    return pushes(town, lambda number, slot: slot >= FORENOON or (number == NUMBER and slot in lost))


@pytest.fixture
def meter(town):
    own = town.meters[NUMBER]
    with ServedMeter(serial=own.serial, keys=town.secrets[own.serial].keys, period_s=900, days=1, months=0) as served:
        yield served


class Headend:
    """The parts that a round needs, made anew from the folder as after a restart."""

    def __init__(self, site, meter=None, **limits):
        self.site, self.now_s = site, float(NOON_S)
        master = load_master_key(site.folder.master_key)
        self.lines = Lines(site.rows, master, reader_title(b"OAM\0\0TST"), Patience(connect_s=20.0, answer_s=20.0))
        if meter is not None:
            identity = meter.identity
            secrets = {
                "password_wrapped": master.wrap_secret(identity.password),
                "hls_secret_wrapped": master.wrap_secret(identity.hls_secret),
            }
            self.lines.contacts.add_lines([MeterLine(identity.serial, "127.0.0.1", meter.port, cell="dt 1", **secrets)])
            self.lines = Lines(site.rows, master, reader_title(b"OAM\0\0TST"), self.lines.patience)
        self.journal = Journal(site.folder.journal)
        self.plan = Plan(Limits(**limits), random.Random(1))

    async def sleep(self, seconds):
        """Time stands still while a meter is talked to, and jumps where nothing is to be done."""
        if self.plan.running:
            await asyncio.sleep(0.01)
        else:
            self.now_s += seconds

    def gaps(self, grace_s=0):
        return site_gaps(self.site.lake, self.site.rows, self.journal, self.site.calendar, [FIRST], NOON_S, grace_s)

    def run(self, tasks, until=lambda: False, desk=None):
        for task in tasks:
            self.plan.add(task)
        rounds = Rounds(self.plan, self.lines, self.journal, lambda: self.now_s, desk, self.sleep)
        asyncio.run(rounds.run(until))
        return rounds.tally


@pytest.fixture
def site(tmp_path, town, frames):
    made = make_site(tmp_path / "data", town, frames)
    collect(made)
    yield made
    made.rows.close()


def raw(site, index, channel="import_wh"):
    return site.lake.read_blocks("raw", FIRST, 0)[channel].values[:, index]


def truth(meter, channel):
    """The simulated meter's own captures by stamp, in the channel's stored integers."""
    one = CHANNEL_BY_NAME[channel]
    profile = meter.device.profiles["block_load"]
    column = next(k for k, c in enumerate(profile.columns) if c.obis == one.obis)
    shift = {"voltage_v": 1, "current_a": 10}.get(channel, 1)
    return {stamp: row[column].value * shift for stamp, row in zip(profile._stamps, profile._rows, strict=True)}


def test_just_the_missing_ranges_are_asked_for_and_come_into_the_grid(site, town, meter):
    own = town.meters[NUMBER]
    headend = Headend(site, meter)
    calendar = site.calendar
    found = headend.gaps()
    assert found.wanted == {own.serial: [Gap(calendar.stamp(FIRST, 8), calendar.stamp(FIRST, FORENOON - 1))]}, (
        "two gaps, asked for together"
    )
    before = raw(site, own.index).copy()
    tally = headend.run(gap_tasks(found.wanted, headend.lines.cell, NOON_S))
    assert (tally.done, tally.failed, tally.rows) == (1, 0, {"block_load": FORENOON - 8})
    collect(Site.open(site.folder))
    for channel in ("import_wh", "voltage_v", "current_a"):
        after, own_truth = raw(site, own.index, channel), truth(meter, channel)
        for slot in (*range(8, 20), *range(36, FORENOON)):
            assert after[slot] == own_truth[calendar.stamp(FIRST, slot)], (channel, slot)
    pushed = [slot for slot in range(FORENOON) if before[slot] != MISSING]
    assert (raw(site, own.index)[pushed] == before[pushed]).all(), "what was pushed stays"
    assert headend.gaps().wanted == {}


def test_collecting_twice_gives_the_same(site, town, meter):
    headend = Headend(site, meter)
    headend.run(gap_tasks(headend.gaps().wanted, headend.lines.cell, NOON_S))
    first = collect(Site.open(site.folder))
    once = raw(site, town.meters[NUMBER].index).copy()
    assert collect(Site.open(site.folder)) == first
    assert (raw(site, town.meters[NUMBER].index) == once).all()


def test_where_push_and_pull_differ_the_push_stays_and_the_slot_is_marked(site, town, meter):
    """The two gaps are read with what lies between them; the simulated meter is not the one that pushed, so that much of it differs."""
    headend = Headend(site, meter)
    headend.run(gap_tasks(headend.gaps().wanted, headend.lines.cell, NOON_S))
    collect(Site.open(site.folder))
    quality = site.lake.read_blocks("raw", FIRST, 0)["voltage_v"].quality[:, town.meters[NUMBER].index]
    assert (quality[20:36] & Quality.DUPLICATE).all()
    assert not (quality[8:20] & Quality.DUPLICATE).any()


def test_what_the_meter_does_not_have_is_not_asked_for_again(site, town, meter, monkeypatch):
    profile = meter.device.profiles["block_load"]
    monkeypatch.setattr(profile, "_stamps", [])
    monkeypatch.setattr(profile, "_rows", [])
    meter.device.life.captured = lambda *_: None
    headend = Headend(site, meter)
    tally = headend.run(gap_tasks(headend.gaps().wanted, headend.lines.cell, NOON_S))
    assert (tally.done, tally.rows) == (1, {"block_load": 0})
    assert headend.gaps().wanted == {}


def test_slots_that_may_still_be_pushed_are_no_gaps(site, town, meter):
    own = town.meters[NUMBER]
    (gap,) = Headend(site, meter).gaps(grace_s=6 * 3600).wanted[own.serial]
    assert gap == Gap(site.calendar.stamp(FIRST, 8), site.calendar.stamp(FIRST, 19))


def test_what_the_meter_no_longer_keeps_is_lost_and_said_so(site, town):
    own = town.meters[NUMBER]
    headend = Headend(site)
    later_s = site.calendar.stamp(FIRST, 11) + 35 * 86_400
    found = site_gaps(site.lake, site.rows, headend.journal, site.calendar, [FIRST], later_s)
    assert found.lost[own.serial] == [Gap(site.calendar.stamp(FIRST, 8), site.calendar.stamp(FIRST, 11))]
    assert found.wanted[own.serial][0].first_s == site.calendar.stamp(FIRST, 11)


def test_when_meters_were_heard_last(site, town):
    heard = Headend(site).gaps().heard_s
    assert heard[town.meters[NUMBER].serial] == site.calendar.stamp(FIRST, 35)
    assert heard[town.meters[0].serial] == site.calendar.stamp(FIRST, FORENOON - 1)


def test_a_meter_that_is_away_is_tried_again_and_its_contact_tells_why(site, town, meter):
    headend = Headend(site, meter)
    tasks = gap_tasks(headend.gaps().wanted, headend.lines.cell, NOON_S)
    meter.vanish()
    started = headend.now_s
    tally = headend.run(tasks, until=lambda: headend.now_s > started + 1_000)
    own = town.meters[NUMBER].serial
    contact = headend.lines.contacts.contacts()[own]
    assert tally.done == 0
    assert 3 <= tally.failed <= 8, "ever more seldom"
    assert contact.heard_s is None
    assert contact.failures == tally.failed
    assert "cannot connect" in contact.problem
    meter.appear()
    tally = headend.run([])
    assert (tally.done, len(headend.plan)) == (1, 0)
    assert headend.lines.contacts.contacts()[own].heard_s >= started


def test_routine_and_orders_go_through_the_same_plan_the_order_first(site, town, meter):
    own = town.meters[NUMBER].serial
    headend = Headend(site, meter, total=1)
    book = OrderBook(site.rows)
    desk = OrderDesk(book, headend.lines, lambda: int(headend.now_s))
    desk.ask(Order("o1", What.CLOCK, "", own, NOON_S))
    asked = Asked(headend.lines.serials, headend.lines.cell, lambda serial: 86_400)
    due = due_registers(site.calendar, NOON_S)
    tasks = [task for kind, first_s, last_s in due for task in register_tasks(kind, first_s, last_s, [own], asked)]
    assert [(one.kind, one.priority) for one in tasks] == [("daily_load", Priority.ROUTINE), ("billing", Priority.ROUTINE)]
    tally = headend.run(tasks, desk=desk)
    assert book.order("o1").state is State.CONFIRMED
    assert tally.rows == {"daily_load": 1, "billing": 1}
    clients = [event.client for event in meter.told if type(event).__name__ == "Opened" and event.client != 16]
    assert clients == [48, 32, 32]


# -- the record in the journal ------------------------------------------------------------------------------------------------------


def record(scaler, unit, value):
    columns = (Column(8, "0.0.1.0.0.255", 2, 0, 0, ""), Column(3, "1.0.1.29.0.255", 2, 0, scaler, unit))
    clock = Data(Tag.OCTET_STRING, bytes.fromhex("07e90c01010c0000fffeb600"))
    row = Data(Tag.STRUCTURE, (clock, value))
    return pulled(ProfileLayout(BLOCK_LOAD_PROFILE, columns, 900), Data(Tag.ARRAY, (row,)))


@pytest.mark.parametrize(
    ("scaler", "value", "stored"),
    [
        (0, Data(Tag.LONG_UNSIGNED, 250), 250),
        (3, Data(Tag.LONG_UNSIGNED, 2), 2000),
        (-1, Data(Tag.LONG_UNSIGNED, 25), 3),
        (3, Data(Tag.FLOAT32, 0.25), 250),
        (0, Data(Tag.FLOAT32, float("nan")), None),
        (0, Data(Tag.LONG64_UNSIGNED, 2**40), None),
        (0, Data(Tag.NULL, None), None),
    ],
)
def test_numbers_of_any_type_and_scaler_become_the_channels(scaler, value, stored):
    ((stamp, values),) = read_pulled(record(scaler, "Wh", value))
    assert stamp == NOON_S
    assert values == ({} if stored is None else {"import_wh": stored})


@pytest.mark.parametrize(
    "octets", [b"", b"\x00", record(0, "VAh", Data(Tag.LONG_UNSIGNED, 1)), record(0, "Wh", Data(Tag.LONG_UNSIGNED, 1))[:-1]]
)
def test_a_record_that_makes_no_sense_is_the_meters_error(octets):
    with pytest.raises(MeterError):
        read_pulled(octets)


def test_a_pulled_record_that_makes_no_sense_is_in_quarantine_and_stops_nothing(site, town):
    own = town.meters[NUMBER].serial
    journal = Journal(site.folder.journal)
    bad = record(0, "VAh", Data(Tag.LONG_UNSIGNED, 1))
    seq = journal.pull(own, BLOCK_LOAD_PROFILE, 0, NOON_S, bad, 5)
    assert collect(Site.open(site.folder))["layout"] == 1
    (refused,) = journal.quarantine("layout")
    assert (refused.seq, refused.serial, refused.octets) == (-seq, own, bad)


# -- gaps as pure functions ---------------------------------------------------------------------------------------------------------

CALENDAR = Calendar(interval_minutes=30)


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=5))
def test_missing_slots_are_just_those_inside_the_gaps(rows):
    present, stamps = np.array(rows, np.bool_).T, np.arange(7, dtype=np.int64) * 1800
    found = missing(present, stamps)
    for index in range(present.shape[1]):
        inside = {int(s) for s in stamps for gap in found.get(index, ()) if gap.first_s <= s <= gap.last_s}
        assert inside == set(stamps[~present[:, index]].tolist())


GAPS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda p: Gap(10 * p[0], 10 * (p[0] + p[1]))), max_size=4)


def slots(gaps):
    return {s for gap in gaps for s in range(gap.first_s, gap.last_s + 1, 10)}


@given(GAPS, GAPS)
def test_what_was_answered_is_taken_out_and_nothing_else(gaps, answered):
    assert slots(without(gaps, answered, 10)) == slots(gaps) - slots(answered)


@given(GAPS)
def test_joining_loses_nothing_and_leaves_gaps_apart(gaps):
    together = joined(gaps, 20)
    assert slots(together) >= slots(gaps)
    assert all(b.first_s - a.last_s > 20 for a, b in pairwise(together))
