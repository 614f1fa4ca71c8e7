"""The demo's scene on a closed town: told, refused, allowed, cut, paid, light, with real relays of simulated meters."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from openami.day import Site
from openami.demo.supplied import supply
from openami.fleet.town import Town
from openami.store.deployment import Folder
from openami.store.outbox import Outbox
from openami.supply.chain import Stage, chains

from .houses import owing


@pytest.fixture(scope="module")
def played(closed: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Town, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("scene") / "town"
    shutil.copytree(closed[0], folder)
    site = Site.open(Folder(folder))
    return site, closed[1], supply(Site(site.folder, replace(site.deployment, policy="BR"), site.rows, site.lake), closed[1])


def test_the_guard_refuses_some_and_allows_some(played: tuple[Site, Town, dict[str, Any]]) -> None:
    decided = played[2]["decisions"]
    assert decided["refused"] > 0
    assert decided["allowed"] > 0
    assert decided["BR: grace_below_floor"] > 0
    assert decided["KA: life_support"] > 0
    cut = {order["account"] for order in played[2]["orders"] if order["what"] == "disconnect"}
    assert owing(played[1])[0] not in cut, "a life-support device is there"


def test_each_relay_opens_and_comes_back_in_its_own_way(played: tuple[Site, Town, dict[str, Any]]) -> None:
    orders = played[2]["orders"]
    opened = [order for order in orders if order["what"] == "disconnect"]
    assert [order["state"] for order in opened] == ["confirmed"] * 3
    back = [order for order in orders if order["account"] in {o["account"] for o in opened} and order["what"] == "connect"]
    assert [order["state"] for order in back] == ["supplied"] * 3
    paid = [one for one in played[2]["chains"] if one["account"] in {o["account"] for o in opened}]
    assert sorted(one["closing"] for one in paid) == ["at_once", "button", "meter_delay"]
    assert {one["stage"] for one in paid} == {"light"}


def test_a_chain_has_every_time_in_its_order(played: tuple[Site, Town, dict[str, Any]]) -> None:
    found = [one for one in chains(played[0].rows, 0) if one.payment_id]
    assert len(found) == 3
    for one in found:
        times = [one.paid_s, one.posted_s, one.ordered_s, one.sent_s, one.accepted_s, one.closed_s, one.light_s]
        assert None not in times
        assert times == sorted(times)
        assert one.stage is Stage.LIGHT
        assert (one.ready_s is None) is (one.closing == "at_once")


def test_consumers_are_told_of_each_step_and_how_their_meter_closes(played: tuple[Site, Town, dict[str, Any]]) -> None:
    site, _, told = played
    for order in (o for o in told["orders"] if o["what"] == "disconnect"):
        messages = {n.kind: n for n in Outbox(site.rows.database).of_account(order["account"])}
        assert {"before_cut", "cut", "back"} <= set(messages)
        assert messages["before_cut"].delivered_s is not None
        chain = next(c for c in told["chains"] if c["account"] == order["account"])
        assert ("closing" in messages) is (chain["closing"] != "at_once")
    assert sum(count for name, count in told["messages"].items() if name.startswith("closing")) == 2
