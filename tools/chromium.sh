#!/bin/sh
# Makes sure that a Chromium is here for the browser tests: the system's own, Debian's through apt as root, else Playwright's.
# Run as often as you like; it says nothing when there is nothing to do. PYTHON names the interpreter that has playwright.
set -eu

python="${PYTHON:-python3}"
playwrights_own() {
    "$python" -c 'from pathlib import Path
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    raise SystemExit(0 if Path(p.chromium.executable_path).exists() else 1)' >/dev/null 2>&1
}

[ -x /usr/bin/chromium ] && exit 0
playwrights_own && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium and a Devanagari font (apt) ..." >&2
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-core; } >/dev/null 2>&1; then
        exit 0
    fi
    echo "apt could not install Chromium; trying Playwright's own ..." >&2
fi

echo "Installing Playwright's Chromium ..." >&2
"$python" -m playwright install chromium >/dev/null || {
    echo "No Chromium could be installed: install your system's chromium package and run the browser tests again." >&2
    exit 1
}
