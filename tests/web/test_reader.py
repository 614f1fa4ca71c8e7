"""`LakeTown` over a small town that really ran: what it tells adds up, and every page stands on it."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from openami.demo.run import Wish, run_demo
from openami.errors import DataError
from openami.readings import ESTIMATED_BITS
from openami.registry import NodeKind
from openami.store import kept
from openami.store.deployment import Folder
from openami.store.lake import Lake
from openami.store.rows import account
from openami.web.opened import OpenedTown
from openami.web.reader import LakeTown
from openami.web.townbook import DamagedDay, MeterQuery, MeterState

from .client import signed_in

FIRST, DAYS, CONSUMERS = date(2025, 12, 1), 2, 30


def _ran(folder: Path, consumers: int, seed: int) -> Path:
    run_demo(Wish(folder, consumers, DAYS, seed, FIRST), lambda name, steps: lambda done: None)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return _ran(tmp_path_factory.mktemp("town") / "data", CONSUMERS, 3)


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    return _ran(tmp_path_factory.mktemp("other") / "data", CONSUMERS - 10, 4)


@pytest.fixture(scope="module")
def town(folder):
    return LakeTown(Folder(folder))


@pytest.fixture
def own_copy(folder, tmp_path):
    """A copy of the town's folder, for a test that changes it."""
    return Path(shutil.copytree(folder, tmp_path / "data"))


@pytest.fixture(scope="module")
def last(town):
    return town.days()[-1]


@pytest.fixture(scope="module")
def rows(town, last):
    return town.meters(MeterQuery(last, limit=1000)).rows


def test_the_days_are_there(town):
    assert town.days() == (FIRST, date(2025, 12, 2))


def test_intervals_add_up_from_the_meters_to_the_town(town, last, rows):
    whole = town.overview(last).intervals
    assert whole.expected == len(rows) * 96 == whole.metered + whole.estimated + whole.missing
    for part in ("metered", "estimated", "missing"):
        assert getattr(whole, part) == sum(getattr(r.intervals, part) for r in rows)


def test_energy_adds_up_from_the_slots_to_the_town(town, last, rows):
    consumers = [r for r in rows if r.kind is NodeKind.CONSUMER]
    assert len(consumers) == CONSUMERS
    assert town.overview(last).consumers_wh == sum(r.day_wh or 0 for r in consumers)
    for row in consumers[:5]:
        values = [s.value for s in town.meter(row.serial, last).channels[0].slots]
        assert row.day_wh == sum(v for v in values if v is not None)
        assert row.intervals.missing == values.count(None)


def test_hours_add_up_to_the_day_at_every_node(town, last):
    for feeder in town.overview(last).feeders:
        nodes = [(feeder.figures, town.feeder(feeder.name, last).hours)]
        nodes += [(t.figures, town.transformer(t.name, last).hours) for t in feeder.transformers]
        for figures, hours in nodes:
            assert len(hours) == 24
            assert figures.loss_wh == figures.in_wh - figures.out_wh == sum(h.figures.loss_wh for h in hours)
            assert 0 <= figures.coverage <= 1
        assert feeder.figures.out_wh == sum(t.figures.in_wh for t in feeder.transformers)


def test_statements_add_up_and_follow_one_another(town, rows):
    first, second = town.days()
    for row in [r for r in rows if r.account][::4]:
        days = [town.consumer(row.account, d).statement for d in (first, second)]
        for s in days:
            assert s.closing_paise == s.opening_paise + sum(s.recharges_paise) - s.charge_paise
        assert days[1].opening_paise == days[0].closing_paise
        assert town.consumer(row.account, second).balance_paise == days[1].closing_paise


def test_the_towns_money_is_the_accounts_money(town, last, rows):
    money = town.overview(last).money
    consumers = [town.consumer(r.account, last) for r in rows if r.account]
    assert money.accounts == len(consumers) == CONSUMERS
    assert money.charged_paise == sum(c.statement.charge_paise for c in consumers)
    assert money.balance_paise == sum(c.statement.closing_paise for c in consumers)
    assert money.negative == sum(c.statement.closing_paise < 0 for c in consumers)
    assert money.low == sum(c.low for c in consumers)
    assert money.due == len(town.due(last).rows) == sum(c.supply.due for c in consumers)


def test_quarantine_is_counted_and_paged_without_gap(town, last):
    causes = town.overview(last).quarantine
    assert causes
    for cause in causes:
        whole = town.quarantine(cause.cause, 0, 10_000).rows
        assert len(whole) == cause.frames == town.quarantine(cause.cause, 0, 1).total
        assert {f.cause for f in whole} == {cause.cause}
        paged = [f for offset in range(0, cause.frames, 7) for f in town.quarantine(cause.cause, offset, 7).rows]
        assert paged == list(whole)


