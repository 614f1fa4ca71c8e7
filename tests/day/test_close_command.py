"""`openami close` in a deployment whose clock goes on: a day is told when it is over, not before."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from openami.cli import app
from openami.errors import InputError
from openami.store.journal import Journal

from .homes import Home, even, read, site_of

FIRST, SECOND = date(2025, 12, 1), date(2025, 12, 2)
NOON_S = 1_764_657_000  # 2 December 2025, 12:00 in India


def test_a_day_that_is_not_over_is_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openami.cli.town.time", SimpleNamespace(time=lambda: NOON_S))
    site = site_of(tmp_path / "data", [Home("BR-DS2")], FIRST, 3)
    for day in (FIRST, SECOND):
        read(site, day, {"import_wh": even(200)})
    site.folder.journal.parent.mkdir(parents=True, exist_ok=True)
    Journal(site.folder.journal, create=True).close()
    monkeypatch.setattr("openami.day.collect", lambda *_, **__: Counter[str]())  # the readings are there already
    close = ["close", "--data", str(site.folder.root)]
    done = CliRunner().invoke(app, close)
    assert done.exit_code == 0, done.output
    assert site.lake.days("statements") == [FIRST]
    named = CliRunner().invoke(app, [*close, "--day", str(SECOND)])
    assert isinstance(named.exception, InputError)
    assert str(named.exception) == f"{SECOND} is not an open day of this folder that is over; those are {FIRST} to {FIRST}"
    monkeypatch.setattr("openami.cli.town.time", SimpleNamespace(time=lambda: NOON_S - 86_400))
    early = CliRunner().invoke(app, close)
    assert isinstance(early.exception, InputError)
    assert "is not over yet" in str(early.exception)
