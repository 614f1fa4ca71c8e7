"""The console in real Chromium: every page, desktop and phone, both languages, with JavaScript on and off, light and dark.

`tools/chromium.sh` installs a Chromium where none is. Set OPENAMI_NO_BROWSER=1 to leave these tests out knowingly.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, sync_playwright

from .client import PASSWORD, console
from .sample_town import MISSING_METER, SILENT, SPIKED, SampleTown, account, serial

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(os.environ.get("OPENAMI_NO_BROWSER")), reason="OPENAMI_NO_BROWSER is set"),
]

SYSTEM_CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 360, "height": 640}}

PAGES = {
    "town": ("/", {"en": ["Where the energy goes", "loss 31.2%", "₹18,745.20"], "hi": ["ऊर्जा कहाँ जाती है", "हानि 31.2%", "₹18,745.20"]}),
    "meters": ("/meters", {"en": ["400 meters", serial(0)], "hi": ["400 मीटर", serial(0)]}),
    "meter": (
        f"/meters/{serial(SPIKED)}",
        {"en": ["Energy in Wh per 15 minutes", "failed a check"], "hi": ["हर 15 मिनट की ऊर्जा, Wh", "जाँच में असफल"]},
    ),
    "gaps": (f"/meters/{serial(MISSING_METER)}", {"en": ["02:30–04:00", "missing"], "hi": ["02:30–04:00", "अनुपलब्ध"]}),
    "silent": (f"/meters/{serial(SILENT)}", {"en": ["Nothing was read"], "hi": ["कुछ नहीं पढ़ा गया"]}),
    "transformer": (
        "/transformers/DT-04",
        {"en": ["In, out and loss by hour, kWh", "31.2%"], "hi": ["घंटेवार आवक, जावक और हानि, kWh", "31.2%"]},
    ),
    "feeder": ("/feeders/F2", {"en": ["Feeder F2", "unknown"], "hi": ["फ़ीडर F2", "अज्ञात"]}),
    "consumer": (
        f"/consumers/{account(0)}",
        {"en": ["₹418.72", "Lasts about 10 days", "Why yesterday cost this"], "hi": ["₹418.72", "लगभग 10 दिन चलेगा", "कल इतना क्यों कटा"]},
    ),
    "arrears": (f"/consumers/{account(2)}", {"en": ["−₹123.45", "It is not cut now"], "hi": ["−₹123.45", "अभी नहीं काटी जाएगी"]}),
    "due": ("/due", {"en": ["Due for disconnection", "nothing speaks against it"], "hi": ["विच्छेदन योग्य", "रोकने का कोई कारण नहीं"]}),
    "quarantine": ("/quarantine", {"en": ["Frames in quarantine", "authentication failed"], "hi": ["संगरोध में फ़्रेम", "प्रमाणीकरण विफल"]}),
}


@pytest.fixture(scope="module")
def address():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(console(SampleTown()), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(address):
    with sync_playwright() as playwright:
        system = str(SYSTEM_CHROMIUM) if SYSTEM_CHROMIUM.exists() else None
        if system is None and not Path(playwright.chromium.executable_path).exists():
            pytest.fail("there is no Chromium: run tools/chromium.sh, or set OPENAMI_NO_BROWSER=1 to leave the browser tests out")
        chromium = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        SIGNED_IN.update(_sign_in(chromium, address))
        yield chromium
        chromium.close()


SIGNED_IN: dict[str, list[dict[str, object]]] = {}
"""The cookies of somebody who has signed in through the form, once for all tests."""


def _sign_in(browser: Browser, address: str) -> dict[str, list[dict[str, object]]]:
    """Through the form, with the keyboard and without script."""
    context = browser.new_context(viewport=SIZES["phone"], java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/meters?lang=en")
    assert "/sign-in?next=/meters" in page.url
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/meters?lang=en")
    state = context.storage_state()
    context.close()
    return state


def _opened(browser: Browser, size: str, *, script: bool, scheme: str = "light") -> tuple[Page, list[str]]:
    context = browser.new_context(viewport=SIZES[size], java_script_enabled=script, color_scheme=scheme, storage_state=SIGNED_IN)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(_loss(request)))
    return page, complaints


def _loss(request: Request) -> list[str]:
    """What was not loaded, unless the browser itself gave it up because the next page was opened."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"not loaded: {request.url} ({request.failure})"]


