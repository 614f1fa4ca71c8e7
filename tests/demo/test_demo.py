"""The main job on a small town: it agrees with what was planted, is the same for the same seed, and leaves all or nothing."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from openami.day import Site
from openami.demo import judge
from openami.demo import run as demo
from openami.demo.asked import answering
from openami.demo.run import REPORT, TARIFFS, TRUTH, Wish, run_demo
from openami.errors import InputError, OpenAMIError, StorageError
from openami.fleet import town as fleet_town
from openami.fleet.households import load_households
from openami.fleet.town import Town, build_town
from openami.headend.status import not_stored
from openami.store.deployment import FILE, Folder
from openami.store.journal import Journal

FIRST = date(2025, 12, 1)


def quiet(name: str, steps: int) -> Any:
    return lambda done: None


def wish(folder: Path, seed: int = 3, days: int = 2, first: date = FIRST, consumers: int = 30, tariffs: tuple[str, ...] = TARIFFS) -> Wish:
    return Wish(folder, consumers, days, seed, first, tariffs)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """(data folder, report, everything that was logged)"""
    folder = tmp_path_factory.mktemp("demo") / "data folder"
    records: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record))

    handler = Listen(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    report = run_demo(wish(folder), quiet)
    logging.getLogger().removeHandler(handler)
    return folder, report, "\n".join(records)


@pytest.fixture(scope="module")
def over_new_year(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Over the end of a month and of the tariff year: 30 and 31 March, 1 April 2026."""
    folder = tmp_path_factory.mktemp("march") / "data"
    return folder, run_demo(wish(folder, seed=4, days=3, first=date(2026, 3, 30), consumers=20), quiet)


# What it says


def test_what_the_gate_has_not_stored_is_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that allows nothing refused to be stored: all of it is counted, by cause, and the judge agrees."""
    found = demo.found

    def strict(folder: Folder, town: Any) -> None:
        found(folder, town)
        folder.save(replace(folder.load(), refused_address_kib=0, refused_percent=0))

    monkeypatch.setattr(demo, "found", strict)
    report = run_demo(wish(tmp_path / "data", days=1, consumers=20), quiet)
    left_out = not_stored(Folder(tmp_path / "data"))
    planted = {cause: own["planted"] for cause, own in report["quarantine"].items() if cause != "out_of_day"}
    assert all(report["holds"].values())
    assert left_out == planted


def test_what_pushes_lost_is_read_from_the_meters_that_answer(ran: tuple[Path, dict[str, Any], str]) -> None:
    asked = ran[1]["asked"]
    assert asked["meters"] > 0
    assert 0 < asked["missing"] == asked["rows"]
    assert asked["registers"] == asked["meters"] * 3, "every midnight of two days, of each"


def test_consumers_whose_balance_is_low_are_told(ran: tuple[Path, dict[str, Any], str]) -> None:
    assert ran[1]["supply"]["messages"]["low_balance delivered"] > 0


def test_every_relay_that_opened_closed_when_it_was_paid_for_and_voltage_was_seen(ran: tuple[Path, dict[str, Any], str]) -> None:
    orders = ran[1]["supply"]["orders"]
    closed = [order for order in orders if order["what"] == "connect"]
    assert closed
    assert {(order["state"], order["note"].split(",")[0]) for order in closed} == {("supplied", "control state 1")}
    assert all(order["note"].endswith("V at the meter") for order in closed)
    opened = {order["account"] for order in orders if order["what"] == "disconnect" and order["state"] == "confirmed"}
    assert opened <= {order["account"] for order in closed}


def test_everything_that_must_hold_holds(ran: tuple[Path, dict[str, Any], str]) -> None:
    assert [sentence for sentence, ok in ran[1]["holds"].items() if not ok] == []
    assert len(ran[1]["holds"]) >= 8


def test_everything_that_must_hold_holds_over_the_end_of_the_tariff_year(over_new_year: tuple[Path, dict[str, Any]]) -> None:
    assert [sentence for sentence, ok in over_new_year[1]["holds"].items() if not ok] == []


def test_the_tariff_year_changes_in_the_charges(over_new_year: tuple[Path, dict[str, Any]]) -> None:
    """What is to date begins anew on 1 April: on that day it is the day's own charge."""
    site = Site.open(Folder(over_new_year[0]))
    for day, begins in ((date(2026, 3, 31), False), (date(2026, 4, 1), True)):
        told = [s for shard in site.rows.shards() for s in site.lake.read("statements", day, shard)["charges_paise"].to_pylist()]
        to_date = [b for shard in site.rows.shards() for b in site.lake.read("charges", day, shard)["to_date_paise"].to_pylist()]
        assert (told == to_date) is begins
    site.rows.close()


