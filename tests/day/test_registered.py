"""What midnight registers say of a day reaches the close by itself, once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from openami.day import close_all, collect
from openami.day.registered import tell_registers
from openami.readings import IMPORT_WH
from openami.store.facts import facts_of
from openami.store.heard import Heard, RegisterReading
from openami.vee.facts import FactKind

from .sites import FIRST, make_site, make_town, pushes


def test_a_close_is_told_the_registers_that_came(tmp_path: Path) -> None:
    town = make_town()
    site = make_site(tmp_path / "data", town, pushes(town))
    collect(site)
    meter = site.rows.meters()[0]
    stamps = [site.calendar.day_start(FIRST + timedelta(days=k)) for k in (0, 1)]
    rows = [
        RegisterReading(
            "daily",
            stamp,
            meter.serial,
            import_wh=wh,
            import_vah=None,
            export_wh=None,
            export_vah=None,
            rest="{}",
            received_s=stamp,
            source="pull",
        )
        for stamp, wh in zip(stamps, (5_000, 12_345), strict=True)
    ]
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

    def row(kind: str, serial: str, k: int, wh: int) -> RegisterReading:
        return RegisterReading(kind, stamps[k], serial, wh, None, None, None, "{}", stamps[k], "pull")

    heard = Heard(site.rows)
    heard.note([], [row("daily", one.serial, 0, 100), row("daily", one.serial, 1, 350), row("daily", other.serial, 0, 40)])
    assert tell_registers(site) == 1
    heard.note([], [row("billing", other.serial, 1, 41)])
    assert [column.tolist() for column in heard.register_differences(one.shard, *stamps)] == [[one.index, other.index], [250, 1]]
    assert [column.tolist() for column in heard.register_differences(one.shard + 1, *stamps)] == [[], []]
    assert (tell_registers(site), tell_registers(site)) == (1, 0)
