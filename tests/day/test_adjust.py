"""After the close: what was told stays told; what comes late is charged as an adjustment; days and adjustments add up, whatever came when."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.day import Site, close, close_all, collect
from openami.day.adjust import waiting
from openami.day.closes import revision
from openami.day.lines import charge_lines
from openami.fleet.town import Town
from openami.readings import ESTIMATED_BITS, IMPORT_WH, MISSING, DayBlock, Quality
from openami.store.deployment import Folder

from .sites import FIRST, device, make_site, make_town, pushes, send, used_wh

DAYS = 3
SECOND, THIRD = FIRST + timedelta(days=1), FIRST + timedelta(days=2)
NEXT = FIRST + timedelta(days=DAYS)
MUTE, LATE = 3, 4
"""Meter MUTE is not heard on the first day until later; of meter LATE a few hours come only after that day was closed."""
LATE_SLOTS = range(30, 50)
TOLD = ("statements", "charges", "notices", "due")
DERIVED = ("validated", "validated_quality", "usage", "balance")


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town(days=DAYS)


def is_late(number: int, slot: int) -> bool:
    return (number == MUTE and slot < 96) or (number == LATE and slot in LATE_SLOTS)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Site:
    """Everything heard in time, and closed."""
    site = make_site(tmp_path_factory.mktemp("at-once") / "data", town, pushes(town))
    collect(site)
    close_all(site)
    return site


@pytest.fixture(scope="module")
def closed_early(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    """Two days closed while readings of the first are missing."""
    root = tmp_path_factory.mktemp("early") / "data"
    site = make_site(root, town, pushes(town, is_late))
    collect(site)
    close_all(site, days=[FIRST, SECOND])
    site.rows.close()
    return root


@pytest.fixture
def early(tmp_path: Path, closed_early: Path) -> Site:
    return Site.open(Folder(Path(shutil.copytree(closed_early, tmp_path / "data"))))


def late_frames(town: Town) -> list[bytes]:
    frames = []
    for number in (MUTE, LATE):
        meter = device(town, number, 3_000_000)
        for slot in range(96):
            if is_late(number, slot):
                stamp = town.calendar.stamp(FIRST, slot)
                frames.append(meter.push(stamp + 86_400, stamp, {name: int(block[number, slot]) for name, block in town.channels.items()}))
    return frames


def tell_late(site: Site, town: Town) -> None:
    send(site.folder, late_frames(town))
    collect(site)
    close_all(site, days=[FIRST, SECOND])


def tables(site: Site, names: tuple[str, ...], days: tuple[date, ...]) -> dict[tuple[str, date], list[dict[str, Any]]]:
    return {(name, day): site.lake.read(name, day, 0).to_pylist() for name in names for day in days}


def costs(site: Site, days: tuple[date, ...]) -> dict[tuple[str, str], int]:
    """(account, line) -> what the days cost by now: charges and adjustments, without lines of 0."""
    rows = [charge_lines(site.lake, day, 0).select(["account", "line", "amount_paise"]) for day in days if site.lake.has("charges", day, 0)]
    rows += [
        waiting(site, 0, day).select(["account", "line", "amount_paise"]) for day in (FIRST + timedelta(days=k) for k in range(DAYS + 1))
    ]
    found = pa.concat_tables(rows).group_by(["account", "line"]).aggregate([("amount_paise", "sum")])
    return {(r["account"], r["line"]): r["amount_paise_sum"] for r in found.to_pylist() if r["amount_paise_sum"]}


def test_what_was_told_is_never_edited(early: Site, town: Town) -> None:
    told = tables(early, TOLD, (FIRST, SECOND))
    tell_late(early, town)
    assert tables(early, TOLD, (FIRST, SECOND)) == told


def test_energy_is_what_it_would_have_been(early: Site, town: Town, at_once: Site) -> None:
    tell_late(early, town)
    assert tables(early, DERIVED, (FIRST, SECOND)) == tables(at_once, DERIVED, (FIRST, SECOND))


def test_the_days_cost_what_they_would_have_cost(early: Site, town: Town, at_once: Site) -> None:
    assert costs(early, (FIRST, SECOND)) != costs(at_once, (FIRST, SECOND))
    tell_late(early, town)
    assert costs(early, (FIRST, SECOND)) == costs(at_once, (FIRST, SECOND))


def test_only_who_is_touched_is_adjusted_and_told_for_which_day(early: Site, town: Town) -> None:
    tell_late(early, town)
    points = {p.meter: p.name for p in early.rows.usage_points()}
    touched = {a.number for a in early.rows.accounts() if a.usage_point in {points[town.meters[k].serial] for k in (MUTE, LATE)}}
    rows = waiting(early, 0, THIRD).to_pylist()
    assert {r["account"] for r in rows} == touched
    assert {r["for_day"] for r in rows} <= {FIRST, SECOND}
    assert {r["revision"] for r in rows} == {1}


def test_a_day_that_was_held_is_charged_when_it_is_known(early: Site, town: Town) -> None:
    held = {r["account"] for r in early.lake.read("statements", FIRST, 0).to_pylist() if r["held"]}
    assert len(held) == 1
    (account,) = held
    before = used_wh(early, FIRST)[account]
    tell_late(early, town)
    after = used_wh(early, FIRST)[account]
    own = town.channels["import_wh"][MUTE, :96]
    assert (before, after) == (0, int(own[own != MISSING].sum()))
    rows = waiting(early, 0, THIRD).filter(pc.field("account").isin(list(held)) & (pc.field("line") == "energy"))
    assert pc.sum(rows["amount_paise"]).as_py() > 0


def test_the_next_statement_has_the_adjustments(early: Site, town: Town, at_once: Site) -> None:
    tell_late(early, town)
    posted: dict[str, int] = {}
    for row in waiting(early, 0, THIRD).to_pylist():
        posted[row["account"]] = posted.get(row["account"], 0) + row["amount_paise"]
    close_all(early)
    rows = {r["account"]: r for r in early.lake.read("statements", THIRD, 0).to_pylist()}
    assert {n: r["adjustments_paise"] for n, r in rows.items() if r["adjustments_paise"]} == {n: p for n, p in posted.items() if p}
    closing = {r["account"]: r["closing_paise"] for r in at_once.lake.read("statements", THIRD, 0).to_pylist()}
    assert {n: r["closing_paise"] for n, r in rows.items()} == closing


def test_without_anything_new_nothing_is_posted_and_nothing_written(early: Site) -> None:
    versions = {name: early.lake.version(name) for name in early.lake.tables()}
    collect(early)
    close_all(early, days=[FIRST, SECOND])
    assert {name: early.lake.version(name) for name in early.lake.tables()} == versions


def test_asked_for_a_closed_day_is_reckoned_again_and_posts_nothing(early: Site) -> None:
    before = tables(early, TOLD + DERIVED, (FIRST, SECOND))
    close(early, FIRST, 0)
    assert (tables(early, TOLD + DERIVED, (FIRST, SECOND)), len(waiting(early, 0, THIRD))) == (before, 0)
    assert revision(early.lake, FIRST, 0) == 1


def test_a_load_corrected_in_the_registry_is_adjusted_when_the_day_is_asked_for(early: Site) -> None:
    """Not only readings: whatever the bill stands on."""
    _, roll = early.registry_of(0, FIRST)
    account, meter = roll.numbers[0].as_py(), int(roll.meter[0])

    class Corrected(Site):
        def registry_of(self, shard: int, day: date) -> Any:
            found, accounts = super().registry_of(shard, day)
            accounts.load_w[0] += 1000
            return found, accounts

    corrected = Corrected(early.folder, early.deployment, early.rows, early.lake)
    close(corrected, FIRST, 0)
    rows = waiting(early, 0, THIRD).to_pylist()
    assert {r["account"] for r in rows} == {account}, meter
    assert {"fixed"} <= {r["line"] for r in rows}


def test_an_adjustment_stopped_anywhere_is_finished_by_doing_it_again(
    early: Site, town: Town, at_once: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commit of the reckoning is a place where the machine may stop."""
    send(early.folder, late_frames(town))
    collect(early)
    commit, stops = early.lake.commit, 0

    class Stopped(Exception):
        pass

    for allowed in range(100):
        left = [allowed]

        def failing(*arguments: Any, left: list[int] = left, **named: Any) -> None:
            if not left[0]:
                raise Stopped
            left[0] -= 1
            commit(*arguments, **named)

        monkeypatch.setattr(early.lake, "commit", failing)
        try:
            close_all(early, days=[FIRST, SECOND])
            break
        except Stopped:
            stops += 1
    assert stops > 8
    assert costs(early, (FIRST, SECOND)) == costs(at_once, (FIRST, SECOND))
    assert tables(early, DERIVED, (FIRST, SECOND)) == tables(at_once, DERIVED, (FIRST, SECOND))


