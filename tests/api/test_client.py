"""`openami.Client` against the real app: what it reads is what the API says, and it gives up as it should."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

import openami
from openami import client as client_module
from openami.client import COME_BACK_S, NobodySignedIn, Refused
from openami.errors import DataError, InputError, RequestError, StorageError
from openami.store.clients import Client as Program
from openami.store.terms import Change
from openami.web.api.app import ROUTES

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


def _answering(answer, **how) -> openami.Client:
    return openami.Client(BASE, http=httpx.Client(transport=httpx.MockTransport(answer)), **({"token": "t"} | how))


@pytest.mark.parametrize("name", ["a/events", "../accounts", "a?limit=1", "a#b", "ä b"])
def test_a_name_is_a_name_whatever_letters_it_has(name: str) -> None:
    asked: list[bytes] = []

    def there(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200, json={})

    _answering(there).meter(name)
    assert asked == [f"/api/v1/meters/{quote(name, safe='')}".encode()]


@pytest.mark.parametrize("path", ["/orders?state=failed", "orders?state=failed"])
def test_a_path_may_bring_its_own_query(path: str) -> None:
    asked: list[bytes] = []

    def there(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200, json={"items": [], "next": None})

    client = _answering(there)
    client.get(path)
    list(client.each(path))
    assert asked == [b"/api/v1/orders?state=failed", b"/api/v1/orders?state=failed&limit=500"]


@pytest.mark.parametrize("asked", ["3", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5"])
def test_what_a_proxy_says_of_waiting_is_understood(asked: str) -> None:
    waited: list[float] = []
    answers = iter([httpx.Response(502, headers={"retry-after": asked}), httpx.Response(200, json={"name": "it"})])
    assert _answering(lambda _: next(answers), sleep=waited.append).me() == {"name": "it"}
    assert waited == [{"3": 3.0, "soon": 1.0, "-5": 1.0}.get(asked, 0.0)]


def test_a_token_that_ended_before_its_time_is_fetched_anew_once() -> None:
    given = iter(["first", "second", "third"])

    def server(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": next(given), "expires_in": 600})
        return httpx.Response(200 if request.headers["authorization"] == "Bearer second" else 401, json={"detail": "no"})

    client = _answering(server, token="", client_id="p", client_secret="s")
    assert client.me() == {"detail": "no"}
    given = iter(["never good", "either"])
    client = _answering(server, token="", client_id="p", client_secret="s")
    with pytest.raises(NobodySignedIn, match="no"):
        client.me()


def test_a_refusal_carries_what_the_server_said(ami) -> None:
    with pytest.raises(Refused) as caught:
        next(ami.meters(limit_=5))
    assert caught.value.status == 422
    assert caught.value.problem["type"] == "urn:openami:problem:unknown-parameter"


def test_what_can_never_work_is_refused_at_once() -> None:
    for url, token in (("ami.example.in", "t"), (BASE, "t\nx: y")):
        with pytest.raises(InputError):
            openami.Client(url, token=token)
    client = _answering(lambda _: httpx.Response(200, json={}))
    client.close()
    with pytest.raises(RequestError, match="closed"):
        client.me()


def test_a_stream_that_breaks_off_is_taken_up_behind_the_last_id() -> None:
    """The first one ends before any step, the second in the midst of one."""
    asked, waited = [], []
    bodies = iter(
        [
            "retry: 3000\nid: begin\n\n:\n\n",
            'event: order.step\nid: one\ndata: {"n": 1}\n\nevent: order.step\nid: two\nda',
            'event: order.step\nid: two\ndata: {"n":\ndata: 2}\n\n',
        ]
    )

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        return httpx.Response(200, text=next(bodies), headers={"content-type": "text/event-stream"})

    told = _answering(server, sleep=waited.append).live(600)
    assert [next(told), next(told)] == [("order.step", "one", {"n": 1}), ("order.step", "two", {"n": 2})]
    assert asked == [None, "begin", "one"]
    assert waited == [COME_BACK_S, COME_BACK_S]


def test_a_stream_that_cannot_be_had_is_given_up_with_a_sentence() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut")

    with pytest.raises(StorageError, match="does not go on"):
        next(_answering(away, sleep=lambda _: None).live(600))


PROGRAMS_CANNOT = {"decide"}
"""A program cannot be the second person."""


def test_every_route_can_be_asked_by_a_method(house: House) -> None:
    """Each path of the API is in the client's own text, once the names in it are taken out."""
    text = Path(client_module.__file__).read_text(encoding="utf-8")
    for route in ROUTES:
        words = [part for part in route.path.split("/") if part and not part.startswith("{")]
        pattern = ".*?".join(re.escape(word) for word in words) if "{" in route.path else re.escape(f'"{route.path}"') + "|/live"
        assert route.name in PROGRAMS_CANNOT or re.search(pattern, text), route.path


def test_a_type_checker_of_others_sees_our_types() -> None:
    """By PEP 561 the mark of a typed package, and the class under the name under which it is used (tried with mypy outside of the checkout)."""
    package = resources.files("openami")
    assert (package / "py.typed").is_file()
    assert "    from .client import Client as Client\n" in (package / "__init__.py").read_text(encoding="utf-8")
