"""Bad input everywhere: whatever is sent to any page, form or route, the answer is a sentence in the reader's language, and nothing was changed.

What is tried is taken from the app itself, its routes and the forms on its pages, so that what is added later is tried too.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pyarrow as pa
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.houses import House, build, darken
from api.test_access import BODIES, _filled, _name
from openami.day.edit import Correction, correct
from openami.day.suspected import SCHEMAS
from openami.registry import NodeKind
from openami.store.rows import transformer

from .client import TestClient
from .forms import FIGURES, TOKEN, Form, offered, read_forms

WHO = ("", "operator", "admin", "consumer-own")
DOORS = ["/", "/my", "/me", "/room", "/sign-in", "/sign-in/phone", "/room/orders", "/room/people", "/room/complaints", "/room/suspects"]
LONG = "x" * 30_000
NEVER = ["2026-02-30", "31.02.", "9999-12-31", "-1", "9" * 40, "1e999", "\u202ea\u200bb", "\0", LONG, "<b>%'"]
"""What no figure, no day, no name and no choice can be."""
ANY = ("next", "key")
"""Fields that may hold anything: where to go on, which is looked at by itself, and the number of a request, which programs choose."""
BLANK = ["\u200b" * 9, "\0" + 9 * "a", 6 * LONG]
"""What nobody can have meant to write where something must be written; the first of them is nothing."""
JSON_NEVER = ["\ud800abcdef", "\0abcdef", "\u200b" * 9, LONG, -1, 10**30, 1e308, None, [], {}, [[]], "2026-02-30"]
KEPT = ("audit_trail", "session", "kept_answer", "sign_in_failure", "one_time_code", "signing_key")
"""Tables in which looking and trying leave their trace."""
LATIN = re.compile(r"[A-Za-z]{3,}")
OURS = {"all", "division", "job", "account"}
"""Words that a sentence names letter by letter."""
SENTENCE = re.compile(r'(?:<h1>[^<]*</h1>\s*<p[^>]*>|role="alert"[^>]*>)(.*?)</p>', re.S)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A town of which everything can be asked."""
    made = build(tmp_path_factory.mktemp("bad") / "town").unlimited()
    made.app.state.tries.burst = made.app.state.tries.per_minute = 10**9
    for held, one in zip((made.own, made.other), darken(made, made.own["transformer"], made.other["transformer"]), strict=True):
        held |= {"shard": str(one.shard), "outage": str(one.number)}
    _found(made)
    return made


def _found(house: House) -> None:
    """The energy audit names some, and some who hang elsewhere."""
    day, feeder = house.site.lake.days("validated")[-1], house.own["feeder"]
    with house.site.rows.begin(writing=True) as connection:
        connection.execute(transformer.insert(), {"name": "DT-99", "feeder": feeder, "rating_kva": 100})
    homes = [p for p in house.site.rows.usage_points() if p.feeder == feeder and p.kind is NodeKind.CONSUMER][:6]
    plain: dict[str, Any] = {"string": "", "double": 0.5, "int32": 1, "features": "{}", "evidence": "[]", "to": "DT-99"}
    with house.site.lake.draft(day) as draft:
        for table in ("suspects", "mapping_proposals"):
            own = [{"serial": p.meter, "feeder": feeder, "transformer": p.transformer, "now": p.transformer} for p in homes]
            rows = [{one.name: (plain | told).get(one.name) or plain[str(one.type)] for one in SCHEMAS[table]} for told in own]
            draft.write(table, 0, pa.Table.from_pylist(rows, SCHEMAS[table]))
        draft.commit()


class Registry:
    """What lies in the registry, table by table, and in the files beside it."""

    def __init__(self, house: House) -> None:
        self._lines, self._root = sqlite3.connect(house.folder / "registry.db"), house.folder
        known = self._lines.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        self._tables = [name for (name,) in known if name not in KEPT]

    def now(self) -> dict[str, str]:
        rows = {name: repr(self._lines.execute(f'SELECT * FROM "{name}"').fetchall()) for name in self._tables}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in rows.items()} | {"edits": self._edits()}

    def _edits(self) -> str:
        return str(sorted(path.name for path in (self._root / "lake" / "edits").rglob("*.parquet")))


