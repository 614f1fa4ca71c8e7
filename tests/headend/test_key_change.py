"""A meter's push keys change: both hold until it uses the new ones, from then on these alone; the journal judged anew says the same."""

from __future__ import annotations

import pytest

from openami.cosem.ciphering import Keys
from openami.headend.admission import Admission, Correspondent

from .meters import AUTHENTICATED, ENCRYPTED, HEADEND, KEYS, METERS, admission, push, verdicts

NEW = Keys(b"\x77" * 16, b"\x88" * 16)
BOTH = [ENCRYPTED, AUTHENTICATED]


def replaying(serial: str) -> Admission:
    """As who judges from the beginning: the registry's keys first, those that followed behind them."""
    return Admission({m.system_title: Correspondent(m, KEYS[m.serial], (NEW,) if m.serial == serial else ()) for m in METERS}, HEADEND)


@pytest.mark.parametrize("meter", BOTH)
def test_the_old_key_holds_until_the_new_one_is_used_and_then_no_more(meter):
    judge = admission()
    assert judge.judge(push(meter, 100)).cause is None
    judge.expect_keys(meter.serial, NEW)
    assert judge.judge(push(meter, 101)).cause is None
    assert judge.changing == [judge.row(meter.serial)]
    assert judge.judge(push(meter, 1, NEW)).cause is None, "the counter begins anew under a new key"
    assert (judge.proved, judge.changing) == ([meter.serial], [])
    assert judge.judge(push(meter, 102)).cause in ("bad_tag", "undecipherable")
    assert judge.judge(push(meter, 1, NEW)).cause == "replayed_counter"
    assert judge.judge(push(meter, 2, NEW)).confirm is not None


@pytest.mark.parametrize("meter", BOTH)
def test_keys_that_nobody_announced_are_refused(meter):
    judge = admission()
    assert judge.judge(push(meter, 1, NEW)).cause in ("bad_tag", "undecipherable")
    assert judge.proved == []


@pytest.mark.parametrize("meter", BOTH)
@pytest.mark.parametrize("at_once", [1, 40])
def test_judged_anew_in_batches_of_any_size_the_verdicts_are_the_same(meter, at_once):
    frames = [push(meter, 100 + k) for k in range(20)] + [push(meter, 1 + k, NEW) for k in range(20)]
    judge = replaying(meter.serial)
    causes = [v.cause for at in range(0, 40, at_once) for v in verdicts(judge, frames[at : at + at_once])]
    assert causes == [None] * 40
    assert judge.counter(meter.serial) == 20
