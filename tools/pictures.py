"""The pictures of the documentation, taken of a console that is running: `python tools/pictures.py http://127.0.0.1:8080`.

Needs a Chromium (`tools/chromium.sh`) and the demo's data of seed 1, whose meters and accounts it names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, StorageState, sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
DESKTOP, PHONE = (1280, 800), (360, 640)
PHONES = [
    ("pictures/phone-home-hindi.png", "/my/2000000012?lang=hi", PHONE, "light", 1100),
    ("pictures/phone-use-hindi.png", "/my/2000000005/usage?lang=hi", PHONE, "dark", 1100),
    ("pictures/phone-why.png", "/my/2000000012/days/2025-12-03?lang=en", PHONE, "light", 1200),
]
"""As the demo's consumer sees them; the others as its operator does."""
PICTURES = [
    ("console.png", "/?lang=en", DESKTOP, "light", 1300),
    ("pictures/town-dark-hindi.png", "/?lang=hi", DESKTOP, "dark", 1300),
    ("pictures/meter.png", "/meters/XMB0000220?lang=en&day=2025-12-02", DESKTOP, "light", 1300),
    ("pictures/transformer.png", "/transformers/DT-05?lang=en", DESKTOP, "light", 880),
    ("pictures/consumer-hindi-phone.png", "/consumers/2000000009?lang=hi", PHONE, "light", 1400),
    *PHONES,
    ("pictures/disconnection.png", "/due?lang=en", DESKTOP, "light", 800),
]


def main(address: str) -> None:
    (DOCS / "pictures").mkdir(exist_ok=True)
    system = Path("/usr/bin/chromium")
    with sync_playwright() as playwright:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=str(system) if system.exists() else None, args=arguments)
        signed_in = {person: _sign_in(browser, address.rstrip("/"), person) for person in ("demo-operator", "demo-consumer")}
        for picture in PICTURES:
            name, path, (width, height), scheme, shown_px = picture
            person = "demo-consumer" if picture in PHONES else "demo-operator"
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, storage_state=signed_in[person])
            answer = page.goto(address.rstrip("/") + path)
            if answer is None or not answer.ok:
                raise SystemExit(f"{address}{path} does not answer as a picture should (status {answer and answer.status})")
            whole = page.evaluate("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": width, "height": min(shown_px, whole)}
            page.screenshot(path=DOCS / name, full_page=True, clip=clip)
            page.close()
        browser.close()


def _sign_in(browser: Browser, address: str, person: str) -> StorageState:
    """Through the button that a simulated town's sign-in page has for each of its people."""
    page = browser.new_page()
    page.goto(f"{address}/sign-in?next=/me")
    page.locator(f"button[value={person}]").click()
    state = page.context.storage_state()
    page.close()
    return state


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
