"""Readings of many meters in one request: each row is what the meter's own route tells, in every form, within the asker's reach."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

import openami
from openami.errors import InputError, RequestError
from openami.store.lookup import Reach
from openami.web import many_meters
from openami.web.api import as_table, bulk
from openami.web.many_meters import Placed, days_of

from .houses import BASE, House, handed_over

BOTH = {"first": "2025-12-01", "last": "2025-12-02"}
SPAN = {"from": "2025-12-01", "to": "2025-12-02"}


@pytest.fixture
def ami(house: House):
    with openami.Client(BASE, token=house.token("operator"), http=house.unlimited().client()) as client:
        yield client


def _alone(ami, serials: list[str], channel: str = "import_wh", table: str = "validated") -> dict[tuple[str, str], tuple]:
    """(meter, end) -> (value, quality), as each meter's own route has them."""
    found = {}
    for serial in serials:
        own = ami.readings(serial, channel, table=table, **BOTH)
        found |= {(serial, str(end)): (v, q) for end, v, q in zip(*(own[c].to_pylist() for c in ("end", "value", "quality")), strict=True)}
    return found


def _rows(table: pa.Table) -> dict[tuple[str, str], tuple]:
    columns = [table[name].to_pylist() for name in ("meter", "end", "value", "quality")]
    return {(serial, str(end)): (value, bits) for serial, end, value, bits in zip(*columns, strict=True)}


@pytest.mark.parametrize(("channel", "table"), [("import_wh", "validated"), ("import_wh", "raw"), ("import_vah", "validated")])
def test_a_feeders_days_are_those_of_its_meters(house: House, ami, monkeypatch: pytest.MonkeyPatch, channel: str, table: str) -> None:
    monkeypatch.setattr(many_meters, "METERS_AT_ONCE", 5)
    monkeypatch.setattr(bulk, "PIECE_ROWS", 200)
    serials = [one["serial"] for one in ami.meters(feeder=house.own["feeder"])]
    found = ami.readings_of(channel, feeder=house.own["feeder"], table=table, **BOTH)
    assert found.num_rows == 2 * 96 * len(serials)
    assert _rows(found) == _alone(ami, serials, channel, table)
    about = found.schema.field("value").metadata
    assert (about[b"channel"], about[b"unit"], b"meter" in about) == (channel.encode(), b"Wh" if channel == "import_wh" else b"VAh", False)


def test_the_marks_of_a_value_come_with_it(ami) -> None:
    """Meter 3 of the town lost its first frames: it has quality words among those that have none."""
    marked = [one for one in ami.meters() if ami.quality(one["serial"], first="2025-12-01", last="2025-12-01")]
    assert marked
    found = ami.readings_of(meters=[one["serial"] for one in marked], first="2025-12-01", last="2025-12-01")
    assert np.count_nonzero(found["quality"].to_numpy()) == sum(
        len(ami.quality(one["serial"], first="2025-12-01", last="2025-12-01")) for one in marked
    )


