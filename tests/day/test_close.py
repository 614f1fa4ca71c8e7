"""Closing: the same day again is the same day; balances chain from day to day; nothing starts again from nothing unseen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import openami
from openami.day import Site, close, close_all, collect
from openami.day.lines import charge_lines
from openami.day.meter_day import meter_day
from openami.day.roll import MARK
from openami.errors import DataError
from openami.fleet.town import Town
from openami.readings import ESTIMATED_BITS, IMPORT_WH, MISSING, Quality
from openami.store.blocks import read_rows
from openami.store.deployment import Folder

from .sites import DAYS, FIRST, device, make_site, make_town, pushes, send, used_wh

SECOND = FIRST + timedelta(days=1)
MUTE, LATE = 3, 4
"""Meter MUTE is never heard on the first day; of meter LATE one reading comes only after that day was closed."""
LATE_SLOT = 30
TABLES = ("validated", "validated_quality", "usage", "charges", "statements", "notices", "due", "balance", "meter_day")


@pytest.fixture(scope="module")
def town() -> Town:
    return make_town()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    root = tmp_path_factory.mktemp("closed") / "data"
    left_out = pushes(town, lambda number, slot: (number == MUTE and slot < 96) or (number, slot) == (LATE, LATE_SLOT))
    site = make_site(root, town, left_out)
    collect(site)
    close_all(site)
    site.rows.close()
    return root


@pytest.fixture
def site(tmp_path: Path, closed: Path) -> Site:
    return Site.open(Folder(Path(shutil.copytree(closed, tmp_path / "data"))))


def everything(site: Site) -> dict[tuple[str, date], list[dict[str, Any]]]:
    return {(t, d): site.lake.read(t, d, 0).to_pylist() for t in TABLES for d in (FIRST, SECOND)}


def statements(site: Site, day: date) -> dict[str, dict[str, Any]]:
    return {r["account"]: r for r in site.lake.read("statements", day, 0).to_pylist()}


# Again


def test_closing_every_day_again_changes_nothing(site: Site) -> None:
    before = everything(site)
    close_all(site)
    assert everything(site) == before


def test_closing_the_first_day_again_alone_changes_nothing(site: Site) -> None:
    before = everything(site)
    close(site, FIRST, 0)
    assert everything(site) == before


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_nothing(site: Site, threads: int) -> None:
    before = everything(site)
    close_all(site, threads=threads)
    assert everything(site) == before


def test_progress_counts_every_day_and_shard(site: Site) -> None:
    steps: list[int] = []
    close_all(site, steps.append)
    assert steps == [1] * DAYS


def test_an_earlier_version_tells_what_was_known(site: Site, town: Town) -> None:
    """Time travel: the statement that a consumer saw before a late reading came is still there."""
    version = site.lake.version("statements")
    before = site.lake.read("statements", FIRST, 0)
    late_reading(site, town)
    assert site.lake.read("statements", FIRST, 0, version).equals(before)


# Money


def test_a_balance_is_opening_plus_recharges_less_charges_and_the_next_days_opening(site: Site) -> None:
    first, second = statements(site, FIRST), statements(site, SECOND)
    accounts = {a.number: a for a in site.rows.accounts()}
    assert first.keys() == second.keys() == accounts.keys()
    for number, row in first.items():
        assert row["opening_paise"] == accounts[number].opening_paise
        assert row["closing_paise"] == row["opening_paise"] + row["recharges_paise"] - row["charges_paise"] - row["adjustments_paise"]
        assert second[number]["opening_paise"] == row["closing_paise"]


def test_a_statements_charge_is_the_sum_of_its_lines(site: Site) -> None:
    for day in (FIRST, SECOND):
        lines = charge_lines(site.lake, day, 0).group_by("account").aggregate([("amount_paise", "sum")])
        sums = dict(zip(lines["account"].to_pylist(), lines["amount_paise_sum"].to_pylist(), strict=True))
        assert sums == {number: row["charges_paise"] for number, row in statements(site, day).items()}


def test_the_view_of_charges_in_sql_has_every_line_of_every_account(site: Site) -> None:
    with duckdb.connect() as connection:
        openami.open(site.folder.root).charge_view(connection)
        found = connection.sql(f"select account, tariff, line, amount_paise from charge_lines where day = '{SECOND}'").fetchall()
    told = charge_lines(site.lake, SECOND, 0).to_pylist()
    assert sorted(found) == sorted(tuple(row.values()) for row in told)
    assert len(found) > 20


def test_the_charges_of_the_days_are_the_months_bill_to_date(site: Site) -> None:
    charged = pa.concat_tables([charge_lines(site.lake, d, 0) for d in (FIRST, SECOND)])
    assert pc.sum(charged["amount_paise"]).as_py() == pc.sum(site.lake.read("charges", SECOND, 0)["to_date_paise"]).as_py()


def test_recharges_are_those_of_the_day(site: Site) -> None:
    for day in (FIRST, SECOND):
        posted: dict[str, int] = {}
        for transfer in site.rows.transfers(day, day):
            posted[transfer.account] = posted.get(transfer.account, 0) + transfer.amount_paise
        assert {n: r["recharges_paise"] for n, r in statements(site, day).items() if r["recharges_paise"]} == posted


@pytest.mark.parametrize("table", ["usage", "charges", "statements", "notices"])
def test_a_file_of_accounts_says_which_roll_it_follows(site: Site, table: str) -> None:
    """Else the next day compares a million names."""
    (path,) = site.lake.all_files(table)[(SECOND, 0)]
    _, roll = site.registry_of(0, SECOND)
    assert read_rows(path).schema.metadata[MARK] == roll.mark


def test_the_latest_recharge_goes_on_from_day_to_day(site: Site) -> None:
    known: dict[str, int] = {}
    for day in (FIRST, SECOND):
        known |= {t.account: t.amount_paise for t in site.rows.transfers(day, day) if t.kind == "recharge"}
        rows, numbers = site.lake.read("notices", day, 0), site.lake.read("statements", day, 0)["account"].to_pylist()
        told = dict(zip(numbers, rows["last_recharge_paise"].to_pylist(), strict=True))
        assert {number: paise for number, paise in told.items() if paise} == known
    assert known


def test_the_latest_recharge_is_looked_up_where_the_day_before_does_not_tell_it(tmp_path: Path, town: Town) -> None:
    """Notices of an earlier release have no such column."""
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    close_all(site, days=[FIRST])
    before = site.lake.read("notices", FIRST, 0)
    with site.lake.draft(FIRST) as draft:
        draft.write("notices", 0, before.drop_columns(["last_recharge_paise"]))
        draft.commit()
    close_all(site, days=[SECOND])
    told = site.lake.read("notices", SECOND, 0)["last_recharge_paise"].to_pylist()
    latest = site.rows.last_recharges(site.lake.read("statements", SECOND, 0)["account"].to_pylist(), FIRST, SECOND)
    assert sorted(paise for paise in told if paise) == sorted(latest.values())


def account_of(site: Site, number: int) -> str:
    point = site.rows.usage_points()
    serial = site.rows.meters()[number].serial
    name = next(p.name for p in point if p.meter == serial)
    return next(a.number for a in site.rows.accounts() if a.usage_point == name)


def test_a_meter_that_was_never_heard_is_not_charged_for_energy(site: Site, town: Town) -> None:
    row = statements(site, FIRST)[account_of(site, MUTE)]
    assert row["held"]
    assert used_wh(site, FIRST)[account_of(site, MUTE)] == 0


def test_energy_charged_is_energy_validated(site: Site) -> None:
    """By account and day, but for those whose energy is held back."""
    for day in (FIRST, SECOND):
        charged = used_wh(site, day)
        for number, row in statements(site, day).items():
            assert charged[number] == (0 if row["held"] else row["wh"])


# What comes late


def late_reading(site: Site, town: Town) -> None:
    stamp = town.calendar.stamp(FIRST, LATE_SLOT)
    values = {name: int(block[LATE, LATE_SLOT]) for name, block in town.channels.items()}
    send(site.folder, [device(town, LATE, 3_000_000).push(stamp + 86_400, stamp, values)])
    collect(site)
    close_all(site)


def test_a_late_reading_takes_the_place_of_its_estimate(site: Site, town: Town) -> None:
    index = town.meters[LATE].index
    before = site.lake.read_blocks("validated", FIRST, 0)["import_wh"]
    assert before.quality[LATE_SLOT, index] & ESTIMATED_BITS
    assert before.quality[LATE_SLOT, index] & Quality.MISSING
    late_reading(site, town)
    after = site.lake.read_blocks("validated", FIRST, 0)["import_wh"]
    assert after.values[LATE_SLOT, index] == town.channels["import_wh"][LATE, LATE_SLOT]
    assert after.quality[LATE_SLOT, index] & (ESTIMATED_BITS | np.uint32(Quality.MISSING)) == 0


# What must not start again from nothing


def drop(site: Site, table: str) -> None:
    shutil.rmtree(site.lake.root / table)


def spoil(site: Site, table: str) -> None:
    sorted((site.lake.root / table / "_delta_log").glob("*.json"))[-1].write_text("{")


@pytest.mark.parametrize("damage", [drop, spoil], ids=["gone", "broken"])
@pytest.mark.parametrize("table", ["statements", "usage"])
def test_a_day_is_not_closed_upon_a_day_whose_money_is_unknown(site: Site, table: str, damage: Callable[[Site, str], None]) -> None:
    """Opening balances and energy to date come from the day before; without them the consumer's money would start anew."""
    damage(site, table)
    with pytest.raises(DataError, match=table):
        close(site, SECOND, 0)


