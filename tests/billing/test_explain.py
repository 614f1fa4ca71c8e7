"""The derivation of a charge: it always sums, and it says which slab, which rate, what was estimated and what changed."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.billing import charge, load_tariffs, segment
from openami.billing.charge import Segment
from openami.billing.explain import Account, compare_days, explain_bill, explain_day
from openami.errors import RequestError

from .test_bill import compute, tariffs, usages

BOOK = load_tariffs()


def sums(node):
    """Every node that has children is their sum; yields the nodes."""
    yield node
    if node.children:
        assert node.amount_paise == sum(child.amount_paise for child in node.children), node.code
    for child in node.children:
        yield from sums(child)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BOOK.names), st.integers(1, 31), st.integers(0, 2**32), st.booleans(), st.sampled_from([100, 5_000, 400_000]))
def test_every_node_is_the_sum_of_its_parts_and_the_day_is_the_charge(name, day, seed, prepaid, largest):
    rng = np.random.default_rng(seed)
    part = segment(BOOK, name, date(2025, 10, day))
    periods = len(part.tariff.periods)
    before, today = rng.integers(0, largest, periods), rng.integers(0, 9000, periods)
    account = Account(
        tuple(before.tolist()),
        tuple(today.tolist()),
        (0,) * periods,
        int(rng.integers(1, 9000)),
        prepaid,
        3000,
        int(rng.integers(3000, 9000)),
        5000,
    )
    tree = explain_day(part, date(2025, 10, day), account)
    codes = [node.code for node in sums(tree)]
    assert codes[0] == "day"
    expected = charge(
        part, date(2025, 10, day), before[:, None], today[:, None], np.array([account.connected_load_w]), np.array([prepaid]),
        demand_before_va=np.array([3000]), demand_va=np.array([account.demand_va]), contract_va=np.array([5000]),
    )  # fmt: skip
    lines = {node.code: node.amount_paise for node in tree.children if node.code in part.tariff.line_names}
    assert lines == dict(zip(expected.lines, expected.amount_paise[:, 0].tolist(), strict=True))
    assert json.loads(json.dumps(tree.to_json(), ensure_ascii=False))["amount_paise"] == int(expected.total_paise[0])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_tariff_of_the_language_can_be_explained(data):
    tariff = data.draw(tariffs())
    usage = data.draw(usages(len(tariff.periods)))
    part = Segment(tariff, date(2025, 1, 1), date.fromordinal(date(2025, 1, 1).toordinal() + usage.span), usage.in_period)
    account = Account(usage.wh, usage.wh, (0,) * len(usage.wh), usage.load_w, usage.prepaid, 0, usage.demand_va, usage.contract_va)
    tree = explain_bill(part, usage.days, usage.wh, account, usage.demand_va)
    assert len(list(sums(tree))) > len(tariff.lines)
    assert tree.amount_paise == int(compute(tariff, usage).total_paise[0])


def test_the_day_that_passes_the_free_units_says_so_in_both_languages():
    part = segment(BOOK, "BR-DS2", date(2025, 10, 20))
    tree = explain_day(part, date(2025, 10, 20), Account((120_000,), (10_000,), (2_500,), 2000, True))
    english, hindi = "\n".join(tree.text("en")), "\n".join(tree.text("hi"))
    assert "Readings of the day: 10 units, of which 2.5 are estimated" in english
    assert "The consumption passed 125 units today: 125 free units changes there" in english
    assert "30 units x ₹8.95 (slab 2: above 100 units): ₹268.50" in english
    assert "2 kW x ₹80.00 x 20/31 days: ₹103.23" in english
    assert "आज खपत 125 यूनिट से अधिक हो गई" in hindi
    assert "30 यूनिट x ₹8.95 (स्लैब 2: 100 यूनिट से अधिक): ₹268.50" in hindi


def test_what_changed_against_the_day_before():
    part = segment(BOOK, "BR-DS2", date(2025, 10, 20))
    first = explain_day(part, date(2025, 10, 19), Account((114_000,), (6_000,), (0,), 2000, True))
    second = explain_day(part, date(2025, 10, 20), Account((120_000,), (10_000,), (0,), 2000, True))
    change = compare_days(second, first)
    assert (first.amount_paise, second.amount_paise, change.amount_paise) == (0, 132_26, 132_26)
    assert len(list(sums(change))) == len(change.children) + 1
    text = "\n".join(change.text("en"))
    assert "Readings of the day: 6 -> 10 units" in text
    assert "The consumption passed 125 units today" in text
    assert compare_days(first, first).children == ()


def test_the_cliff_of_kerala_is_shown_as_what_it_is():
    part = segment(BOOK, "KL-LT1A", date(2025, 10, 28))
    tree = explain_day(part, date(2025, 10, 28), Account((250_000,), (1_000,), (0,), 2000, False))
    # 251 x 6.75 - 1432.50 = 261.75, and 220 x 28/31 - 160 x 27/31 = 198.71 - 139.35 = 59.36 of fixed charge
    assert tree.amount_paise == 261_75 + 59_36
    assert "crossed.energy_flat" in [node.code for node in tree.children]


def test_an_account_that_cannot_be_billed_is_not_explained():
    part = segment(BOOK, "BR-DS2", date(2025, 10, 20))
    with pytest.raises(RequestError, match="cannot be billed by BR-DS2"):
        explain_day(part, date(2025, 10, 20), Account((1,), (1,), (0,), 0, True))