def test_the_report_is_beside_the_data(ran: tuple[Path, dict[str, Any], str]) -> None:
    folder, report, _ = ran
    assert json.loads((folder / REPORT).read_text()) == json.loads(json.dumps(report))
    assert json.loads((folder / TRUTH).read_text())["sent_by_kind"] == report["frames"]["planned"]


def without_timings(report: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in report.items() if k != "timings"}, indent=1)


def test_the_same_seed_gives_the_same_report_byte_for_byte(ran: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    assert without_timings(run_demo(wish(tmp_path / "again"), quiet)) == without_timings(ran[1])


def test_another_seed_gives_another_report(ran: tuple[Path, dict[str, Any], str], over_new_year: tuple[Path, dict[str, Any]]) -> None:
    assert ran[1]["fingerprint"] != over_new_year[1]["fingerprint"]


def test_a_reading_that_was_lost_on_the_way_to_raw_is_noticed(ran: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    """The judge judges: with one reading changed in the lake it must not say that all holds."""
    folder = Folder(Path(shutil.copytree(ran[0], tmp_path / "data")))
    site = Site.open(folder)
    blocks = site.lake.read_blocks("raw", FIRST, 0)
    blocks["import_wh"].values[40, 0] += 1
    site.lake.write_blocks("raw", list(blocks.values()))
    town = build_town(3, 30, FIRST, 2, TARIFFS)
    plan = demo.plant(town)
    demo.measure(town)
    confirmed = {(k, at) for k, own in enumerate(plan.sends) for at, send in enumerate(own) if send.kind in judge.TAKEN_IN}
    holds = judge.report(site, town, plan, demo.Outcome(0, 0, confirmed), answering(town, plan)[1])["holds"]
    assert not holds["every reading that arrived is in raw exactly once"]
    site.rows.close()


# Secrets and names


def town_of(folder: Path) -> Town:
    settings = Folder(folder).load()
    return build_town(settings.seed or 0, 30, settings.first_day, settings.days, TARIFFS)


def secrets(folder: Path) -> list[bytes]:
    """Every meter's keys, raw and as hex, and the master key."""
    keys = [octets for s in town_of(folder).secrets.values() for octets in (s.keys.ek, s.keys.ak)]
    master = Folder(folder).master_key.read_text().strip()
    return [*keys, *(k.hex().encode() for k in keys), master.encode(), bytes.fromhex(master)]


def test_no_key_lies_anywhere_but_in_its_place(ran: tuple[Path, dict[str, Any], str]) -> None:
    hidden = secrets(ran[0])
    files = [path for path in ran[0].rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert len(files) > 20
    found = [path.name for path in files for octets in [path.read_bytes()] if any(secret in octets for secret in hidden)]
    assert found == []


def test_no_consumers_name_is_in_the_lake_the_report_or_the_journal(ran: tuple[Path, dict[str, Any], str]) -> None:
    folder, report, _ = ran
    site = Site.open(Folder(folder))
    names = {a.consumer_name for a in site.rows.accounts()}
    tables = [p.name for p in (folder / "lake").iterdir()]
    texts = [json.dumps(report), (folder / TRUTH).read_text(), (folder / FILE).read_text()]
    for table in tables:
        for day in site.lake.days(table):
            for shard in site.rows.shards():
                if site.lake.has(table, day, shard):
                    texts.append(json.dumps(site.lake.read(table, day, shard).to_pylist(), default=str))
    journal = Journal(Folder(folder).journal)
    texts += [f"{r.detail} {r.serial} {r.octets!r}" for r in journal.quarantine()]
    journal.close()
    site.rows.close()
    assert len(names) == 30
    assert [name for name in names if any(name in text for text in texts)] == []


def test_the_log_names_no_consumer_and_no_key(ran: tuple[Path, dict[str, Any], str]) -> None:
    logged = ran[2]
    assert "Consumer 0" not in logged
    assert not [s for s in secrets(ran[0]) if s.decode("latin-1") in logged]


# All or nothing


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that is over at once: its work is left out, its way through the folders is the real one."""

    def work(partial: Folder, *_: object) -> dict[str, Any]:
        (partial.root / REPORT).write_text("fresh")
        return {"holds": {}}

    monkeypatch.setattr(demo, "_work", work)


def old_demo(folder: Path) -> dict[str, bytes]:
    run_demo(wish(folder), quiet)
    (folder / "mark").write_text("the old one")
    return snapshot(folder)


def test_an_earlier_demo_is_replaced_as_a_whole(tmp_path: Path, small: None) -> None:
    old_demo(tmp_path / "data")
    run_demo(wish(tmp_path / "data"), quiet)
    assert not (tmp_path / "data" / "mark").exists()
    assert names_in(tmp_path) == {"data"}


def test_an_empty_folder_is_taken(tmp_path: Path, small: None) -> None:
    (tmp_path / "data").mkdir()
    run_demo(wish(tmp_path / "data"), quiet)
    assert (tmp_path / "data" / REPORT).read_text() == "fresh"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path, small: None) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        run_demo(wish(tmp_path / "data"), quiet)
    assert (tmp_path / "data").is_symlink()
    assert (tmp_path / "elsewhere" / REPORT).read_text() == "fresh"
    assert names_in(tmp_path) == {"data", "elsewhere"}


@pytest.mark.parametrize("at", ["data", "data.partial", "data.old"])
def test_what_is_no_demo_is_neither_replaced_nor_removed(tmp_path: Path, small: None, at: str) -> None:
    (tmp_path / at).mkdir()
    (tmp_path / at / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="holds something else than a demo"):
        run_demo(wish(tmp_path / "data"), quiet)
    assert snapshot(tmp_path) == {f"{at}/thesis.txt": b"ten years of work"}


def test_the_data_of_real_meters_is_no_demo(tmp_path: Path, small: None) -> None:
    old_demo(tmp_path / "data")
    settings = tmp_path / "data" / FILE
    settings.write_text("".join(x for x in settings.open() if not x.startswith("seed")))
    with pytest.raises(InputError, match="holds something else"):
        run_demo(wish(tmp_path / "data"), quiet)
    assert (tmp_path / "data" / "mark").exists()


@pytest.mark.parametrize("at", ["data", "data.partial", "data.old"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, small: None, at: str) -> None:
    (tmp_path / at).write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        run_demo(wish(tmp_path / "data"), quiet)
    assert snapshot(tmp_path) == {at: b"mine"}


def test_the_rests_of_a_demo_that_was_killed_are_cleared(tmp_path: Path, small: None) -> None:
    run_demo(wish(tmp_path / "data.partial"), quiet)
    run_demo(wish(tmp_path / "data"), quiet)
    assert names_in(tmp_path) == {"data"}


def test_a_path_that_the_lake_cannot_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="% in its path"):
        run_demo(wish(tmp_path / "100%"), quiet)
    assert names_in(tmp_path) == set()


def test_the_root_of_a_file_system_is_refused(small_disk: Path, small: None) -> None:
    with pytest.raises(InputError, match="root of a file system"):
        run_demo(wish(small_disk), quiet)


def test_a_folder_below_a_file_is_refused(tmp_path: Path, small: None) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        run_demo(wish(tmp_path / "file" / "data"), quiet)
    assert snapshot(tmp_path) == {"file": b"mine"}


def test_a_read_only_disk_is_refused(small_disk: Path, make_read_only: Any, small: None) -> None:
    make_read_only()
    with pytest.raises(StorageError, match="Read-only file system"):
        run_demo(wish(small_disk / "data"), quiet)


@pytest.mark.parametrize("place", ["founding", "collecting"])
@pytest.mark.parametrize("error", [StorageError("no"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_demo_that_fails_leaves_the_earlier_one_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(demo, "_work", lambda *_: {"holds": {}})
        before = old_demo(tmp_path / "data")

    def fail(*_: object) -> None:
        raise error

    def work(partial: Folder, *_: object) -> None:
        (partial.root / "half").write_text("written")
        fail()

    monkeypatch.setattr(*((demo, "found", fail) if place == "founding" else (demo, "_work", work)))
    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        run_demo(wish(tmp_path / "data"), quiet)
    assert snapshot(tmp_path / "data") == before
    assert names_in(tmp_path) == {"data"}


def test_a_disk_that_fills_up_at_work_ends_the_demo_with_the_reason(small_disk: Path) -> None:
    """Two mebibytes are too few for a day of this town. Nothing is left of the attempt."""
    with pytest.raises(StorageError, match=r"free space|No space left"):
        run_demo(wish(small_disk / "data", days=1, consumers=60), quiet)
    assert names_in(small_disk) == set()


def test_a_head_end_that_dies_at_work_ends_the_demo_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after all the meters' attempts, and with the head-end's own last words."""
    started = demo.subprocess.Popen

    class Dying(started):  # type: ignore[misc, valid-type]
        def __init__(self, command: list[str], **options: Any) -> None:
            code = "import json, os, socket, sys; s = socket.create_server(('127.0.0.1', 0))\n"
            code += "print(json.dumps({'port': s.getsockname()[1]}), flush=True); s.accept()[0].recv(1)\n"
            code += "print('12:00 noise', file=sys.stderr); print('openami: the tape has torn', file=sys.stderr); os._exit(2)"
            super().__init__([command[0], "-c", code], **options)

    monkeypatch.setattr(demo.subprocess, "Popen", Dying)
    with pytest.raises(StorageError, match=r"^the head-end stopped in the middle of its work: the tape has torn$"):
        run_demo(wish(tmp_path / "data", days=1, consumers=20), quiet)
    assert names_in(tmp_path) == set()


# What it refuses


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tariffs": ("NOPE",)}, "NOPE"),
        ({"tariffs": ("BR-DS2", "NOPE")}, "NOPE"),
        ({"tariffs": ("BR-DS2", "BR-DS2-TOU", "BR-DS2")}, "3 tariffs"),
        ({"first": date(1990, 1, 1)}, "BR-DS2"),
        ({"first": date(9999, 12, 31)}, "BR-DS2"),
        ({"first": date(2027, 3, 31), "days": 2}, "2027-04-01"),
        ({"days": 0}, "--days 0"),
        ({"days": 10**9}, "--days 1000000000"),
        ({"consumers": 19}, "--meters 19"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(OpenAMIError, match=reason):
        run_demo(wish(tmp_path / "data", **changes), quiet)
    assert names_in(tmp_path) == set()


def test_a_corrupt_shipped_file_is_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "households.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(fleet_town, "load_households", lambda: load_households(tmp_path / "households.parquet"))
    with pytest.raises(OpenAMIError, match=r"household data .*households\.parquet cannot be read"):
        run_demo(wish(tmp_path / "data"), quiet)
    assert names_in(tmp_path) == {"households.parquet"}


def test_whoever_is_listed_steals_or_has_a_fault(ran: tuple[Path, dict[str, Any], str]) -> None:
    """An innocent home among the suspects is the worst error."""
    folder, report, _ = ran
    truth = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
    planted = {*truth["theft"], *truth["broken"], *truth["mapped_wrong"]}
    listed = {row["meter"] for row in report["suspicion"]["counting_too_little"]}
    assert listed <= planted