def test_filters_of_the_meter_list_agree_with_the_rows(town, last, rows):
    found = town.meters(MeterQuery(last, state=MeterState.ESTIMATED, limit=1000)).rows
    assert {r.serial for r in found} == {r.serial for r in rows if r.intervals.estimated}
    silent = town.meters(MeterQuery(last, state=MeterState.SILENT, limit=1000)).rows
    assert len(silent) == town.overview(last).silent_meters
    assert {s.serial for s in town.overview(last).silent} <= {r.serial for r in silent}
    one = town.meters(MeterQuery(last, text=rows[3].account or rows[3].usage_point))
    assert [r.serial for r in one.rows] == [rows[3].serial]
    pages = [town.meters(MeterQuery(last, offset=k, limit=7)).rows for k in range(0, len(rows), 7)]
    assert [r for page in pages for r in page] == list(rows)


def named(row):
    return [name for name in (row.serial, row.usage_point, row.account) if name]


@pytest.mark.parametrize("part", [slice(None, 3), slice(2, 5), slice(-3, None)])
@pytest.mark.parametrize("what", [0, 1])
def test_meters_are_found_by_any_part_of_a_name_in_any_letters(town, last, rows, part, what):
    text = named(rows[4])[what][part]
    for written in (text.upper(), text.lower()):
        found = {r.serial for r in town.meters(MeterQuery(last, text=written, limit=1000)).rows}
        assert found == {r.serial for r in rows if any(text.lower() in name.lower() for name in named(r))}
    assert town.meters(MeterQuery(last, text=f"{text}?")).total == 0


def test_a_name_that_is_new_is_found_at_once(own_copy):
    town = LakeTown(Folder(own_copy))
    query = MeterQuery(town.days()[-1], text="ew-7", limit=1000)
    one = next(row for row in town.meters(MeterQuery(query.day, limit=1000)).rows if row.account is None)
    assert town.meters(query).total == 0
    with town.rows.begin(writing=True) as connection:
        another = dict(connection.execute(sa.select(account)).first()._mapping)
        connection.execute(account.insert(), another | {"number": "NEW-77", "usage_point": one.usage_point})
    assert [row.serial for row in town.meters(query).rows] == [one.serial]


def test_a_silent_meter_says_when_it_was_last_heard(town, last):
    for silent in town.overview(last).silent:
        assert silent.last_heard is None or silent.last_heard.date() <= last
        assert town.meter(silent.serial, last).last_heard == silent.last_heard


def test_what_is_not_there_is_none(town, last):
    assert town.meter("NOPE", last) is None
    assert town.transformer("NOPE", last) is None
    assert town.feeder("NOPE", last) is None
    assert town.consumer("NOPE", last) is None


@pytest.mark.parametrize("language", ["en", "hi"])
def test_every_page_stands_on_the_real_thing(town, last, rows, language):
    client = signed_in(town)
    overview = town.overview(last)
    paths = ["/", "/meters", "/due", "/quarantine", "/health"]
    paths += [f"/feeders/{f.name}" for f in overview.feeders]
    paths += [f"/transformers/{t.name}" for f in overview.feeders for t in f.transformers]
    paths += [f"/meters/{r.serial}" for r in rows[::6]] + [f"/meters/{rows[0].serial}/day.csv"]
    paths += [f"/consumers/{r.account}" for r in rows[::6] if r.account]
    for path in paths:
        answer = client.get(path, params={"lang": language} if "csv" not in path and "health" not in path else {})
        assert answer.status_code == 200, path


def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        LakeTown(Folder(tmp_path))


def test_a_balance_and_a_supply_claim_no_more_than_the_meter_said(town, last, rows):
    heard = set()
    for row in [r for r in rows if r.account]:
        consumer = town.consumer(row.account, last)
        metered = [
            slot.end
            for day in town.days()
            for slot in town.meter(row.serial, day).channels[0].slots
            if slot.value is not None and not slot.quality & int(ESTIMATED_BITS)
        ]
        assert consumer.readings_until == max(metered, default=None)
        assert consumer.supply.connected is None
        assert consumer.supply.last_heard == town.meter(row.serial, last).last_heard
        heard.add(consumer.readings_until)
    assert len(heard) > 1  # the demo has silent meters


def _replace(served: Path, source: Path) -> None:
    """As `openami demo` replaces its folder: the new one stands whole beside it and takes its place by a rename."""
    fresh = shutil.copytree(source, served.with_name("fresh"))
    served.rename(served.with_name("old"))
    fresh.rename(served)
    shutil.rmtree(served.with_name("old"))


def _told(town: LakeTown) -> list[object]:
    day = town.days()[-1]
    rows = town.meters(MeterQuery(day, limit=1000)).rows
    return [rows, town.overview(day), town.due(day), [town.consumer(r.account, day) for r in rows if r.account]]


