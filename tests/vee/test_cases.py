"""Hand-made days in tests/cases/vee, each with its source: what goes in, what must come out."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from openami import vee
from openami.readings import MISSING, Quality

CASES = Path(__file__).parent.parent / "cases" / "vee"


def column(values: list) -> np.ndarray:
    return np.array([[MISSING if v == "-" else v] for v in values], np.int32)


def mask(case: dict, name: str) -> np.ndarray | None:
    return np.array(case[name], np.bool_)[:, None] if name in case else None


@pytest.mark.parametrize("name", sorted(p.name for p in CASES.iterdir()))
def test_case(name):
    case = tomllib.loads((CASES / name / "case.toml").read_text("utf-8"))
    assert case["source"]
    rules = vee.load_rules().on(date(2026, 1, 1), "domestic")
    limits = vee.meter_limits(rules, np.array([case.get("load_w", 0)]), 30, net_metered=np.array([case.get("net_metered", False)]))
    result = vee.run(
        column(case["wh"]),
        limits,
        conflict=mask(case, "conflict"),
        outage=mask(case, "outage"),
        edited=mask(case, "edited"),
        like_day=column(case["like"]) if "like" in case else None,
        register_wh=np.array([case["register"]], np.int64) if "register" in case else None,
    )
    words = [" ".join(str(q.name).lower() for q in Quality if q and int(bits) & q) for bits in result.quality[:, 0]]
    assert words == case["bits"]
    np.testing.assert_array_equal(result.validated, column(case["expected"]))
