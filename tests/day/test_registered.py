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
