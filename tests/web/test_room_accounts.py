"""The control room's pages of service levels, quality, tariffs and statements, over a real, small town; the audit trail in words."""

from __future__ import annotations

import csv
import io
import re
from datetime import date, timedelta

import pytest

from api.houses import House, build
from openami.billing.tariff import load_tariffs
from openami.day.found import OutageRow
from openami.errors import DataError
from openami.store.audit import AuditTrail, Entry
from openami.store.heard import Heard, Mark
from openami.web.control_room import quality, statements
from openami.web.control_room.levels import CAUSES, feeder_days
from openami.web.control_room.tariffs import said
from openami.web.wording import language

HOUR = 3600


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> House:
    return build(tmp_path_factory.mktemp("room-accounts"))


@pytest.fixture
def operator(house):
    return house.browser("operator")


def rows_of(answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


def first_day(house: House) -> date:
    return house.site.lake.days("validated")[0]


def test_a_day_lacks_what_was_never_sent_by_feeder_and_cause(house, operator):
    day = first_day(house)
    stands = house.app.state.room.town.closed(day)
    lost = sum(int((stands.slots - shard.received).sum()) for shard in stands.shards.values())
    rows = rows_of(operator.get(f"/room/service-levels.csv?day={day}"))
    assert lost > 0
    assert sum(int(row[f"{cause}_intervals"]) for row in rows for cause in CAUSES) == lost
    assert all(int(row["due"]) - int(row["came"]) == sum(int(row[f"{cause}_intervals"]) for cause in CAUSES) for row in rows)
    assert int(rows[0]["gaps_meters"]) == 1, "one meter's frames were lost, and it spoke again on the same day"


def test_what_was_dark_lacks_for_that_and_for_nothing_else(house):
    day = first_day(house)
    stands = house.app.state.room.town.closed(day)
    town = house.app.state.gate.described(house.app.state.gate.people.find("operator"))
    lacking = next(one for one in feeder_days(stands, [], town) if sum(one.intervals))
    at = house.site.calendar.local(0)
    outage = OutageRow(day, 0, 0, "feeder", lacking.name, lacking.name, at, None, at, 1, 1, "gasp", 1, 0, 0.0, False)
    after = next(one for one in feeder_days(stands, [outage], town) if one.name == lacking.name)
    assert after.intervals == (sum(lacking.intervals), 0, 0, 0)
    assert after.meters == (sum(lacking.meters), 0, 0, 0)


def test_a_levels_day_is_reached_or_missed(house, operator):
    day, calendar = first_day(house), house.site.calendar
    midnights = [calendar.day_start(day + timedelta(days=k)) for k in (1, 2)]
    marks = [Mark("block_load", midnights[0], midnights[0] + HOUR, 100, 96), Mark("block_load", midnights[1], midnights[1] + HOUR, 100, 90)]
    Heard(house.site.rows).mark(marks)
    page = operator.get(f"/room/service-levels?day={day + timedelta(days=1)}&lang=en").text
    assert "1 missed the level" in page
    assert re.search(r"96\.0%\s*<span class=\"ok\">✓", page)
    assert "▲ missed by 5" in page


def test_quality_counts_every_interval_once_and_a_day_that_cannot_be_read_is_unknown(house, operator, monkeypatch):
    day = first_day(house)
    stands = house.app.state.room.town.closed(day)
    rows = [row for row in rows_of(operator.get("/room/quality.csv?kind=estimated")) if row["day"] == str(day)]
    assert {row["feeder"]: (int(row["intervals"]), int(row["missing"]), int(row["estimated"])) for row in rows} == {
        one.name: (one.expected, one.missing, one.estimated) for one in stands.feeders
    }
    whole = quality.counted

    def hurt(site, asked, shards):
        if asked == day:
            raise DataError("a file is damaged")
        return whole(site, asked, shards)

    monkeypatch.setattr(quality, "counted", hurt)
    fresh = quality.QualityDays(lambda: house.site)
    assert fresh.on(day) is None
    assert fresh.on(day + timedelta(days=1))


def test_a_division_sees_its_own_feeder_alone(house):
    own = house.browser("operator-own")
    for path in ("quality", "service-levels"):
        assert {row["feeder"] for row in rows_of(own.get(f"/room/{path}.csv?day={first_day(house)}"))} == {house.own["feeder"]}
    numbers = {row["account"] for row in rows_of(own.get("/room/statements.csv"))}
    assert house.own["account"] in numbers
    assert house.other["account"] not in numbers


@pytest.mark.parametrize("code", ["en", "hi"])
def test_every_line_of_every_tariff_has_a_rate_in_words(code):
    book = load_tariffs()
    for name in book.names:
        for tariff in book.versions(name):
            lines = said(language(code), tariff)
            assert len(lines) == len(tariff.lines)
            assert all(line.label and line.rows and all(rate for _, rate in line.rows) for line in lines)


def test_a_card_says_what_a_unit_costs_on_the_asked_day(operator):
    assert "₹8.95 a unit (kWh)" in operator.get("/room/tariffs/BR-DS2?day=2025-12-01&lang=en").text
    assert "₹8.95" not in operator.get("/room/tariffs/BR-DS2?day=2026-06-01&lang=en").text
    assert "does not hold on this day" in operator.get("/room/tariffs/BR-DS2?day=1999-01-01&lang=en").text
    assert operator.get("/room/tariffs/NOPE?lang=en").status_code == 404
    assert "is not a day" in operator.get("/room/tariffs?day=2025-13-01&lang=en").text


def test_statements_are_found_by_number_page_by_page(house, operator, monkeypatch):
    monkeypatch.setattr(statements, "ROWS", 7)
    seen, cursor = [], ""
    while True:
        page = operator.get(f"/room/statements?lang=en{cursor}").text
        seen += re.findall(r'<th scope="row"><a href="/consumers/(\d+)', page)
        onward = re.search(r'(&amp;|\?)cursor=([^"&]+)[^"]*" rel="next"', page)
        if not onward:
            break
        cursor = f"&cursor={onward[2]}"
    assert seen == sorted(row["account"] for row in rows_of(operator.get("/room/statements.csv")))
    one = operator.get(f"/room/statements?text={house.own['account']}&lang=en").text
    assert re.findall(r'<th scope="row"><a href="/consumers/(\d+)', one) == [house.own["account"]]
    assert "No statement matches" in operator.get("/room/statements?text=nobody&lang=en").text


def test_the_lowest_balances_come_first_and_each_once(house, operator, monkeypatch):
    told = {row["account"]: int(row["closing_paise"]) for row in rows_of(operator.get("/room/statements.csv"))}
    low = sorted((paise, number) for number, paise in told.items() if paise < 0)
    assert len(low) > 1
    monkeypatch.setattr(statements, "ROWS", 1)
    first = operator.get("/room/statements?state=below&lang=en").text
    cursor = re.search(r"cursor=([^\"&]+)", first)[1]
    second = operator.get(f"/room/statements?state=below&lang=en&cursor={cursor}").text
    found = [re.findall(r'<th scope="row"><a href="/consumers/(\d+)', page) for page in (first, second)]
    assert found == [[low[0][1]], [low[1][1]]]


def test_an_account_without_a_statement_ends_no_list(house, operator, monkeypatch):
    numbers = sorted(row["account"] for row in rows_of(operator.get("/room/statements.csv")))
    whole = statements._rows

    def without(site, gate, who, day, held):
        return (row for row in whole(site, gate, who, day, held) if row.account not in numbers[1:3])

    monkeypatch.setattr(statements, "_rows", without)
    monkeypatch.setattr(statements, "ROWS", 2)
    page = operator.get("/room/statements?lang=en").text
    assert re.findall(r'<th scope="row"><a href="/consumers/(\d+)', page) == numbers[:1]
    assert 'rel="next"' in page


def test_a_division_is_told_its_own_balances_and_asks_for_no_others(house, monkeypatch):
    town = rows_of(house.browser("operator").get("/room/statements.csv"))
    low = {row["account"] for row in town if int(row["closing_paise"]) < 0}
    lookup, asked = type(house.gate.lookup), list[str]()
    account = lookup.account
    monkeypatch.setattr(lookup, "account", lambda self, reach, number: asked.append(number) or account(self, reach, number))
    for who in ("operator-own", "operator-other"):
        asked.clear()
        page = house.browser(who).get("/room/statements?state=below&lang=en").text
        own = {row["account"] for row in rows_of(house.browser(who).get("/room/statements.csv"))}
        assert set(asked) == low & own == set(re.findall(r'<th scope="row"><a href="/consumers/(\d+)', page))


def test_who_takes_a_day_of_statements_stands_in_the_trail(house, operator):
    count = len(rows_of(operator.get("/room/statements.csv")))
    entry = AuditTrail(house.site.rows).latest(1, action="statements.export")[0][1]
    assert (entry.who, entry.why) == ("operator", f"{count} statements")


def test_a_file_of_too_many_statements_is_refused_in_words(operator, monkeypatch):
    monkeypatch.setattr(statements, "FILE_MOST", 3)
    answer = operator.get("/room/statements.csv?lang=en")
    assert answer.status_code == 422
    assert "too many for one file" in answer.text


@pytest.mark.parametrize(
    ("action", "why", "told"),
    [
        ("order connect", "o-1: tested", "o-1: tested"),
        ("propose disconnect", "12 meters: unpaid", "12 मीटर: unpaid"),
        ("supply life_support yes", "a letter", "जीवन रक्षक"),
        ("convert to prepaid", "asked for it", "प्रीपेड में बदला"),
        ("ledger.refund", "account 7: paid twice", "खाता 7: paid twice"),
        ("ledger.issue", "40 bills", "40 बिल"),
        ("terms", "from 2025-12-01: BR-DS1, 2000 VA: moved", "2025-12-01 से: BR-DS1, 2000 VA: moved"),
        ("payment.start", "15050 paise", "₹150.50"),
    ],
)
def test_what_the_command_line_wrote_is_told_in_hindi(house, action, why, told):
    AuditTrail(house.site.rows).note(Entry(house.gate.now_s, "clerk", "", action, "X-1", why, "desk"))
    page = house.browser("auditor").get("/room/audit", params={"lang": "hi", "action": action}).text
    assert told in page
