"""`openami.Client` against the real app: what it reads is what the API says, and it gives up as it should."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

import openami
from openami.errors import DataError, InputError, RequestError, StorageError
from openami.store.clients import Client as Program
from openami.store.terms import Change

from .houses import BASE, House

SECRET = "the secret of a program"


@pytest.fixture(scope="module")
def ami(house: House):
    house.unlimited()
    house.gate.people.add("planning", "operator", 0, password=SECRET)
    house.gate.people.grant("planning", "all")  # type: ignore[arg-type]
    house.gate.clients.add(Program("planning", "Planning", (), ("meters", "accounts", "town", "orders", "orders:write"), True))
    with openami.Client(BASE, client_id="planning", client_secret=SECRET, http=house.client()) as client:
        yield client


def test_it_reads_what_there_is(house: House, ami) -> None:
    assert ami.me()["name"] == "planning"
    meters = list(ami.meters(feeder=house.own["feeder"]))
    assert {m["feeder"] for m in meters} == {house.own["feeder"]}
    table = ami.readings(house.own["meter"], first="2025-12-01", last="2025-12-02")
    assert table.num_rows == 2 * 96
    (day,) = ami.statements(house.own["account"], first="2025-12-02", last="2025-12-02")
    assert ami.explain(house.own["account"], "2025-12-02")["amount_paise"] == day["charge_paise"]
    assert {one["kind"] for one in ami.losses()} == {"feeder", "transformer"}
    assert next(ami.payments(house.own["account"]))["amount_paise"] > 0
    kind, _, figures = next(ami.live(0))
    assert (kind, figures["last_closed_day"]) == ("figures", "2025-12-02")


def test_a_list_goes_on_to_its_end(house: House, ami, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(ami.meters())
    monkeypatch.setattr("openami.client.PAGE", 7)
    assert list(ami.meters()) == whole


def test_an_accounts_terms_are_told_through_time(house: House, ami, monkeypatch: pytest.MonkeyPatch) -> None:
    number, day = house.other["account"], house.site.lake.days("validated")[-1] + timedelta(days=1)
    assert list(ami.terms(number)) == []
    house.site.terms.tell([Change(number, day, contract_va=7_000)], house.gate.now_s, "test", "told by the test")
    monkeypatch.setattr("openami.client.PAGE", 1)
    first, second = ami.terms(number)
    assert (first["contract_va"], second["contract_va"], second["since"]) == (None, 7_000, day.isoformat())


def test_short_lists_come_in_pages_too(house: House, ami, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, own = (openami.Client(BASE, token=house.token(who), http=house.client()) for who in ("admin", "consumer-own"))
    for _ in range(2):
        house.made_for("POST", "/complaints/", house.own)
        house.made_for("POST", "/consents/", house.own)
        house.made_for("DELETE", "/webhooks/", house.own)
    lists = (ami.complaints, own.consents, admin.webhooks, admin.people)
    whole = [list(one()) for one in lists]
    monkeypatch.setattr("openami.client.PAGE", 1)
    assert [list(one()) for one in lists] == whole
    assert min(map(len, whole)) > 1


def test_an_order_that_is_asked_for_again_under_its_key_is_the_same(house: House, ami) -> None:
    first, again = (ami.ask("clock", [house.own["meter"]], "asked for by the test", key="a-key-of-its-own") for _ in range(2))
    assert first == again
    assert ami.withdraw(first["orders"][0], "not needed any more")["state"] == "cancelled"


def test_what_staff_do_can_be_done_by_a_program(house: House, ami) -> None:
    number = house.made_for("POST", "/complaints/", house.own)["id"]
    assert number in {one["number"] for one in ami.complaints()}
    assert ami.answer(number, "read again, and right")["answer"] == "read again, and right"
    assert number not in {one["number"] for one in ami.complaints()}
    assert ami.inspected(house.own["meter"], "innocent", note="by a program")["result"] == "innocent"
    assert "by a program" in {one["note"] for one in ami.inspections()}
    assert {one["name"] for one in ami.tariff("BR-DS2")} == {"BR-DS2"}
    assert next(ami.proposals())["state"]


def test_consents_and_webhooks_come_and_go(house: House) -> None:
    own = openami.Client(BASE, token=house.token("consumer-own"), http=house.client())
    given = own.consent(house.own["account"], "partner-own", ["bills"], 30)
    assert own.end_consent(given["id"])["ended"]
    admin = openami.Client(BASE, token=house.token("admin"), http=house.client())
    made = admin.subscribe("https://127.0.0.1/told", ["day.closed"])
    assert made["id"] in {one["id"] for one in admin.webhooks()}
    assert admin.new_secret(made["id"]).startswith("whsec_")
    house.gate.webhooks.hand_over("days", "0", [("day.closed", f"day-{made['id']}", {})], house.gate.now_s)
    (told,) = admin.deliveries(made["id"])
    admin.deliver_again(made["id"], told["event"])
    admin.unsubscribe(made["id"])
    assert made["id"] not in {one["id"] for one in admin.webhooks()}
    assert "operator" in {one["name"] for one in admin.people()}


def test_refusals_are_errors_with_the_servers_sentence(house: House, ami) -> None:
    with pytest.raises(RequestError, match="there is no meter NOPE here for you"):
        ami.meter("NOPE")
    with pytest.raises(InputError, match="does not have the right 'audit'"):
        next(ami.audit())
    with pytest.raises(InputError, match="fedeer"):
        next(ami.meters(fedeer="F1"))
    with pytest.raises(DataError, match="gives the program planning no token"):
        openami.Client(BASE, client_id="planning", client_secret="wrong", http=house.client()).me()
    with pytest.raises(DataError, match="needs a token"):
        openami.Client(BASE, token="not one", http=house.client()).me()
    assert SECRET not in repr(ami)


def test_a_server_that_is_away_is_asked_again_and_then_given_up() -> None:
    asked, waited = [], []

    def away(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 2:
            return httpx.Response(503, headers={"retry-after": "7"})
        raise httpx.ConnectError("nobody there")

    client = openami.Client(BASE, token="t", http=httpx.Client(transport=httpx.MockTransport(away)), sleep=waited.append)
    with pytest.raises(StorageError, match="does not answer"):
        client.me()
    assert (len(asked), waited) == (4, [0.5, 7.0, 2.0])