@pytest.fixture(scope="module")
def registry(house: House) -> Registry:
    return Registry(house)


class Routes:
    """The app's routes: the pattern of an address, and what a route may be asked with."""

    def __init__(self, house: House) -> None:
        found = [one for one in iter_route_contexts(house.app.routes) if isinstance(one.original_route, APIRoute)]
        self.of = {(method, str(one.path)): one.original_route for one in found for method in one.methods or ()}
        self._like = {key: re.compile(re.sub(r"{\w+}", "[^/]+", key[1]) + "$") for key in self.of}

    def pattern(self, method: str, path: str) -> str:
        plain = (key[1] for key, like in self._like.items() if key[0] == method and like.match(path))
        return min(plain, key=lambda one: one.count("{"), default="")

    def parameters(self, method: str, pattern: str) -> list[tuple[str, str]]:
        """(name, "query" or "path")."""

        def parts(of: Any) -> Iterator[tuple[str, str]]:
            yield from ((one.alias, "query") for one in of.query_params)
            yield from ((one.alias, "path") for one in of.path_params)
            for each in of.dependencies:
                yield from parts(each)

        return sorted(set(parts(self.of[method, pattern].dependant)) - {("lang", "query")})


@pytest.fixture(scope="module")
def routes(house: House) -> Routes:
    return Routes(house)


class Forms:
    """The forms that the app's pages offer, and what stands behind them: (route, what it asks for) -> (who, the form)."""

    def __init__(self, house: House, routes: Routes) -> None:
        self._house, self._routes, self.of = house, routes, dict[tuple[str, ...], tuple[str, Form]]()
        for path in ("/complaints/", "/orders/x/withdraw", "/x/decision", "/consents/x"):
            for _ in range(9):
                house.made_for("POST", path, house.own)
        for who in WHO:
            client = house.browser(who)
            first = [one for one in offered(client, DOORS, routes.pattern) if one.method == "post" and not one.action.endswith("/sign-out")]
            for form in [*first, *self._behind(client, first)]:
                self.of.setdefault(self._kind(form), (who, form))

    def _kind(self, form: Form) -> tuple[str, ...]:
        return (self._routes.pattern("POST", urlsplit(form.action).path), *form.names)

    def _behind(self, client: TestClient, first: list[Form]) -> Iterator[Form]:
        """Forms on the answers to forms: a look before an order, the second look at an amount, the gateway of a simulated town, the code."""
        known, waiting = {self._kind(form) for form in first}, [form for form in first if not form.action.endswith("/demo")]
        for _ in range(3):
            found = [one for form in waiting for one in self._answer(client, form)]
            waiting = [
                one for one in found if one.method == "post" and not one.action.endswith("/sign-out") and self._kind(one) not in known
            ]
            known |= {self._kind(one) for one in waiting}
            yield from waiting

    def _answer(self, client: TestClient, form: Form) -> list[Form]:
        """The forms on what a form is answered with."""
        now = self.opened(client, form)
        answer = client.post(now.action, data=next(now.sendings()), follow_redirects=True)
        found = read_forms(str(answer.url.path), answer.text)[0]
        for one in found:
            one.behind = form
        return found

    def opened(self, client: TestClient, form: Form) -> Form:
        """The form, or its like, as it stands on a page that has just been opened."""
        found = self._answer(client, form.behind) if form.behind else read_forms(form.page, client.get(form.page).text)[0]
        like = [one for one in found if self._kind(one) == self._kind(form)]
        if not like:  # what the page was about was used up
            page = f"/room/orders/{self._house.made_for('POST', '/orders/x/withdraw', self._house.own)['order']}"
            like = [one for one in read_forms(page, client.get(page).text)[0] if self._kind(one) == self._kind(form)]
        assert like, f"no form of {self._kind(form)} on {form.page} any more"
        return like[0]