def test_csv_says_the_same_as_arrow(house: House, ami) -> None:
    answer = house.client("operator").get("/api/v1/readings", params=SPAN | {"feeder": house.own["feeder"], "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.count("\r\n") == answer.text.count("\n")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    found = _rows(ami.readings_of(feeder=house.own["feeder"], **BOTH))
    assert len(rows) == len(found)
    for row, ((serial, end), (value, bits)) in zip(rows, found.items(), strict=True):
        assert (row["meter"], row["interval_end"]) == (serial, end.replace(" ", "T").replace("+00:00", "Z"))
        assert (row["import_wh_e0"], row["quality"]) == ("" if value is None else str(value), " ".join(as_table.quality_words(bits)))


def test_json_pages_go_on_to_the_end_and_say_the_same(house: House, ami) -> None:
    asked = SPAN | {"transformer": house.own["transformer"], "limit": 3}
    told, cursor = [], None
    while True:
        page = ami.get("/readings", **(asked | {"cursor": cursor}))
        assert len(page["items"]) <= 3
        told += page["items"]
        if (cursor := page["next"]) is None:
            break
    whole = ami.get("/readings", **(asked | {"limit": 500}))["items"]
    assert told == whole
    assert len({(one["meter"], one["day"]) for one in whole}) == len(whole) >= 4
    alone = ami.get(f"/meters/{whole[0]['meter']}/readings", **{"from": whole[0]["day"], "to": whole[0]["day"]})
    assert {name: value for name, value in whole[0].items() if name != "day"} == alone


def test_a_stream_goes_on_from_a_cursor_and_ends_where_it_was_told(house: House, ami) -> None:
    page = ami.get("/readings", feeder=house.own["feeder"], limit=2, **SPAN)
    answer = house.client("operator").get(
        "/api/v1/readings", params=SPAN | {"feeder": house.own["feeder"], "limit": 1, "cursor": page["next"], "format": "arrow"}
    )
    third = ami.get("/readings", feeder=house.own["feeder"], limit=3, **SPAN)["items"][2]
    found = pa.ipc.open_stream(answer.content).read_all()
    assert set(found["meter"].to_pylist()) == {third["meter"]}
    assert found["value"].to_pylist() == [one["value"] for one in third["readings"]]


def test_filters_narrow_each_other_and_nothing_is_told_of_what_is_not_there(house: House, ami) -> None:
    own, other = house.own["meter"], house.other["meter"]
    both = ami.readings_of(meters=[own, other, own], first="2025-12-02", last="2025-12-02")
    assert both.num_rows == 2 * 96
    assert set(ami.readings_of(meters=[own, other], feeder=house.own["feeder"])["meter"].to_pylist()) == {own}
    assert ami.readings_of(feeder="NONE").num_rows == 0
    with pytest.raises(RequestError, match="there is no meter NOPE here for you"):
        ami.readings_of(meters=[own, "NOPE"])
    with pytest.raises(InputError, match=r"query\.meters is not a list of names apart by commas, at most 500"):
        ami.readings_of(meters=[own, "a b"])


def test_a_division_gets_its_own_feeders_and_a_consumer_their_own_days(house: House) -> None:
    def of(name: str) -> openami.Client:
        return openami.Client(BASE, token=house.token(name), http=house.unlimited().client())

    with of("operator-own") as division:
        assert set(division.readings_of()["meter"].to_pylist()) == {one["serial"] for one in division.meters()}
        assert division.readings_of(feeder=house.other["feeder"]).num_rows == 0
        with pytest.raises(RequestError, match="there is no meter"):
            division.readings_of(meters=[house.own["meter"], house.other["meter"]])
    with of("consumer-own") as consumer:
        assert set(consumer.readings_of(**BOTH)["meter"].to_pylist()) == {house.own["meter"]}


def test_whoever_moved_in_does_not_see_the_days_before(tmp_path) -> None:
    from .houses import build

    house = build(tmp_path / "moved")
    handed_over(house)
    with openami.Client(BASE, token=house.token("consumer-moved"), http=house.unlimited().client()) as consumer:
        (meter,) = consumer.meters()
        seen = consumer.readings(meter["serial"], **BOTH)
        assert _rows(consumer.readings_of(**BOTH)) == {
            (meter["serial"], str(end)): (value, bits)
            for end, value, bits in zip(*(seen[name].to_pylist() for name in ("end", "value", "quality")), strict=True)
        }


def test_too_much_at_once_is_refused_with_the_way_out(house: House, ami, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "METER_DAYS_MOST", 20)
    with pytest.raises(
        InputError, match="these are more than 10 meters over 2 days; 20 days of meters can be given at once: ask for fewer days, or by"
    ):
        ami.readings_of(**BOTH)
    monkeypatch.setattr(bulk, "DAYS_MOST", 1)
    with pytest.raises(InputError, match="are 2 days, 1 can be given at once; ask for them in parts"):
        ami.readings_of(feeder=house.own["feeder"], **BOTH)


def test_a_stream_leaves_piece_by_piece_and_is_kept_nowhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PIECE_ROWS", 96)
    client, asked = house.unlimited().client("operator"), SPAN | {"feeder": house.own["feeder"], "format": "csv"}
    answer = client.get("/api/v1/readings", params=asked)
    assert (answer.headers["cache-control"], "etag" in answer.headers) == ("no-store", False)
    assert client.get("/api/v1/readings", params=asked, headers={"if-match": '"abc"'}).status_code == 412
    assert client.get("/api/v1/readings", params=SPAN).headers["etag"]
    rows = house.gate.lookup.meters(Reach(everything=True), "", 99, on_feeder=house.own["feeder"])
    placed = [Placed(row["serial"], row["shard"], row["index"]) for row in rows]
    read = []

    def watched():
        for row in ((day, one) for day in house.site.lake.days("validated") for one in placed):
            read.append(row)
            yield row

    first = next(days_of(house.site, "validated", "import_wh", watched()))
    assert (len(first.meters), len(read)) == (len(placed), len(placed) + 1), "the second day is not looked at before the first has left"


def test_a_day_that_the_lake_does_not_have_is_missing_not_nothing(house: House) -> None:
    day = house.site.lake.days("validated")[-1] + timedelta(days=9)
    (found,) = days_of(house.site, "validated", "import_wh", [(day, Placed("X", 0, 0)), (day, Placed("Y", 0, 10**6))])
    assert found.values.shape == (2, 96)
    assert np.unique(found.values).tolist() == [many_meters.MISSING]
    assert np.unique(found.quality).tolist() == [many_meters.Quality.MISSING]
