"""Bills calculated by hand: tests/cases/billing/<case>/case.toml, with the working shown."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from openami.billing import bill, load_tariffs, segment
from openami.billing.netting import net

CASES = sorted((Path(__file__).parent.parent / "cases" / "billing").glob("*/case.toml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_a_bill_calculated_by_hand(path):
    case = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    whole = segment(load_tariffs(), case["tariff"], case["day"])
    part = whole.starting(case.get("from", whole.first), case.get("until"))
    demands = {key: np.array([case[key]]) for key in ("demand_va", "contract_va") if key in case}
    energy_wh = np.array(case["wh"])[:, None]
    if "export_wh" in case:
        energy_wh = net(part.tariff.net_metering, energy_wh, *(np.array(case[key])[:, None] for key in ("export_wh", "bank_wh"))).billed_wh
    result = bill(
        part.tariff,
        energy_wh,
        part.days_to(case["day"]),
        part.days_in_period,
        np.array([case["connected_load_w"]]),
        np.array([case["prepaid"]]),
        span_days=part.span_days,
        **demands,
    )
    printed = dict(zip(result.lines, result.amount_paise[:, 0].tolist(), strict=True)) | {"total": int(result.total_paise[0])}
    assert printed == {name: int(rs * 100) for name, rs in case["expected_rs"].items()}