@pytest.fixture(scope="module")
def forms(house: House, routes: Routes) -> Forms:
    return Forms(house, routes)


def _said(answer: Any, given: str) -> str:
    """The sentence of a page that refuses, without what was given and what it names letter by letter."""
    found = SENTENCE.search(answer.text)
    assert found, f"{answer.status_code} without a sentence: {answer.text[:400]}"
    told = re.sub(r"“[^”]*”|2026-01-31|OpenAMI|NAME|\+", "", html.unescape(re.sub(r"<[^>]*>", "", found[1])))
    return told.replace(given, "") if given.isprintable() else told


def _is_told(answer: Any, given: str, where: str) -> None:
    assert answer.status_code < 500, f"{where}: {answer.status_code}"
    if answer.status_code >= 400:
        assert '<html lang="hi"' in answer.text, where
        told = _said(answer, given)
        left = [word for word in LATIN.findall(told) if word not in OURS and word not in given and word not in where]
        assert left == [], f"{where}: {told}"
        assert re.search("[\u0900-\u097f]{2}", told), f"{where}: {told}"
        assert not re.search("[\u200b\u202a-\u202e\0]", told), where


def _address(house: House, pattern: str, **other: str) -> str:
    held = house.own
    values = {
        "serial": held["meter"],
        "number": held["outage"] if "outages" in pattern else held["account"],
        "shard": held["shard"],
        "account": held["account"],
        "order_id": "O-0",
        "day": "2025-12-02",
        "feeder": held["feeder"],
        "payment_id": f"W{24 * '0'}",
        "name": "operator-second" if "people" in pattern else _name(pattern, held),
    } | other
    return re.sub(r"{(\w+)}", lambda found: values[found[1]], pattern)


def test_whatever_a_page_is_asked_with_the_answer_is_a_page_in_the_readers_language(
    house: House, routes: Routes, registry: Registry
) -> None:
    clients = [house.browser(who, raise_server_exceptions=False) for who in WHO[1:]]
    before, tried = registry.now(), 0
    for method, pattern in routes.of:
        if method != "GET" or pattern.startswith(("/oauth", "/.well-known", "/static")):
            continue
        plain = _address(house, pattern)
        client = next((one for one in clients if one.get(plain).status_code == 200), clients[0])
        for name, where in routes.parameters(method, pattern):
            for given in NEVER:
                if where == "path" and given is LONG:
                    continue
                address = _address(house, pattern, **{name: quote(given, safe="")}) if where == "path" else plain
                asked = {"lang": "hi"} | ({name: given} if where == "query" else {})
                _is_told(client.get(address, params=asked), given, f"{pattern} {name}={given[:20]!r}")
                tried += 1
    assert tried > 900
    assert registry.now() == before


def test_every_route_that_changes_something_has_a_form_that_is_tried_here(routes: Routes, forms: Forms) -> None:
    """But what programs send, or send a person to: OAuth has tests of its own."""
    changing = {pattern for method, pattern in routes.of if method not in ("GET", "HEAD") and not pattern.startswith("/oauth")}
    assert changing - {"/sign-out"} == {kind[0] for kind in forms.of}


def test_no_form_does_anything_with_what_cannot_be(house: House, forms: Forms, registry: Registry) -> None:
    for (route, *names), (who, form) in forms.of.items():
        client = house.browser(who, raise_server_exceptions=False)
        kinds = {one.name: one for one in form.fields} | {name: None for name, _ in form.buttons if name}
        now = forms.opened(client, form)
        before = registry.now()
        for name in sorted(set(kinds) - {TOKEN, *ANY}):
            field = kinds[name]
            free = field is not None and field.written and not field.value and name not in FIGURES
            for given in NEVER if not free else BLANK if field.required else BLANK[1:]:
                answer = client.post(now.action, params={"lang": "hi"}, data=next(now.sendings()) | {name: given})
                _is_told(answer, given, f"{route} {names} {name}={given[:20]!r}")
                assert registry.now() == before, f"{route}: {name}={given[:20]!r} did something"


