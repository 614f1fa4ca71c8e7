"""`If-Match`: the look at a thing and what is done to it are one, on both engines; of several who mean the same state, one acts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openami.control.order import Event, advance
from openami.store.order_book import OrderBook
from openami.store.sql import ENVIRONMENT
from openami.web.api.around import Tagged

from .houses import House, build

RACERS = 6
NOT_YET_S = 0.5
"""How long somebody is given to come between, who must not."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def racing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house on either engine."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "postgres":
            where = request.getfixturevalue("postgres")(request.getfixturevalue("postgres_template"))
            patch.setenv(ENVIRONMENT, where.render_as_string(hide_password=False))
        made = build(tmp_path_factory.mktemp("racing") / "data").unlimited()
        assert made.site.rows.database.is_sqlite is (request.param == "sqlite")
        yield made
        made.site.rows.database.close()


def _withdrawal(house: House) -> tuple[str, str, str, dict[str, Any]]:
    number = house.made_for("POST", "/orders/{order_id}/withdraw", house.own)["order"]
    return "operator", f"/api/v1/orders/{number}", "/withdraw", {"json": {"why": "decided on what was seen"}}


def _new_secret(house: House) -> tuple[str, str, str, dict[str, Any]]:
    return "admin", f"/api/v1/webhooks/{house.made_for('POST', '/webhooks/', house.own)['id']}", "/secret", {}


@pytest.mark.parametrize("thing", [_withdrawal, _new_secret])
def test_of_many_who_mean_the_same_state_one_acts(racing: House, thing: Callable[[House], Any]) -> None:
    who, address, act, given = thing(racing)
    clients = [racing.client(who) for _ in range(RACERS)]
    seen, together = clients[0].get(address).headers["etag"], threading.Barrier(RACERS)

    def send(client: Any) -> int:
        together.wait()
        headers = {"if-match": seen, "idempotency-key": os.urandom(8).hex()}
        return int(client.post(address + act, headers=headers, **given).status_code)

    with ThreadPoolExecutor(RACERS) as threads:
        told = sorted(threads.map(send, clients))
    assert told[0] in (200, 201)
    assert told[1:] == [412] * (RACERS - 1)
    assert clients[0].get(address).headers["etag"] != seen


def test_nobody_comes_between_the_look_and_the_act(racing: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who names no tag, the head-end's desk say, waits until it is done, and finds it so."""
    who, address, act, given = _withdrawal(racing)
    book, client, look = OrderBook(racing.site.rows), racing.client(who), Tagged._tag_of_thing
    seen, before = client.get(address).headers["etag"], book.order(address.rpartition("/")[2])
    failed: list[Exception] = []

    def desk() -> None:
        try:
            book.record(before, advance(before, Event.ALLOW, racing.gate.now_s, "the guard allowed it"))
        except Exception as error:
            failed.append(error)

    other = threading.Thread(target=desk)

    async def looking(self: Tagged, scope: Any) -> str | None:
        tag = await look(self, scope)
        other.start()
        other.join(NOT_YET_S)
        assert other.is_alive(), "somebody wrote between the look and the act"
        return tag

    monkeypatch.setattr(Tagged, "_tag_of_thing", looking)
    answer = client.post(address + act, headers={"if-match": seen}, **given)
    other.join(60)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert "has moved on from requested meanwhile" in str(failed[0])


def test_what_fails_in_the_middle_has_changed_nothing(racing: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own mistake behind the step takes the step back with it."""
    who, address, act, given = _withdrawal(racing)
    client = racing.client(who, raise_server_exceptions=False)
    seen = client.get(address).headers["etag"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr("openami.web.gate.Gate.note", broken)
        assert client.post(address + act, headers={"if-match": seen}, **given).status_code == 500
    assert client.get(address).headers["etag"] == seen
    assert client.post(address + act, headers={"if-match": seen}, **given).status_code == 200
