"""Collecting: the journal replayed gives the same raw, whatever lies in it; a reading that cannot be used is in quarantine and stops no other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openami.cosem.axdr import NULL, Data, Tag
from openami.cosem.clock import CosemDateTime
from openami.cosem.push import obis_bytes
from openami.day import Site, collect
from openami.errors import DataError
from openami.fleet.meter import BLOCK_LOAD_PUSH
from openami.fleet.town import Town
from openami.readings import MISSING, Quality
from openami.store.journal import Journal

from .sites import FIRST, device, make_site, make_town, pushes, sealed, send

HIGH = 3_000_000
"""An invocation counter above all that the meters have used."""


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town(days=1)


@pytest.fixture(scope="module")
def frames(town: Town) -> list[bytes]:
    return pushes(town)


@pytest.fixture
def site(tmp_path: Path, town: Town, frames: list[bytes]) -> Site:
    return make_site(tmp_path / "data", town, frames)


def raw(site: Site, town: Town, channel: str = "import_wh") -> np.ndarray:
    """[meter in registry order, slot]"""
    block = site.lake.read_blocks("raw", FIRST, 0)[channel]
    return block.values[:, [m.index for m in town.meters]].T


def quality(site: Site, town: Town) -> np.ndarray:
    block = site.lake.read_blocks("raw", FIRST, 0)["import_wh"]
    return block.quality[:, [m.index for m in town.meters]].T


def quarantine(site: Site) -> list[tuple[str, str | None]]:
    journal = Journal(site.folder.journal)
    found = [(r.cause, r.serial) for r in journal.quarantine()]
    journal.close()
    return found


def authenticated(town: Town) -> int:
    return next(k for k, m in enumerate(town.meters) if m.security_control == 0x30 and m.model == "XMB-1P")


def test_raw_is_what_the_meters_sent(site: Site, town: Town) -> None:
    assert collect(site) == Counter()
    for name, block in town.channels.items():
        rows = slice(None) if name.startswith("import") else slice(0, town.consumers)
        np.testing.assert_array_equal(raw(site, town, name)[rows], block[rows])


def test_collecting_again_gives_the_same(site: Site, town: Town) -> None:
    collect(site)
    before = raw(site, town)
    assert collect(site) == Counter()
    np.testing.assert_array_equal(raw(site, town), before)


def test_progress_counts_every_frame(site: Site, frames: list[bytes]) -> None:
    steps: list[int] = []
    collect(site, steps.append)
    assert sum(steps) == len(frames)


def test_a_frame_that_comes_late_fills_its_slot(tmp_path: Path, town: Town, frames: list[bytes]) -> None:
    """All of the second meter's frames come after everybody else's."""
    own = [f for f in frames if town.meters[1].system_title in f]
    site = make_site(tmp_path / "data", town, [f for f in frames if f not in own])
    collect(site)
    assert (raw(site, town)[1] == MISSING).all()
    send(site.folder, own)
    collect(site)
    np.testing.assert_array_equal(raw(site, town), town.channels["import_wh"])


def test_two_readings_of_one_slot_are_marked_and_the_first_by_counter_stays(site: Site, town: Town) -> None:
    number = authenticated(town)
    stamp = town.calendar.stamp(FIRST, 10)
    send(site.folder, [device(town, number, HIGH).push(stamp, stamp, {"import_wh": 9_999})])
    collect(site)
    assert raw(site, town)[number, 10] == town.channels["import_wh"][number, 10]
    assert quality(site, town)[number, 10] & Quality.DUPLICATE


def test_a_registered_meter_of_a_foreign_journal_is_judged_by_its_own_keys(tmp_path: Path, frames: list[bytes]) -> None:
    """Frames of another town with the same titles: not one may be taken in."""
    other = make_town(seed=6, days=1)
    site = make_site(tmp_path / "data", other, frames)
    with pytest.raises(DataError, match="holds no reading of an open day"):
        collect(site)


# What genuine meters may say


def column(tag: Tag, value: object) -> Data:
    return Data(tag, value)


def when(year: int | None, month: int | None = 12, deviation: int | None = -330, **parts: int | None) -> CosemDateTime:
    whole = {"day": 1, "hour": 2, "minute": 30, "second": 0, **parts}
    return CosemDateTime(year=year, month=month, weekday=None, hundredths=0, deviation_minutes=deviation, status=0, **whole)


SOUND = when(2025)


def block(*rows: Data, push_object: str = BLOCK_LOAD_PUSH, clock: bytes = SOUND.encode()) -> Data:
    head = (
        Data(Tag.OCTET_STRING, b"x" * 10),
        Data(Tag.OCTET_STRING, obis_bytes(push_object)),
        Data(Tag.OCTET_STRING, clock),
    )
    return Data(Tag.STRUCTURE, (*head, Data(Tag.ARRAY, rows)))


def row(stamp: CosemDateTime | None, wh: Data = Data(Tag.FLOAT32, 0.25)) -> Data:  # noqa: B008 - a value, never written to
    """A row in the layout of XMB-1P."""
    at = NULL if stamp is None else Data(Tag.OCTET_STRING, stamp.encode())
    rest = (Data(Tag.FLOAT32, 0.25), Data(Tag.FLOAT32, 230.0), Data(Tag.FLOAT32, 1.0))
    return Data(Tag.STRUCTURE, (at, wh, *rest))


REFUSED = {
    "year 2000": (block(row(when(2000))), "out_of_day"),
    "year 1": (block(row(when(1, 1, day=1, hour=0, minute=0))), "out_of_day"),
    "year 1 and a deviation": (block(row(when(1, 1, deviation=-720, day=1, hour=0, minute=0))), "out_of_day"),
    "year 9999": (block(row(when(9999, 12, day=31, hour=23, minute=45))), "out_of_day"),
    "year 9999 and a deviation": (block(row(when(9999, 12, deviation=720, day=31, hour=23, minute=45))), "out_of_day"),
    "a deviation of three weeks": (block(row(when(2025, deviation=32_000))), "out_of_day"),
    "month 13": (block(row(when(2025, 13))), "out_of_day"),
    "no year": (block(row(when(None))), "out_of_day"),
    "nothing specified": (block(row(CosemDateTime())), "out_of_day"),
    "no stamp": (block(row(None)), "out_of_day"),
    "off the grid": (block(row(when(2025, minute=31))), "out_of_day"),
    "seconds off the grid": (block(row(when(2025, second=1))), "out_of_day"),
    "midnight before the first day": (block(row(when(2025, hour=0, minute=0))), "out_of_day"),
    "another push object": (block(row(SOUND), push_object="0.0.25.9.0.255"), "layout"),
    "a column of another type": (block(row(SOUND, Data(Tag.DOUBLE_LONG, 5))), "layout"),
    "a column too few": (block(Data(Tag.STRUCTURE, row(SOUND).value[:-1])), "layout"),
    "rows that are no structures": (block(Data(Tag.UNSIGNED, 5)), "layout"),
    "a body that is a number": (Data(Tag.UNSIGNED, 5), "layout"),
    "a body that is nothing": (NULL, "layout"),
    "an empty structure": (Data(Tag.STRUCTURE, ()), "layout"),
    "a stamp of eleven bytes": (block(Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, bytes(11)), *row(SOUND).value[1:]))), "layout"),
    "a clock of three bytes": (block(row(SOUND), clock=b"abc"), "layout"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_genuine_frame_that_cannot_be_used_is_quarantined_and_stops_no_other(site: Site, town: Town, name: str) -> None:
    body, cause = REFUSED[name]
    number = authenticated(town)
    send(site.folder, [sealed(town, number, HIGH, body)])
    assert collect(site) == Counter({cause: 1})
    assert quarantine(site) == [(cause, town.meters[number].serial)]
    np.testing.assert_array_equal(raw(site, town), town.channels["import_wh"])


def test_a_meter_of_a_maker_without_a_layout_stops_no_other(site: Site, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = site.rows.meters()
    monkeypatch.setattr(type(site.rows), "meters", lambda self: [replace(meters[0], maker="another"), *meters[1:]])
    assert collect(site) == Counter({"layout": 96})
    np.testing.assert_array_equal(raw(site, town)[1:], town.channels["import_wh"][1:])


@pytest.mark.parametrize(
    ("wh", "stored"),
    [
        (Data(Tag.FLOAT32, float("nan")), MISSING),
        (Data(Tag.FLOAT32, float("inf")), MISSING),
        (Data(Tag.FLOAT32, 1e30), MISSING),
        (NULL, MISSING),
        (Data(Tag.FLOAT32, 0.0), 0),
        (Data(Tag.FLOAT32, -0.25), -250),
        (Data(Tag.FLOAT32, 0.0005), 1),
    ],
)
def test_a_value_is_stored_as_it_is_or_not_at_all(tmp_path: Path, town: Town, frames: list[bytes], wh: Data, stored: int) -> None:
    number = authenticated(town)
    site = make_site(tmp_path / "data", town, [f for f in frames if town.meters[number].system_title not in f])
    send(site.folder, [sealed(town, number, HIGH, block(row(SOUND, wh)))])
    assert collect(site) == Counter()
    assert raw(site, town)[number, 9] == stored


def test_rows_of_one_push_each_find_their_own_place(tmp_path: Path, town: Town, frames: list[bytes]) -> None:
    """A push of several intervals, one of them outside the open days: the others are taken in."""
    number = authenticated(town)
    site = make_site(tmp_path / "data", town, [f for f in frames if town.meters[number].system_title not in f])
    body = block(*(row(when(year, hour=hour, minute=0), Data(Tag.FLOAT32, hour)) for year, hour in ((2025, 1), (1999, 2), (2025, 3))))
    send(site.folder, [sealed(town, number, HIGH, body)])
    assert collect(site) == Counter({"out_of_day": 1})
    own = raw(site, town)[number]
    assert {int(slot): int(own[slot]) for slot in np.flatnonzero(own != MISSING)} == {3: 1000, 11: 3000}


def test_the_same_hostile_journal_collected_twice_gives_the_same_quarantine(site: Site, town: Town) -> None:
    number = authenticated(town)
    send(site.folder, [sealed(town, number, HIGH + k, body) for k, (body, _) in enumerate(REFUSED.values())])
    first = collect(site)
    found = quarantine(site)
    assert collect(site) == first == Counter(cause for _, cause in REFUSED.values())
    assert quarantine(site) == found


# Damage


def test_a_folder_that_never_heard_a_meter_says_so(tmp_path: Path, town: Town) -> None:
    site = make_site(tmp_path / "data", town)
    with pytest.raises(DataError, match="holds no reading of an open day"):
        collect(site)


def test_another_master_key_is_named(site: Site) -> None:
    site.folder.master_key.write_text("00" * 32)
    with pytest.raises(DataError, match="master key is not the one"):
        collect(site)


def test_a_journal_cut_short_is_named_and_writes_nothing(site: Site) -> None:
    journal = Journal(site.folder.journal)
    journal._db.execute("UPDATE batch SET octets = substr(octets, 1, length(octets) - 1) WHERE seq = 2")
    journal.close()
    with pytest.raises(DataError, match="a journal batch"):
        collect(site)
    assert not site.lake.has("raw", FIRST, 0)
