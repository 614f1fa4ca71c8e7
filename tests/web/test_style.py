"""The style sheet: small, and neither a class without a rule nor a rule without a use."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

WEB = Path(str(files("openami.web")))
SHEET = (WEB / "static" / "openami.css").read_text(encoding="utf-8")
BYTES_MOST = 5_500
CLASS = re.compile(r"[a-z][a-z0-9-]*")
FOUND_BY_VALUE = {"heat", "l-negative", "l-unknown", *(f"l{k}" for k in range(5)), "bar", "bar-est", "bar-loss", "bar-gain", "now", "on"}
"""Chosen by what is drawn (`loss_class`, `step_of`, charts, the row that keys have chosen), so they stand in no template."""


def _rules() -> set[str]:
    selectors = re.sub(r"/\*.*?\*/|\{[^{}]*\}", " ", SHEET, flags=re.S)
    return set(re.findall(r"\.([a-z][a-z0-9-]*)", selectors))


def _used() -> dict[str, str]:
    found = {}
    for path in [*WEB.rglob("*.html"), *WEB.rglob("*.py")]:
        for value in re.findall(r'class="((?:\{\{.*?\}\}|\{%.*?%\}|[^"{])*)"', path.read_text(encoding="utf-8")):
            plain = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{\}", " ", value)
            found.update(dict.fromkeys(CLASS.findall(plain), path.name))
    return found


def test_the_sheet_is_small():
    assert len(SHEET.encode()) <= BYTES_MOST


def test_no_class_lacks_a_rule():
    assert {name: where for name, where in _used().items() if name not in _rules()} == {}


def test_no_rule_lacks_a_use():
    assert _rules() - set(_used()) - FOUND_BY_VALUE == set()
    sources = " ".join(p.read_text(encoding="utf-8") for kind in ("*.py", "*.js", "*.html") for p in WEB.rglob(kind))
    assert {name for name in FOUND_BY_VALUE if f'"{name}"' not in sources and f"heat {name}" not in sources and name[0] != "l"} == set()