def test_a_day_is_not_closed_before_the_day_before_it(tmp_path: Path, town: Town) -> None:
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    with pytest.raises(DataError, match=f"close {FIRST}"):
        close(site, SECOND, 0)


def test_a_day_without_raw_says_so(tmp_path: Path, town: Town) -> None:
    site = make_site(tmp_path / "data", town)
    with pytest.raises(DataError, match="raw"):
        close(site, FIRST, 0)


# Registries of another kind


def test_an_account_that_begins_on_the_second_day_opens_then(tmp_path: Path) -> None:
    town = make_town()
    town.accounts[0] = replace(town.accounts[0], since=SECOND)
    town.recharges = []
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    close_all(site)
    number = town.accounts[0].number
    assert number not in statements(site, FIRST)
    assert statements(site, SECOND)[number]["opening_paise"] == town.accounts[0].opening_paise


def test_a_shard_in_which_nobody_has_an_account_yet_is_closed(tmp_path: Path) -> None:
    town = make_town()
    town.accounts = [replace(a, since=SECOND) for a in town.accounts]
    town.recharges = []
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    close_all(site)
    assert statements(site, FIRST) == {}
    assert len(statements(site, SECOND)) == len(town.accounts)
    assert site.lake.read("balance", FIRST, 0).num_rows > 0