def test_a_form_sent_twice_acts_once(house: House, forms: Forms, registry: Registry) -> None:
    """The second of two clicks gets the answer of the first; the same form again a minute later is told when it was done."""
    acted, clock = set[str](), house.gate.clock
    for (route, *_), (who, form) in forms.of.items():
        for at in range(len(form.buttons) if who else 0):  # before anybody has signed in: tests of the door
            client = house.browser(who)
            now = forms.opened(client, form)
            sent, before = now.filled(now.buttons[at]), registry.now()
            first = client.post(now.action, data=sent)
            after = registry.now()
            second = client.post(now.action, data=sent)
            assert registry.now() == after, f"{route} acted twice"
            if after == before:
                continue
            acted.add(route)
            assert (second.status_code, second.headers.get("location"), second.text) == (
                first.status_code,
                first.headers.get("location"),
                first.text,
            ), route
            house.gate.clock = lambda: clock() + 60
            again = client.post(now.action, params={"lang": "hi"}, data=sent)
            house.gate.clock = clock
            assert registry.now() == after, f"{route} acted a minute later"
            if not route.startswith("/my/{account}/recharge"):  # which shows how the payment stands, whenever it is asked
                assert (again.status_code, "पहले" in _said(again, "")) == (409, True), route
    assert acted >= {"/room/orders", "/room/people", "/room/people/{name}", "/room/suspects", "/room/mapping", "/room/proposals/{number}"}
    assert acted >= {
        "/room/exceptions/{serial}",
        "/me/consents",
        "/me/consents/{number}/end",
        "/my/{account}/help",
        "/room/complaints/{number}",
    }


def test_a_form_that_is_not_of_this_session_or_site_does_nothing_and_gives_the_words_back(
    house: House, forms: Forms, registry: Registry
) -> None:
    told, where = "कारण यह है, as I wrote it", {"lang": "hi"}
    for (route, *_), (who, form) in forms.of.items():
        client, other = house.browser(who), house.browser(who)
        now, theirs = forms.opened(client, form), forms.opened(other, form)
        words = [one.name for one in form.fields if one.kind == "textarea" or (one.name in ("why", "note") and one.written)]
        mine = next(now.sendings()) | dict.fromkeys(words, told)
        before = registry.now()
        tries = [
            client.post(now.action, params=where, data=mine | {TOKEN: theirs.filled()[TOKEN]}),
            client.post(now.action, params=where, data={name: value for name, value in mine.items() if name != TOKEN}),
            client.post(now.action, params=where, data=mine, headers={"origin": "https://elsewhere.example"}),
            client.post(now.action, params=where, data=mine, headers={"sec-fetch-site": "cross-site"}),
        ]
        assert [one.status_code for one in tries] == [403] * 4, route
        if who:
            house.gate.sessions.end(client.cookies["openami-session"])
            client.headers["referer"] = f"http://testserver{form.page}"
            tries.append(client.post(now.action, params=where, data=mine))
            assert tries[-1].status_code == 401, route
            assert html.escape(urlencode({"next": form.page})) in tries[-1].text, f"{route}: back to the form after signing in"
        for answer in tries:
            _is_told(answer, told, route)
            assert all(told in html.unescape(answer.text) for _ in words), route
        assert registry.now() == before, route


def test_what_is_somebody_elses_is_answered_like_what_is_not_there(house: House, routes: Routes) -> None:
    """Letter by letter, but for the name that was asked for."""
    nowhere = {"serial": "XMZ9999999", "account": "2999999999", "name": "NOWHERE", "feeder": "NOWHERE", "order_id": "O-9"}
    theirs = {"serial": house.other["meter"], "account": house.other["account"], "feeder": house.other["feeder"], "order_id": "O-1"}
    tried = 0
    for who in ("operator-own", "consumer-own", "installer-own"):
        client = house.browser(who)
        given = {TOKEN: client.headers["x-form-token"], "why": "to see what is said", "amount": "100", "about": "other"}
        for method, pattern in routes.of:
            for name in set(re.findall(r"{(\w+)}", pattern)) & set(theirs):
                asked = [_address(house, pattern, **{name: held[name]}) for held in (theirs, nowhere)]
                other, none = (client.request(method, one, params={"lang": "hi"}, data=given) for one in asked)
                same = [_plain(one.text, held[name]) for one, held in ((other, theirs), (none, nowhere))]
                assert (other.status_code, same[0]) == (none.status_code, same[1]), f"{method} {pattern} {who}"
                assert other.status_code >= 300, f"{method} {pattern} {who}: {other.status_code}"
                tried += other.status_code == 404
    assert tried > 60