def test_a_folder_that_is_replaced_while_it_is_served_is_told_anew(own_copy, other_folder):
    served = LakeTown(Folder(own_copy))
    before = _told(served)
    _replace(own_copy, other_folder)
    assert served.overview(served.days()[-1]).meters < before[1].meters
    assert _told(served) == _told(LakeTown(Folder(own_copy)))


def test_an_answer_is_never_put_together_from_two_folders(own_copy, other_folder, monkeypatch):
    served = LakeTown(Folder(own_copy))
    answer, day = OpenedTown.overview, served.days()[-1]

    def overtaken(self, *asked):
        monkeypatch.undo()
        _replace(own_copy, other_folder)
        return answer(self, *asked)

    monkeypatch.setattr(OpenedTown, "overview", overtaken)
    assert served.overview(day) == LakeTown(Folder(own_copy)).overview(day)


def test_a_folder_that_is_away_is_a_data_error_until_it_is_back(own_copy):
    served = LakeTown(Folder(own_copy))
    client = signed_in(served)
    own_copy.rename(own_copy.with_name("away"))
    with pytest.raises(DataError, match=str(own_copy)):
        served.days()
    assert client.get("/").status_code == 503
    own_copy.with_name("away").rename(own_copy)
    assert client.get("/").status_code == 200


def _damage(folder: Path, table: str, day: date) -> tuple[Path, bytes]:
    """Zeroes in the middle of a file of that day; gives the file and what it held."""
    file = Path(Lake(folder / "lake").files(table, day)[0][0])  # one that is read: the folder also keeps those it replaced
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + bytes(len(whole) - 4))
    return file, whole


@pytest.mark.parametrize("table", ["meter_day", "balance", "statements"])
def test_a_damaged_day_takes_no_other_day_with_it(own_copy, table):
    file, whole = _damage(own_copy, table, FIRST)
    town = LakeTown(Folder(own_copy))
    client = signed_in(town)
    with pytest.raises(DamagedDay, match=file.name):
        town.overview(FIRST)
    hurt = client.get("/", params={"day": FIRST.isoformat(), "lang": "en"})
    assert hurt.status_code == 503
    assert "The data of this day is damaged" in hurt.text
    last = town.days()[-1]
    row = next(r for r in town.meters(MeterQuery(last, limit=1000)).rows if r.account)
    for path in ("/", "/due", "/meters", f"/meters/{row.serial}", f"/consumers/{row.account}", f"/transformers/{row.transformer}"):
        answer = client.get(path, params={"lang": "en"})
        assert answer.status_code == 200, path
        assert "What is stored of Mon 1 Dec 2025 is damaged." in answer.text, path
    assert town.damaged() == (FIRST,)
    file.write_bytes(whole)
    assert town.damaged() == ()
    assert client.get("/", params={"day": FIRST.isoformat()}).status_code == 200


@pytest.mark.parametrize("table", ["raw", "validated"])
def test_damaged_readings_are_said_on_the_meters_page_and_leave_the_town_standing(own_copy, table):
    file, _ = _damage(own_copy, table, FIRST)
    town = LakeTown(Folder(own_copy))
    assert town.overview(FIRST).intervals.expected > 0
    serial = town.meters(MeterQuery(FIRST, limit=1)).rows[0].serial
    with pytest.raises(DamagedDay, match=file.name):
        town.meter(serial, FIRST)
    assert town.meter(serial, town.days()[-1]) is not None


def test_a_balance_beside_a_damaged_last_day_is_that_of_the_day_before(own_copy):
    last = LakeTown(Folder(own_copy)).days()[-1]
    _damage(own_copy, "statements", last)
    town = LakeTown(Folder(own_copy))
    row = next(r for r in town.meters(MeterQuery(FIRST, limit=1000)).rows if r.account)
    consumer = town.consumer(row.account, FIRST)
    assert consumer.balance_paise == consumer.statement.closing_paise
    assert consumer.balance_as_of.date() == last
    assert town.damaged() == (last,)


def test_homes_are_read_ahead(folder, last, monkeypatch):
    """After that no home opens a column of the lake."""
    town = LakeTown(Folder(folder))
    with town.rows.begin() as connection:
        numbers = connection.execute(sa.select(account.c.number)).scalars().all()
    town.look_at_homes(last)
    opened, read = [], kept.read_rows
    monkeypatch.setattr(kept, "read_rows", lambda path, *how: opened.append(path) or read(path, *how))
    assert all(town.consumer(number, last) for number in numbers)
    assert opened == []
    assert town.consumer(numbers[0], FIRST)
    assert opened, "another day's are read when they are asked for"
