"""wapiti, a scanner from outside, against the console as an operator sees it; run by `make judge`.

It is installed into a throw-away environment, because its licence (GPL) and its dependencies are not ours: `OPENAMI_WAPITI` names one that is
there already.
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

SCAN_S = int(os.environ.get("OPENAMI_SCAN_S", "600"))
MODULES = "xss,sql,csrf,http_headers,csp,cookieflags,crlf,redirect,file,exec"


@pytest.fixture(scope="module")
def wapiti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if known := os.environ.get("OPENAMI_WAPITI"):
        return Path(known)
    folder = tmp_path_factory.mktemp("wapiti") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "wapiti3"], check=True)
    return folder / "bin" / "wapiti"


@pytest.mark.judge
def test_a_scanner_finds_nothing_above_informational(house: House, wapiti: Path, tmp_path: Path) -> None:
    house.unlimited()
    gate = house.gate
    token = gate.sessions.begin("operator", gate.now_s, "wapiti")
    report = tmp_path / "report.json"
    with served(house) as address:
        command = [wapiti, "-u", f"{address}/?lang=en", "-s", f"{address}/sign-in", "-H", f"Cookie: openami-session={token}", "-m", MODULES]
        command += ["-x", f"{address}/sign-out", "-f", "json", "-o", report, "--scope", "folder", "-d", "3", "--max-links-per-page", "30"]
        command += [
            "--max-scan-time",
            str(SCAN_S),
            "--flush-session",
            "--no-bugreport",
            "--store-session",
            tmp_path / "session",
            "--store-config",
            tmp_path,
        ]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert report.exists(), run.stdout + run.stderr
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["infos"]["crawled_pages_nbr"] > 10, run.stdout
    told = {kind: rows for part in ("vulnerabilities", "anomalies") for kind, rows in found[part].items() if rows}
    assert told == {}, json.dumps(told, indent=1)
