"""The consumer's app in real Chromium: desktop and phone, both languages, without JavaScript, and with the network cut."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from api.houses import House, build
from api.outside import served

from .test_browser import ARGUMENTS, CONTRAST, SIZES, SYSTEM_CHROMIUM, _overflow_px

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(os.environ.get("OPENAMI_NO_BROWSER")), reason="OPENAMI_NO_BROWSER is set"),
]
WORDS = {
    "": {"en": ["Balance", "Why", "Recharge"], "hi": ["बैलेंस", "क्यों कटा", "रिचार्ज"]},
    "/days/2025-12-02": {"en": ["Taken for this day", "Against the day before"], "hi": ["पूरा हिसाब", "पिछले दिन से अंतर"]},
    "/usage": {"en": ["Units by hour", "On the other tariff"], "hi": ["घंटेवार यूनिट", "दूसरी दर पर"]},
    "/recharge": {"en": ["Amount in rupees", "No fee is added"], "hi": ["रकम, रुपये में", "कोई शुल्क नहीं"]},
    "/supply": {"en": ["Supply back on", "Messages to you"], "hi": ["बिजली वापस चालू करना", "आपके लिए संदेश"]},
    "/help": {"en": ["What is wrong?"], "hi": ["क्या परेशानी है?"]},
    "/proof": {"en": ["Register at the start", "signed file"], "hi": ["शुरू का मीटर अंक", "हस्ताक्षरित फ़ाइल"]},
}
KEPT = "async () => (await (await caches.open('pages-1')).keys()).map(r => new URL(r.url).pathname)"
FILES_KEPT = "async () => (await (await caches.open('files-1')).keys()).map(r => r.url)"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return build(tmp_path_factory.mktemp("consumer") / "town")


@pytest.fixture(scope="module")
def address(house: House) -> Iterator[str]:
    with served(house) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        system = str(SYSTEM_CHROMIUM) if SYSTEM_CHROMIUM.exists() else None
        if system is None and not Path(playwright.chromium.executable_path).exists():
            pytest.fail("there is no Chromium: run tools/chromium.sh, or set OPENAMI_NO_BROWSER=1 to leave the browser tests out")
        chromium = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield chromium
        chromium.close()


def _phone(browser: Browser, house: House, address: str, **how: object) -> tuple[BrowserContext, Page, list[str]]:
    """A browser in which the consumer has signed in, and what it complains of."""
    context = browser.new_context(**{"viewport": SIZES["phone"]} | how)
    token = house.gate.sessions.begin("consumer-own", house.gate.now_s, "test")
    context.add_cookies([{"name": "openami-session", "value": token, "url": address, "httpOnly": True, "sameSite": "Lax"}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return context, page, complaints


@pytest.mark.parametrize(
    ("size", "language", "script"), [("phone", "hi", True), ("phone", "en", False), ("desktop", "en", True), ("desktop", "hi", False)]
)
def test_every_page_stands_in_a_real_browser(browser, house, address, size, language, script):
    context, page, complaints = _phone(browser, house, address, viewport=SIZES[size], java_script_enabled=script)
    for path, wanted in WORDS.items():
        page.goto(f"{address}/my/{house.own['account']}{path}?lang={language}")
        words = page.inner_text("body")
        for text in wanted[language]:
            assert text in words, f"{path} at {size}, {language}: {text!r} is not on the page"
        assert page.locator("h1").count() == 1
        assert _overflow_px(page) <= 0, f"{path} at {size}, {language} is wider than the window"
        assert complaints == [], path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_stand_out_from_their_ground(browser, house, address, scheme):
    context, page, _ = _phone(browser, house, address, color_scheme=scheme)
    for path in WORDS:
        page.goto(f"{address}/my/{house.own['account']}{path}?lang=hi")
        assert page.evaluate(CONTRAST) == [], path
    context.close()


def test_fingers_find_what_can_be_tapped(browser, house, address):
    """WCAG 2.2, 2.5.8: 24 px at least; buttons and the app's own links have 40."""
    context, page, _ = _phone(browser, house, address)
    for path in WORDS:
        page.goto(f"{address}/my/{house.own['account']}{path}?lang=hi")
        small = page.eval_on_selector_all(
            "nav a, button, .go", "all => all.filter(e => e.getBoundingClientRect().height < 40).map(e => e.textContent)"
        )
        assert small == [], path
        bare = page.eval_on_selector_all(
            "button, .go", "all => all.filter(e => parseFloat(getComputedStyle(e).paddingLeft) < 6).map(e => e.textContent)"
        )
        aside = page.eval_on_selector_all(
            "nav a", "all => all.filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.textContent)"
        )
        assert aside == [], f"{path}: help and proof are seen without pushing"
        assert bare == [], f"{path}: words touch the edge of what is to be tapped"
    context.close()


