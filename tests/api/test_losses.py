"""A balance in the API: with the audit's interval and what wires lose, and without either where the audit has not looked."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from openami.day.found import NodeAccount, TechnicalRow
from openami.web.api.network import AUDITED, Balance, _audited

ROW = Balance(
    kind="transformer", name="T1", feeder="F1", day=date(2025, 12, 1), in_wh=1000, out_wh=900, loss_wh=100, coverage=0.9, estimated_share=0.0,
    **dict.fromkeys(AUDITED),
)  # fmt: skip
ACCOUNT = NodeAccount("transformer", "T1", "F1", None, 1000, 900, 100, 80.0, 50.0, 110.0, 0.9, 0.0, {})
FITTED = TechnicalRow("transformer", "T1", "F1", 10_000.0, 300.0, 200.0, 400.0, 0.0, 1e-6, 4000, 30)


def test_the_loss_is_split_into_wires_and_the_rest():
    told = _audited(ROW, ACCOUNT, FITTED)
    assert (told.low_wh, told.likely_wh, told.high_wh) == (50, 80, 110)
    assert (told.technical_low_wh, told.technical_wh, told.technical_high_wh, told.commercial_wh) == (20, 30, 40, 50)
    assert (told.loss_wh, told.coverage) == (100, 0.9)


def test_what_the_audit_does_not_know_stays_unknown():
    assert _audited(ROW, None, FITTED) == ROW
    assert _audited(ROW, replace(ACCOUNT, likely_wh=None, in_wh=None), FITTED) == ROW
    without = _audited(ROW, ACCOUNT, None)
    assert (without.likely_wh, without.technical_wh, without.commercial_wh) == (80, None, None)
