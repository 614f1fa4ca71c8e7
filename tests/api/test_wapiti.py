"""wapiti, a scanner from outside, against the control room as an operator sees it and the phone's pages as their consumer does; run by `make judge`.

It is installed into a throw-away environment, because its licence (GPL) and its dependencies are not ours: `OPENAMI_WAPITI` names one that is
there already. `--max-scan-time` ends its look around only, and each module has a time of its own: the two together keep to `OPENAMI_SCAN_S`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .houses import House
from .outside import served

SCAN_S = float(os.environ.get("OPENAMI_SCAN_S", "270"))
"""For each of the two scans; a scan that has not ended half as long again afterwards has failed."""
SCAN_PART = 0.2
MODULES = ("xss", "permanentxss", "sql", "csrf", "redirect", "http_headers", "csp")
"""Not its look at cookies: over plain http, as here, none can be Secure; `test_sign_in` looks at theirs over https."""
PAGES_LEAST = 10


@pytest.fixture(scope="module")
def wapiti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if known := os.environ.get("OPENAMI_WAPITI"):
        return Path(known)
    folder = tmp_path_factory.mktemp("wapiti") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "wapiti3"], check=True)
    return folder / "bin" / "wapiti"


@pytest.mark.judge
@pytest.mark.parametrize(("name", "path"), [("operator", "/room"), ("consumer-own", "/my")], ids=["room", "phone"])
def test_a_scanner_finds_nothing_above_informational(house: House, wapiti: Path, tmp_path: Path, name: str, path: str) -> None:
    gate = house.unlimited().gate
    token = gate.sessions.begin(name, gate.now_s, "wapiti")
    report = tmp_path / "report.json"
    with served(house) as address:
        command = [wapiti, "-u", f"{address}{path}?lang=en", "-s", f"{address}/", "-s", f"{address}/me"]
        command += [
            "-x",
            f"{address}/sign-*",  # leaving ends the session; the door's forms go with a cookie that wapiti drops beside ours
            "-x",
            f"{address}/static/*",
            "-H",
            f"Cookie: openami-session={token}",
            "-m",
            ",".join(MODULES),
        ]
        command += ["-f", "json", "-o", report, "--scope", "domain", "-d", "3", "--max-links-per-page", "30", "--max-files-per-dir", "6"]
        command += ["--max-scan-time", SCAN_S * SCAN_PART, "--max-attack-time", SCAN_S * (1 - SCAN_PART) / len(MODULES)]
        command += ["--flush-session", "--no-bugreport", "--store-session", tmp_path / "session", "--store-config", tmp_path]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=SCAN_S * 1.5)
    assert report.exists(), run.stdout + run.stderr
    found = json.loads(report.read_text(encoding="utf-8"))
    cut = (run.stdout + run.stderr).count("Max attack time was reached")
    sys.stdout.write(
        f"wapiti {path}: {found['infos']['crawled_pages_nbr']} pages, {len(MODULES)} modules, {cut} of them ended by their time\n"
    )
    assert found["infos"]["crawled_pages_nbr"] >= PAGES_LEAST, run.stdout
    told = {kind: rows for part in ("vulnerabilities", "anomalies") for kind, rows in found[part].items() if rows}
    assert told == {}, json.dumps(told, indent=1)