def test_a_day_counts_each_meter_as_its_readings_say(site: Site) -> None:
    day = site.deployment.open_days[-1]
    for shard in site.rows.shards():
        rows, raw = meter_day(site, day, shard), site.lake.read_blocks("raw", day, shard)[IMPORT_WH.name].values
        block, index = site.lake.read_blocks("validated", day, shard)[IMPORT_WH.name], site.index_of(shard, day)
        assert rows["received"].to_pylist() == (raw != MISSING).sum(axis=0).tolist()
        assert rows["estimated"].to_pylist() == ((block.quality & ESTIMATED_BITS) != 0).sum(axis=0).tolist()
        wh = np.where(block.values == MISSING, 0, block.values).sum(axis=0, dtype=np.int64)
        assert [value or 0 for value in rows["wh"].to_pylist()] == wh.tolist()
        assert rows["feeder"].to_pylist() == [index.feeders[k] for k in index.feeder.tolist()]
        assert rows["transformer"].to_pylist() == [index.transformers[k] if k >= 0 else None for k in index.transformer.tolist()]


def test_a_day_that_was_closed_before_meters_were_counted_is_counted_when_it_is_asked_for(site: Site) -> None:
    day, shard = site.deployment.open_days[-1], site.rows.shards()[0]
    kept = meter_day(site, day, shard)
    shutil.rmtree(site.lake.root / "meter_day")
    again = meter_day(Site.open(site.folder), day, shard)
    assert again.to_pylist() == kept.to_pylist()