def _overflow_px(page: Page) -> int:
    """How far the page reaches beyond the window, by the sizes that the browser itself reports."""
    client = page.context.new_cdp_session(page)
    sizes = client.send("Page.getLayoutMetrics")
    return round(sizes["cssContentSize"]["width"] - sizes["cssLayoutViewport"]["clientWidth"])


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("language", ["en", "hi"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_stands_in_a_real_browser(browser, address, size, language, script):
    page, complaints = _opened(browser, size, script=script)
    for name, (path, wanted) in PAGES.items():
        page.goto(f"{address}{path}?lang={language}")
        words = page.inner_text("body")
        for text in wanted[language]:
            assert text in words, f"{name} at {size}, {language}: {text!r} is not on the page"
        assert page.locator("h1").count() == 1
        assert page.locator("h1").is_visible()
        assert _overflow_px(page) <= 0, f"{name} at {size}, {language} is wider than the window"
        assert complaints == [], name
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", [PAGES[name][0] for name in ("town", "meter", "consumer", "due")])
def test_letters_stand_out_from_their_ground(browser, address, path, scheme):
    """WCAG 2.2, 1.4.3: contrast of at least 4.5 for every text that is shown (3 for large ones)."""
    page, _ = _opened(browser, "desktop", script=True, scheme=scheme)
    page.goto(f"{address}{path}?lang=en")
    weak = page.evaluate(CONTRAST)
    assert weak == []
    page.context.close()


CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m };
  const linear = v => v <= 10 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const probe = document.body.appendChild(Object.assign(document.createElement("i"), { style: "background:Canvas" }));
  const canvas = parse(getComputedStyle(probe).backgroundColor);
  const ground = e => {
    const over = [];
    for (; e; e = e.parentElement) over.push(parse(getComputedStyle(e).backgroundColor));
    return over.reduceRight((under, c) => under.map((v, k) => v + (c[k] - v) * c[3]), canvas.slice(0, 3));
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e.checkVisibility() || e.closest("title,desc,.skip,.hidden,option")) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest("svg") ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.7 && +style.fontWeight >= 700);
    const ratio = (a + .05) / (b + .05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${text.slice(0, 40)}`);
  }
  return [...new Set(found)].slice(0, 20);
}"""


def test_what_is_not_loaded_is_a_complaint_unless_the_next_page_was_opened(browser, address):
    page, complaints = _opened(browser, "desktop", script=False)
    page.route("**/openami.css*", lambda route: None)  # never answered
    with page.expect_event("requestfailed"):
        with page.expect_request("**/openami.css*"):
            page.goto(f"{address}/?lang=en", wait_until="commit")
        page.goto("about:blank")
    assert complaints == []
    page.unroute("**/openami.css*")
    page.route("**/openami.css*", lambda route: route.abort("connectionrefused"))
    page.goto(f"{address}/?lang=en")
    assert any(c.startswith(f"not loaded: {address}/static/openami.css") for c in complaints)
    page.context.close()


def test_a_person_finds_a_meter_with_the_keyboard_and_no_script(browser, address):
    page, complaints = _opened(browser, "phone", script=False)
    page.goto(f"{address}/meters?lang=hi")
    page.get_by_role("searchbox").fill("UP-00004")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=serial(SPIKED), exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/meters/{serial(SPIKED)}?*lang=hi*")
    page.get_by_role("link", name="English").click()
    assert page.locator("h1").inner_text() == f"Meter {serial(SPIKED)}"
    assert complaints == []
    page.context.close()


def test_the_day_is_chosen_without_script(browser, address):
    page, _ = _opened(browser, "desktop", script=False)
    page.goto(f"{address}/transformers/DT-04?lang=en")
    page.get_by_role("link", name="Day before").click()
    assert "day=2026-03-03" in page.url
    page.locator("input[type=date]").fill("2026-03-02")
    page.get_by_role("button", name="Show").click()
    assert "Mon 2 Mar 2026" in page.inner_text("body")
    page.context.close()


def test_charts_can_be_read_aloud(browser, address):
    page, _ = _opened(browser, "desktop", script=True)
    page.goto(f"{address}/meters/{serial(SPIKED)}?lang=en")
    chart = page.get_by_role("img", name="Energy in Wh per 15 minutes")
    assert chart.is_visible()
    assert "96 intervals: 0 missing, 4 estimated, 2 flagged." in chart.locator("desc").text_content()
    page.context.close()