# Any order


SMALL_DAYS = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Town]:
    """A folder with a registry and no readings, to be copied."""
    town = make_town(days=SMALL_DAYS)
    root = tmp_path_factory.mktemp("small") / "data"
    make_site(root, town).rows.close()
    return root, town


def raw_blocks(town: Town, site: Site, day: date, heard: np.ndarray) -> list[DayBlock]:
    """The day's import readings of the hours that were heard, bool [meter, hour]."""
    at = 96 * (day - FIRST).days
    values = np.full((96, len(town.meters)), MISSING, np.int32)
    for number, meter in enumerate(town.meters):
        own = np.repeat(heard[number], 4)
        values[own, meter.index] = town.channels["import_wh"][number, at : at + 96][own]
    quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
    return [DayBlock(day, 0, IMPORT_WH, values, quality)]


steps = st.lists(
    st.tuples(st.integers(0, SMALL_DAYS - 1), st.integers(0, 10**6), st.sampled_from(["hear", "hear", "close"])), min_size=1, max_size=5
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_order_lateness_and_repetition_ends_in_the_same_totals(
    steps: list[tuple[int, int, str]], small: tuple[Path, Town], at_once: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hours of readings come in any order, some twice, with closes between; in the end all have come."""
    root, town = small
    site = Site.open(Folder(Path(shutil.copytree(root, tmp_path_factory.mktemp("any") / "data"))))
    days = [FIRST + timedelta(days=k) for k in range(SMALL_DAYS)]
    heard = np.zeros((SMALL_DAYS, len(town.meters), 24), np.bool_)
    closed = 0
    for day, seed, what in steps:
        if what == "hear":
            heard[day] |= np.random.default_rng(seed).random(heard[day].shape) < 0.6
            site.lake.write_blocks("raw", raw_blocks(town, site, days[day], heard[day]))
        elif closed <= day and all(site.lake.has("raw", d, 0) for d in days[: closed + 1]):
            closed += 1
            close_all(site, days=days[:closed])
    for k in reversed(range(SMALL_DAYS)):
        site.lake.write_blocks("raw", raw_blocks(town, site, days[k], np.ones_like(heard[k])))
    close_all(site, days=days)
    blocks = {d: site.lake.read_blocks("validated", d, 0)[IMPORT_WH.name] for d in days}
    whole = {d: at_once.lake.read_blocks("validated", d, 0)[IMPORT_WH.name] for d in days}
    assert all((blocks[d].quality & ESTIMATED_BITS).sum() == (whole[d].quality & ESTIMATED_BITS).sum() for d in days)
    assert all(np.array_equal(blocks[d].values, whole[d].values) for d in days)
    assert costs(site, tuple(days)) == costs(at_once, tuple(days))
    told = {r["account"]: r["closing_paise"] for r in site.lake.read("statements", days[-1], 0).to_pylist()}
    for row in waiting(site, 0, NEXT).to_pylist():
        told[row["account"]] -= row["amount_paise"]
    assert told == {r["account"]: r["closing_paise"] for r in at_once.lake.read("statements", THIRD, 0).to_pylist()}
    site.rows.close()