def test_a_recharge_from_home_to_balance_without_script(browser, house, address):
    context, page, _ = _phone(browser, house, address, java_script_enabled=False)
    page.goto(f"{address}/my?lang=hi")
    before = page.locator(".amount").inner_text()
    page.locator("main").get_by_role("link", name="रिचार्ज").click()
    page.get_by_label("रकम, रुपये में").fill("शून्य")
    page.keyboard.press("Enter")
    assert "कोई रकम नहीं है" in page.get_by_role("alert").inner_text()
    page.get_by_label("रकम, रुपये में").fill("२००")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="₹200.00").click()
    page.get_by_role("button", name="काल्पनिक भुगतान ऐप").click()
    page.get_by_role("heading", level=1, name="₹200.00 मिल गए", exact=True).wait_for()
    page.get_by_role("link", name="बैलेंस", exact=True).click()
    page.wait_for_url(re.compile(r"/my(/\d+)?(\?.*)?$"))
    assert _paise(page.locator(".amount").inner_text()) == _paise(before) + 200_00
    context.close()


def _paise(shown: str) -> int:
    return int(shown.replace("\u2212", "-").replace("₹", "").replace(",", "").replace(".", ""))


def test_a_complaint_is_written_and_seen(browser, house, address):
    context, page, complaints = _phone(browser, house, address)
    page.goto(f"{address}/my/{house.own['account']}/help?lang=en")
    page.get_by_label("There is no electricity").check()
    page.get_by_label("What happened").fill("dark since noon")
    page.get_by_role("button", name="Send").dblclick()
    page.wait_for_url("**#made")
    assert page.get_by_text("dark since noon").count() == 1
    assert complaints == []
    context.close()


def test_why_opens_step_by_step_with_the_keyboard(browser, house, address):
    context, page, _ = _phone(browser, house, address)
    page.goto(f"{address}/my/{house.own['account']}/days/2025-12-02?lang=en")
    step = page.locator(".list details").first
    inner = step.locator("li").first
    assert not inner.is_visible()
    step.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert inner.is_visible()
    context.close()


def test_without_a_network_the_last_pages_open_and_say_how_old_they_are(browser, house):
    with contextlib.ExitStack() as network:
        address = network.enter_context(served(house))
        context, page, _ = _phone(browser, house, address)
        page.goto(f"{address}/my?lang=hi")
        balance = page.locator(".amount").inner_text()
        assert not page.locator("#age").is_visible()
        page.wait_for_function(f"({KEPT})().then(all => all.includes('/my'))")
        usage = f"/my/{house.own['account']}/usage"
        page.goto(f"{address}{usage}?lang=hi")
        page.wait_for_function(f"({KEPT})().then(all => all.includes('{usage}'))")
        page.wait_for_function(f"({FILES_KEPT})().then(all => all.some(one => one.includes('openami.css?v=')))")
        assert page.evaluate("fetch('/static/openami.css?v=other').then(answer => answer.ok)")
        assert not [one for one in page.evaluate(FILES_KEPT) if "other" in one], "what a console of another release answers is not kept"
    page.clock.set_fixed_time(datetime.now(UTC) + timedelta(hours=3, minutes=1))
    page.goto(f"{address}/my?lang=hi")
    assert page.locator(".amount").inner_text() == balance
    assert page.locator("#age").inner_text() == "नेटवर्क नहीं है। यह जानकारी 3 घंटे पहले की है।"
    assert page.locator("form button").first.is_disabled()
    page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=2, minutes=1))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert page.locator("#age").inner_text() == "नेटवर्क नहीं है। यह जानकारी 2 दिन पहले की है।", "an app that lay in the background grows older"
    page.goto(f"{address}{usage}?lang=hi")
    assert page.locator("#age").is_visible()
    assert "घंटेवार यूनिट" in page.inner_text("body")
    page.goto(f"{address}/my/{house.own['account']}/proof?lang=hi")
    assert page.locator(".amount").inner_text() == balance, "what was never opened falls back to the first page"
    assert page.locator("#age").is_visible()
    context.close()


def test_the_proof_prints_as_a_pdf_with_hindi_letters(browser, house, address):
    context, page, _ = _phone(browser, house, address)
    page.goto(f"{address}/my/{house.own['account']}/proof?lang=hi")
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF-")
    assert b"Devanagari" in paper
    page.emulate_media(media="print")
    assert not page.locator("header").is_visible()
    assert page.get_by_text(house.own["meter"]).is_visible()
    context.close()


def test_signing_out_empties_what_was_kept(browser, house, address):
    context, page, _ = _phone(browser, house, address)
    page.goto(f"{address}/my?lang=en")
    page.wait_for_function(f"({KEPT})().then(all => all.includes('/my'))")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    assert set(page.evaluate("caches.keys()")) <= {"files-1"}, "a style sheet of the door may be kept again; it tells nothing of anybody"
    context.close()