def _plain(text: str, name: str) -> str:
    return re.sub(r'name="csrf_token" value="[^"]*"', "", text).replace(name, "NAME")


def test_no_program_can_send_what_cannot_be_kept(house: House, registry: Registry) -> None:
    """JSON holds more than a database does: half letters, NUL, numbers beyond all bounds, nests of lists."""
    who = {"/consents": "consumer-own", "/webhooks": "admin", "/webhooks/{number}/secret": "admin"}
    for path, body in BODIES.items():
        client, fresh = house.client(who.get(path, "operator"), raise_server_exceptions=False), house.made_for("POST", path, house.own)
        address = "/api/v1" + path.format(order_id=fresh.get("order"), number=fresh.get("id"))
        plain, before = _filled(body, house.own | fresh), registry.now()
        for name in plain:
            for given in JSON_NEVER:
                if (name, given) in (("day", None), ("note", "2026-02-30")) or (name in ("why", "answer") and given == "2026-02-30"):
                    continue  # may be left out, and may be written
                sent = json.dumps(plain | {name: given}).encode()
                headers = {"content-type": "application/json", "idempotency-key": os.urandom(8).hex()}
                answer = client.post(address, content=sent, headers=headers)
                assert 400 <= answer.status_code < 500, f"{path} {name}={str(given)[:20]!r}: {answer.status_code}"
                assert answer.json()["detail"], path
        for sent in (b'{"why": "\xff"}', b"[" * 50_000, b"NaN", b'"\\ud800"'):
            headers = {"content-type": "application/json", "idempotency-key": os.urandom(8).hex()}
            assert plain == {} or 400 <= client.post(address, content=sent, headers=headers).status_code < 500, path
        assert registry.now() == before, path


def test_a_day_that_somebody_corrected_meanwhile_is_not_corrected_on_an_old_page(house: House, registry: Registry) -> None:
    client, day, serial = house.browser("operator"), house.site.lake.days("validated")[-1], house.own["meter"]
    page = f"/room/exceptions/{serial}?day={day}"
    form = next(one for one in read_forms(page, client.get(page).text)[0] if "begins" in {field.name for field in one.fields})
    sent = form.filled() | {"why": "read on the display", "begins": "02:00"}
    correct(house.site, [Correction(serial, day, "02:00", 20.0)], "operator-second", "seen by another", house.gate.now_s * 1_000_000)
    before = registry.now()
    answer = client.post(form.action, params={"lang": "hi"}, data=sent)
    assert (answer.status_code, "सुधारा" in _said(answer, "")) == (409, True)
    assert registry.now() == before


@pytest.mark.parametrize("figures", ["0123456789", "०१२३४५६७८९", "০১২৩৪৫৬৭৮৯"])
def test_figures_of_every_script_are_figures(house: House, figures: str) -> None:
    """A day to look at, an amount to pay, how long a consent holds."""
    written, phone = str.maketrans("0123456789", figures), house.browser("consumer-own")
    assert house.browser("operator").get("/room", params={"day": "2025-12-01".translate(written)}).status_code == 200
    own = f"/my/{house.own['account']}/recharge"
    look = phone.post(own, data={TOKEN: phone.headers["x-form-token"], "amount": "150.50".translate(written)})
    assert "amount=150.50" in look.headers["location"]
    given = {"account": house.own["account"], "partner": "partner-own", "purpose": "bills", "days": "30".translate(written)}
    assert phone.post("/me/consents", data={TOKEN: phone.headers["x-form-token"]} | given).status_code == 303
