"""What midnight registers say of a day reaches the close by itself, once."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from openami.day import Site, close_all, collect
from openami.day.registered import tell_registers
from openami.readings import IMPORT_WH
from openami.store.facts import facts_of
from openami.store.heard import Heard, RegisterReading
from openami.vee.facts import FactKind

from .sites import FIRST, make_site, make_town, pushes


def daily(serial: str, stamp_s: int, wh: int, kind: str = "daily") -> RegisterReading:
    return RegisterReading(kind, stamp_s, serial, wh, None, None, None, "{}", stamp_s, "pull")


def test_a_close_is_told_the_registers_that_came(tmp_path: Path) -> None:
    town = make_town()
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    meter = site.rows.meters()[0]
    stamps = [site.calendar.day_start(FIRST + timedelta(days=k)) for k in (0, 1)]
    rows = [daily(meter.serial, stamp, wh) for stamp, wh in zip(stamps, (5_000, 12_345), strict=True)]
    Heard(site.rows).note([], rows)
    close_all(site)
    facts = facts_of(site.lake, FIRST, meter.shard, IMPORT_WH.name)
    assert facts is not None
    own = facts.kind == int(FactKind.REGISTER)
    assert list(zip(facts.meter[own].tolist(), facts.value[own].tolist(), strict=True)) == [(meter.index, 7_345)]
    assert tell_registers(site) == 0, "once"


def test_a_midnight_that_is_told_later_is_heard_of_its_meter_alone(tmp_path: Path) -> None:
    """One meter's second midnight is missing until it comes, as a billing row; another meter's rise stays told once."""
    town = make_town()
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    one, other = site.rows.meters()[:2]
    stamps = [site.calendar.day_start(FIRST + timedelta(days=k)) for k in (0, 1)]

    heard = Heard(site.rows)
    heard.note([], [daily(one.serial, stamps[0], 100), daily(one.serial, stamps[1], 350), daily(other.serial, stamps[0], 40)])
    assert tell_registers(site) == 1
    heard.note([], [daily(other.serial, stamps[1], 41, "billing")])
    assert [column.tolist() for column in heard.register_differences(one.shard, *stamps)] == [[one.index, other.index], [250, 1]]
    assert [column.tolist() for column in heard.register_differences(one.shard + 1, *stamps)] == [[], []]
    assert (tell_registers(site), tell_registers(site)) == (1, 0)


@pytest.fixture
def told(tmp_path: Path) -> tuple[Site, list[int], list[str]]:
    """A site whose first meter's rise over the first day is told; the day's two midnights, and its meters."""
    town = make_town()
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    stamps = [site.calendar.day_start(FIRST + timedelta(days=k)) for k in (0, 1)]
    serials = [meter.serial for meter in site.rows.meters()]
    Heard(site.rows).note([], [daily(serials[0], stamp, wh) for stamp, wh in zip(stamps, (5_000, 12_345), strict=True)])
    assert tell_registers(site) == 1
    return site, stamps, serials


def test_where_nothing_has_come_no_register_is_read(told: tuple[Site, list[int], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    site, stamps, serials = told
    asked = []
    read = Heard.register_differences
    monkeypatch.setattr(Heard, "register_differences", lambda self, *which: (asked.append(which), read(self, *which))[1])
    assert (tell_registers(site), asked) == (0, [])
    Heard(site.rows).note([], [daily(serials[1], stamps[0], 7)])
    assert tell_registers(site) == 0, "only one of its midnights is there"
    assert asked == [(shard, *stamps) for shard in site.rows.shards()]
    assert (tell_registers(site), len(asked)) == (0, len(site.rows.shards()))


def test_a_rise_that_the_lake_has_lost_is_told_again(told: tuple[Site, list[int], list[str]]) -> None:
    """As where a lake was put back to a day before that of its database."""
    site, _, _ = told
    shutil.rmtree(site.lake.root / "facts")
    again = Site.open(site.folder)
    assert (tell_registers(again), tell_registers(again)) == (1, 0)


def test_a_register_that_came_first_is_not_told_otherwise_by_a_repeated_one(told: tuple[Site, list[int], list[str]]) -> None:
    """The first claim stays; a billing row above it is the higher one, and a close goes by it from then on."""
    site, stamps, serials = told
    heard = Heard(site.rows)
    heard.note([], [daily(serials[0], stamps[1], 99_999)])
    assert tell_registers(site) == 0
    heard.note([], [daily(serials[0], stamps[1], 12_400, "billing")])
    assert tell_registers(site) == 1
    meter = site.rows.meters()[0]
    facts = facts_of(site.lake, FIRST, meter.shard, IMPORT_WH.name)
    assert facts is not None
    assert facts.of(FactKind.REGISTER).value.tolist() == [7_345, 7_400]
