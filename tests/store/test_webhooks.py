"""Which of a deployment's consoles tells webhooks, on both engines: one at a time, and another one soon after it is gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from openami.store.keys import MasterKey
from openami.store.rows import Rows
from openami.store.sql import Database
from openami.store.webhooks import Webhooks


@pytest.fixture
def told(database: Database) -> Webhooks:
    return Webhooks(Rows(database), MasterKey(bytes(range(32))))


def test_one_tells_until_it_is_gone(told: Webhooks) -> None:
    assert told.leads("a", 1000, 60)
    assert not told.leads("b", 1001, 60)
    assert told.leads("a", 1050, 60), "asked again: it goes on"
    assert not told.leads("b", 1100, 60)
    assert told.leads("b", 1110, 60), "a was not heard of for 60 s"
    assert not told.leads("a", 1111, 60)
    told.leave("a")
    assert not told.leads("a", 1112, 60), "it was not the one"
    told.leave("b")
    assert told.leads("a", 1113, 60)


def test_of_many_who_ask_at_once_one_tells(told: Webhooks) -> None:
    for round_s in (1000, 2000):  # the first time there is nothing; then a lease that has run out
        with ThreadPoolExecutor(8) as asked:
            found = list(asked.map(lambda name, at_s=round_s: told.leads(name, at_s, 60), "abcdefgh"))
        assert sum(found) == 1


def test_positions_of_feeds_are_not_touched(told: Webhooks) -> None:
    told.hand_over("orders", "[1]", [], 1000)
    assert told.leads("a", 1000, 60)
    told.leave("a")
    assert told.position("orders") == "[1]"
