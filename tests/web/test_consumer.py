"""The consumer's pages over HTTP: weight, words, money, and what somebody else's hands can do."""

from __future__ import annotations

import json
import re
import zlib

import pytest

from api.houses import House, build, charged
from openami.store.complaints import Complaints
from openami.store.ledger import Ledger
from openami.store.supply_rows import SupplyRows
from openami.web.consumer import paper as sheet
from openami.web.consumer import proof as proofs
from openami.web.consumer.answers import WhatIf, lasting_days
from openami.web.lane import Lane
from openami.web.townbook import DayCost, Words

from .client import TestClient

FIRST_LOAD_MOST = 40_000
OWN_CSS_MOST = 5_500


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return build(tmp_path_factory.mktemp("consumer") / "town")


@pytest.fixture
def phone(house: House) -> TestClient:
    return house.browser("consumer-own")


def _form(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def _pages(house: House) -> list[str]:
    own = f"/my/{house.own['account']}"
    return ["/my", own, f"{own}/days/2025-12-01", *(f"{own}/{part}" for part in ("usage", "recharge", "supply", "help", "proof"))]


def test_the_first_load_of_home_with_its_chart_is_small(house):
    """Everything that the page names, headers included, as brotli."""
    phone = house.browser(charged(house)[0])
    phone.headers["accept-encoding"] = "br"
    home = phone.get("/my")
    assert home.status_code == 200
    assert '<svg class="chart"' in home.text
    named = set(re.findall(r'(?:href|src)="(/static/[^"]+|/my/app[^"]+)"', home.text)) | {"/my/sw.js"}
    assert len(named) == 5
    answers = [home] + [phone.get(url.replace("&amp;", "&")) for url in sorted(named)]
    weight = sum(int(a.headers["content-length"]) + sum(len(k) + len(v) + 4 for k, v in a.headers.items()) for a in answers)
    assert all(a.status_code == 200 for a in answers)
    assert weight <= FIRST_LOAD_MOST
    css = next(a for a in answers if "/openami.css" in str(a.url))
    assert len(css.content) <= OWN_CSS_MOST


def test_home_goes_in_the_lane(house, phone, monkeypatch):
    gone, go = [], Lane.go

    async def told(lane, quick):
        gone.append(lane.abreast)
        return await go(lane, quick)

    monkeypatch.setattr(Lane, "go", told)
    for path in ("/my", f"/my/{house.own['account']}"):
        assert phone.get(path).status_code == 200
    assert gone == [1, 1], "the registry of this town is a file"


def test_pages_are_hindi_unless_another_language_is_asked_for(house, phone):
    row = house.gate.lookup.account(house.gate.described(house.gate.people.find("consumer-own")).reach, house.own["account"])
    for path in _pages(house):
        assert f'<html lang="{row["language"]}"' in house.browser("consumer-own").get(path).text
        assert '<html lang="hi"' in phone.get(f"{path}?lang=hi").text
        assert '<html lang="en"' in phone.get(f"{path}?lang=en").text


def test_a_consumer_whose_session_is_over_signs_in_by_phone_and_goes_on(house):
    app = house.browser()
    own = f"/my/{house.own['account']}/usage?lang=hi"
    door = app.get(own).headers["location"]
    assert door.startswith("/sign-in/phone?next=/my/")
    page = app.get(door).text
    assert 'type="tel"' in page
    assert 'type="password"' not in page
    assert f'name="next" value="{own}"' in page
    assert app.get("/me").headers["location"].startswith("/sign-in?")
    assert not house.app.state.send_code
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openami.web.sign_in.shows_demo", lambda gate, request: False)
        assert app.get(own).headers["location"].startswith("/sign-in?"), "no code can be sent"


def test_the_language_once_chosen_is_that_of_failures_and_of_the_door_when_the_session_is_over(house, phone):
    phone.headers["accept-language"] = "en"
    phone.get("/my?lang=hi")
    own = f"/my/{house.own['account']}"
    for answer in (phone.get(f"{own}/days/2025-12-77"), phone.post(f"{own}/help", data={"csrf_token": "old"}), phone.get("/my/other")):
        assert answer.status_code in (403, 404, 422)
        assert '<html lang="hi"' in answer.text
    phone.cookies.delete("openami-session")
    assert '<html lang="hi"' in phone.get(phone.get(own).headers["location"]).text


def test_rupees_stand_before_units_wherever_both_are(house, phone):
    for path in _pages(house):
        text = re.sub(r"<[^>]+>", " ", phone.get(f"{path}?lang=en").text.split("<main")[1])
        if "units" in text or "kWh" in text:
            assert "₹" in text
            assert text.index("₹") < min(text.index(word) for word in ("units", "kWh") if word in text), path


def test_a_page_names_no_script_in_itself_and_lets_only_its_own_in(house, phone):
    for path in _pages(house):
        answer = phone.get(path)
        assert "script-src 'self';" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=|style=", answer.text)
        assert answer.headers["cache-control"] == "private, no-store"


def test_another_account_is_not_there_and_staff_have_their_own_pages(house):
    other, own = house.other["account"], house.own["account"]
    phone = house.browser("consumer-own")
    for part in ("", "/days/2025-12-01", "/usage", "/usage.csv", "/recharge", "/supply", "/help", "/proof", "/proof.json"):
        assert phone.get(f"/my/{other}{part}").status_code == 404, part
        assert house.browser("operator").get(f"/my/{own}{part}").status_code == 404, part
        assert house.browser().get(f"/my/{own}{part}").headers["location"].startswith("/sign-in"), part
    token = _form(phone.get("/my").text)
    for part in ("recharge", "help", f"recharge/W{24 * '0'}"):
        assert phone.post(f"/my/{other}/{part}", data={"csrf_token": token, "amount": "100", "about": "amount"}).status_code == 404
    assert phone.get("/").headers["location"] == "/my"


@pytest.mark.parametrize(
    ("path", "status"),
    [("days/2025-12-32", 422), ("days/1999-01-01", 404), ("days/x", 422), ("usage?day=tomorrow", 422),
     ("proof?first=2025-12-02&last=2025-12-01", 422),
     ("proof?last=2031-01-01", 404), ("recharge/W0", 404), ("usage?lang=xx", 422)],
)  # fmt: skip
def test_what_cannot_be_used_is_said_on_a_page(house, phone, path, status):
    answer = phone.get(f"/my/{house.own['account']}/{path}", headers={"accept-language": "hi"})
    assert answer.status_code == status
    assert "<h1" in answer.text


@pytest.mark.parametrize("amount", ["", "abc", "-5", "0", "1e3", "12.345", "9999999", "100001"])
def test_an_amount_that_is_none_is_refused_in_words_and_nothing_is_asked_for(house, phone, amount):
    own = f"/my/{house.own['account']}/recharge"
    token = _form(phone.get(own).text)
    answer = phone.post(own, data={"csrf_token": token, "amount": amount})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text


def _confirmed(phone: TestClient, own: str, amount: str) -> tuple[str, dict[str, str]]:
    """The second look: where its form goes, and with what."""
    look = phone.post(f"{own}/recharge", data={"csrf_token": _form(phone.get(own).text), "amount": amount})
    assert look.status_code == 303
    page = phone.get(look.headers["location"]).text
    url = re.search(r'action="([^"]+/recharge/W[0-9a-f]{24})', page)
    assert url
    return url[1], {"csrf_token": _form(page), "amount": re.search(r'name="amount" value="([^"]+)"', page)[1]}


def test_a_recharge_is_paid_once_however_often_its_form_is_sent(house, phone):
    own, ledger = f"/my/{house.own['account']}", Ledger(house.site.rows.database)
    before = ledger.standing(house.own["account"]).balance_paise
    url, form = _confirmed(phone, own, "₹1,50.50".replace(",", ""))
    assert ledger.standing(house.own["account"]).balance_paise == before
    for _ in range(2):
        assert phone.post(url, data=form).status_code == 303
    assert ledger.standing(house.own["account"]).balance_paise == before, "nothing is in the balance before the gateway's word"
    for _ in range(2):
        assert phone.post(f"{url}/simulated", data=form).status_code == 303
    assert ledger.standing(house.own["account"]).balance_paise == before + 150_50
    assert "150.50" in phone.get(url).text
    other = phone.post(f"{url}?lang=en", data=form | {"amount": "900"})
    assert (other.status_code, "begun before, for another amount" in other.text) == (422, True)


def test_whoever_goes_back_after_paying_finds_the_payment_and_begins_no_other(house, phone):
    own = f"/my/{house.own['account']}"
    look = phone.post(f"{own}/recharge?lang=en", data={"csrf_token": _form(phone.get(own).text), "amount": "310"}).headers["location"]
    again = phone.get(look).text
    assert "Pay ₹310.00?" in again
    url = re.search(r'action="([^"?]+/recharge/W[0-9a-f]{24})', again)[1]
    phone.post(url, data={"csrf_token": _form(again), "amount": "310.00"})
    assert "Payment of ₹310.00 is open" in phone.get(look).text
    assert phone.get(look.replace("310.00", "3e3").replace(url[-24:], "0" * 24)).status_code == 422
    stranger = house.browser("consumer-other")
    assert stranger.get(look.replace(house.own["account"], house.other["account"])).status_code == 404


def test_devanagari_figures_are_an_amount(house, phone):
    _, form = _confirmed(phone, f"/my/{house.own['account']}", "२५०")
    assert form["amount"] == "250.00"


def test_somebody_elses_payment_is_not_there(house, phone):
    url, form = _confirmed(phone, f"/my/{house.own['account']}", "100")
    phone.post(url, data=form)
    stranger = house.browser("consumer-other")
    assert stranger.get(url.replace(house.own["account"], house.other["account"])).status_code == 404


def test_a_foreign_form_changes_nothing(house, phone):
    own = f"/my/{house.own['account']}"
    for path in ("recharge", "help", f"recharge/W{24 * '0'}", f"recharge/W{24 * '0'}/simulated"):
        assert phone.post(f"{own}/{path}", data={"csrf_token": "x", "amount": "100"}).status_code == 403
    answer = phone.post(
        f"{own}/help", data={"csrf_token": _form(phone.get(own).text), "about": "amount"}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403


def test_a_dispute_is_told_to_the_guard_once(house, phone):
    own, number = f"/my/{house.own['account']}", house.own["account"]
    page = phone.get(f"{own}/help?about=amount").text
    form = {"csrf_token": _form(page), "phone_id": re.search(r'name="phone_id" value="([^"]+)"', page)[1]}
    facts = SupplyRows(house.site.rows.database)
    assert phone.post(f"{own}/help", data=form | {"about": "supply", "text": " "}).status_code == 422
    assert phone.post(f"{own}/help", data=form | {"about": "bogus", "text": "x"}).status_code == 422
    assert "dispute_open" not in facts.told(number)
    for _ in range(2):
        assert phone.post(f"{own}/help", data=form | {"about": "amount", "text": "कल बहुत कटा"}).status_code == 303
    assert facts.told(number)["dispute_open"] is True
    assert len(facts.history(number)) == 1
    assert [c.text for c in Complaints(house.site.rows.database).of_account(number)] == ["कल बहुत कटा"]
    assert "कल बहुत कटा" in phone.get(f"{own}/help").text


def test_the_same_words_from_another_page_are_one_complaint_until_they_are_answered(house, phone):
    own, complaints = f"/my/{house.own['account']}/help", Complaints(house.site.rows.database)

    def send() -> int:
        page = phone.get(own).text
        form = {"csrf_token": _form(page), "phone_id": re.search(r'name="phone_id" value="([^"]+)"', page)[1]}
        phone.post(own, data=form | {"about": "meter", "text": "it clicks"})
        return sum(one.text == "it clicks" for one in complaints.of_account(house.own["account"]))

    assert [send(), send()] == [1, 1]
    waiting = next(one for one in complaints.of_account(house.own["account"]) if one.text == "it clicks")
    complaints.close(waiting.id, "mended", house.gate.now_s)
    assert send() == 2


def test_the_proof_is_signed_and_a_changed_one_is_none(house, phone):
    told = phone.get(f"/my/{house.own['account']}/proof.json").json()
    tokens = house.gate.tokens
    claims = tokens.verify_statement(told["jws"])
    assert claims["statement"] == told["statement"]
    assert told["statement"]["meter"] == house.own["meter"]
    head, body, mark = told["jws"].split(".")
    assert tokens.verify_statement(f"{head}.{body[:-2]}AA.{mark}") is None
    assert tokens.verify(told["jws"], "http://testserver") is None, "a statement opens no door"
    assert tokens.verify_statement(house.token("consumer-own")) is None


@pytest.mark.parametrize(("language", "title"), [("hi", "आपके मीटर ने क्या दिखाया"), ("en", "What your meter showed")])
def test_the_proof_on_paper_is_archival_in_its_language_and_carries_the_signed_statement(house, phone, language, title):
    path = f"/my/{house.own['account']}/proof"
    paper = phone.get(f"{path}.pdf?lang={language}")
    assert paper.headers["content-type"] == "application/pdf"
    assert title.encode() in paper.content
    assert b"<pdfaid:part>3</pdfaid:part>" in paper.content
    assert b"<pdfuaid:part>1</pdfuaid:part>" in paper.content
    assert (b"NotoSansDevanagari" in paper.content) == (language == "hi")
    attached = [text for text in _streams(paper.content) if text.count(b".") == 2 and text.startswith(b"eyJ")]
    told = house.gate.tokens.verify_statement(attached[0].decode())
    assert told["statement"] == phone.get(f"{path}.json").json()["statement"]


def _streams(pdf: bytes) -> list[bytes]:
    """What lies in the file's streams, unpacked where it is packed."""
    found = []
    for raw in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S):
        try:
            found.append(zlib.decompress(raw))
        except zlib.error:
            found.append(raw)
    return found


def test_a_proof_of_no_days_is_refused_in_words(house, phone):
    path = f"/my/{house.own['account']}/proof"
    for kind in ("", ".pdf", ".json"):
        answer = phone.get(f"{path}{kind}?first=2025-12-02&last=2025-12-01", headers={"accept-language": "en"})
        assert answer.status_code == 422
        assert "not after the last" in answer.text or "आखिरी दिन के बाद" in answer.text


@pytest.mark.parametrize("language", ["hi", "en"])
def test_of_a_long_time_the_registers_are_proved_and_nothing_is_said_of_money(house, phone, language, monkeypatch):
    """As of years: what is told day by day is set to a day here."""
    for module in (sheet, proofs):
        monkeypatch.setattr(module, "DAYS_MOST", 1)
    path, span = f"/my/{house.own['account']}/proof", "first=2025-12-01&last=2025-12-02"
    page = phone.get(f"{path}?{span}&lang={language}")
    assert page.status_code == 200
    assert ("सबूत एक बार में 1 दिन" if language == "hi" else "proved for up to 1 days at once") in page.text
    assert "₹" not in page.text.split("<main")[1]
    told = phone.get(f"{path}.json?{span}").json()["statement"]
    assert (told["charge_paise"], told["charged_wh"], told["first_day"], told["last_day"]) == (None, None, "2025-12-01", "2025-12-02")
    assert phone.get(f"{path}.pdf?{span}&lang={language}").content.startswith(b"%PDF-")


def test_a_file_is_kept_for_ever_only_under_its_own_version(phone):
    """While a release comes in, a page of the new one may ask an old console: what that answers must not stay under the new version."""
    own = re.search(r"/static/openami.css\?v=\w+", phone.get("/my").text)[0]
    assert "immutable" in phone.get(own).headers["cache-control"]
    for other in (own[:-1] + "x", "/static/openami.css"):
        assert phone.get(other).headers["cache-control"] == "no-store"


def test_the_app_can_be_installed(phone):
    manifest = phone.get("/my/app.webmanifest").json()
    assert manifest["display"] == "standalone"
    assert phone.get(manifest["start_url"]).status_code == 200
    assert phone.get(manifest["icons"][0]["src"]).headers["content-type"].startswith("image/svg")
    worker = phone.get("/my/sw.js")
    assert worker.headers["service-worker-allowed"] == "/my"
    assert worker.headers["content-type"].startswith("text/javascript")


def test_hours_add_up_to_the_day(house, phone):
    account = house.own["account"]
    rows = phone.get(f"/my/{account}/usage.csv?day=2025-12-01").text.split()[1:]
    assert len(rows) == 24
    statement = house.client("consumer-own").get(f"/api/v1/accounts/{account}/statements?from=2025-12-01&to=2025-12-01").json()[0]
    assert sum(int(row.split(",")[1] or 0) for row in rows) == statement["wh"]


def test_what_if_on_the_same_bill_saves_nothing():
    one = WhatIf(None, None, 1000, 0, 500, Words("x", "x"), "X", 450)
    assert one.saved_paise == 50


@pytest.mark.parametrize(
    ("amount", "charges", "days"),
    [
        (1000, [100, 100], 10),
        (1000, [None, 300], 3),
        (1000, [0, 0, 0, 100], 10),
        (1000, [0, 0], None),
        (-5, [100], None),
        (1000, [None], None),
    ],
)
def test_for_how_many_days_an_amount_lasts(amount, charges, days):
    assert lasting_days(amount, tuple(DayCost(None, None, c, False) for c in charges)) == days


def test_brotli_is_taken_back_exactly(phone):
    plain = phone.get("/my/app.webmanifest", headers={"accept-encoding": "identity"})
    packed = phone.get("/static/openami.css", headers={"accept-encoding": "br"})
    gzipped = phone.get("/static/openami.css", headers={"accept-encoding": "gzip"})
    assert json.loads(plain.content)["id"] == "/my"
    assert packed.headers["content-encoding"] == "br"
    assert gzipped.headers["content-encoding"] == "gzip"
    assert packed.text == gzipped.text
    refused = phone.get("/static/openami.css", headers={"accept-encoding": "br;q=0, identity"})
    assert "content-encoding" not in refused.headers
