"""The control room in real Chromium: desktop and phone, both languages, with JavaScript and without; keys; renewal without reloading."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from api.houses import build
from openami.control.order import Order, What
from openami.store.order_book import OrderBook

from .test_browser import ARGUMENTS, SIZES, SYSTEM_CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(os.environ.get("OPENAMI_NO_BROWSER")), reason="OPENAMI_NO_BROWSER is set"),
]
TITLES = {
    "": {"en": "Control room", "hi": "नियंत्रण कक्ष"},
    "/orders": {"en": "Orders", "hi": "आदेश"},
    "/losses": {"en": "Losses", "hi": "हानियाँ"},
    "/outages": {"en": "Outages", "hi": "बिजली बंदी"},
    "/exceptions": {"en": "Exceptions", "hi": "अपवाद"},
    "/meters": {"en": "Meters", "hi": "मीटर"},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return build(tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def address(house):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(house.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    server.force_exit = True
    thread.join()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        system = str(SYSTEM_CHROMIUM) if Path(SYSTEM_CHROMIUM).exists() else None
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(house, address, chromium):
    contexts = []

    def open_page(path: str, size: str = "desktop", script: bool = True):
        context = chromium.new_context(viewport=SIZES[size], java_script_enabled=script)
        contexts.append(context)
        token = house.gate.sessions.begin("operator", house.gate.now_s, "127.0.0.1")
        context.add_cookies([{"name": "openami-session", "value": token, "url": address}])
        page = context.new_page()
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lang", ["en", "hi"])
def test_pages_fit_and_read_without_javascript(opened, size, lang):
    page = opened(f"/room?lang={lang}", size, script=False)
    for path, title in TITLES.items():
        page.goto(page.url.split("/room")[0] + f"/room{path}?lang={lang}")
        assert title[lang] in page.locator("h1").inner_text()
        assert page.locator("html").bounding_box()["width"] <= SIZES[size]["width"]


@pytest.mark.parametrize("lang", ["en", "hi"])
def test_a_phones_header_is_two_lines_and_the_open_page_stays_in_sight(house, opened, lang):
    page = opened("/room", "phone", script=False)
    for path in ["", "/tariffs", "/complaints", f"/meters/{house.own['meter']}"]:
        page.goto(page.url.split("/room")[0] + f"/room{path}?lang={lang}")
        header, current = page.locator("header").bounding_box(), page.locator("nav [aria-current]").bounding_box()
        assert header["height"] <= 112
        assert current["x"] >= 0
        assert current["x"] + current["width"] <= SIZES["phone"]["width"]


def test_an_order_that_somebody_asks_for_shows_without_reloading(house, opened):
    page = opened("/room/orders")
    assert page.get_by_text("asked meanwhile").count() == 0
    page.locator("#live.ok").wait_for()
    OrderBook(house.site.rows).ask(Order("O-live", What.CLOCK, "", house.own["meter"], house.gate.now_s, who="test", why="asked meanwhile"))
    page.get_by_text("asked meanwhile").wait_for(timeout=30_000)


@pytest.mark.parametrize("size", SIZES)
def test_a_saved_list_is_taken_off_again_without_javascript(opened, size):
    page = opened("/room/events?lang=en", size, script=False)
    for name in ("First <b>", "Second"):
        page.get_by_placeholder("Name of this list").fill(name)
        page.get_by_role("button", name="Save").click()
        page.get_by_role("link", name=f"★ {name}").wait_for()
    page.get_by_role("button", name="Take First <b> off").click()
    page.get_by_role("link", name="★ First <b>").wait_for(state="detached")
    assert page.get_by_role("link", name="★ Second").count() == 1


def test_keys_go_from_row_to_row_and_from_page_to_page(opened):
    page = opened("/room/meters")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("tr.on input[type=checkbox]").is_checked()
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.wait_for_url("**/room/network")
