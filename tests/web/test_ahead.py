"""The latest day is read before anybody asks, and what cannot be read stops nobody."""

import threading
from datetime import date, timedelta
from typing import Any, cast

import pytest

from openami.errors import DataError
from openami.web.ahead import Ahead
from openami.web.pages import Console
from openami.web.reader import LakeTown

FIRST = date(2025, 12, 1)


class Town:
    """As much of a town as is asked here."""

    def __init__(self) -> None:
        self.last, self.read, self.asked = FIRST, list[date](), threading.Event()
        self.homes = list[date]()

    def days(self) -> tuple[date, ...]:
        return FIRST - timedelta(days=1), self.last

    def closed(self, day: date) -> Any:
        self.read.append(day)
        self.asked.set()

    def look_at_homes(self, day: date) -> None:
        self.homes.append(day)


def damaged() -> None:
    raise DataError("a file is damaged")


def test_the_latest_day_is_read_at_the_start_also_where_something_else_cannot_be() -> None:
    town = Town()
    others = threading.Event()
    ahead = Ahead(cast("LakeTown", town), (damaged, others.set))
    ahead.start()
    assert others.wait(60)
    assert town.asked.wait(60)
    ahead.stop()
    assert set(town.read) == {FIRST}


def test_what_was_read_before_the_house_opened_is_not_read_again_beside_it() -> None:
    town, read = Town(), list[str]()
    ahead = Ahead(cast("LakeTown", town), (lambda: read.append("names"),))
    ahead.begin()
    ahead.start()
    ahead.stop()
    assert (town.read, read) == ([FIRST], ["names"])


def test_a_mistake_of_ours_keeps_no_house_from_opening(caplog: pytest.LogCaptureFixture) -> None:
    town, read = Town(), list[str]()
    ahead = Ahead(cast("LakeTown", town), (lambda: {}["missing"], lambda: read.append("names")))
    ahead.begin()
    assert read == ["names"]
    assert "our own mistake" in caplog.text


def test_a_day_that_is_closed_later_is_read_too() -> None:
    town = Town()
    ahead = Ahead(cast("LakeTown", town), ())
    town.last = FIRST + timedelta(days=1)
    for _ in range(3):
        ahead.look()
    assert set(town.read) == {town.last}
    assert town.homes == [town.last], "once a day: what they are made of is kept"


def test_every_template_of_every_language_is_made_out_before_anybody_reads_it() -> None:
    console = Console(cast("LakeTown", Town()), {})
    console.make_out()
    for environment in console._environments.values():
        assert len(environment.cache) == len(environment.list_templates()) > 50
