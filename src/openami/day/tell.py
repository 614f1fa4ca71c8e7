"""After the statements: whom to tell that the balance runs low, and who would be due for disconnection, with the guard's reasons.

No relay is operated here and no order is made: `due` is a list for people. The guard is asked for noon of the next day; what the platform does
not know (is a life-support device there, does recharging work) is left unknown, and the guard refuses on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..billing.tariff import load_tariffs
from ..control.guard import Decision, decide
from ..control.policy import load_policies
from ..control.rules import NEVER, Facts
from ..errors import InputError
from ..prepaid.due import due_for_disconnection
from ..prepaid.notices import NoticePolicy, Notices, load_notice_policies, low_balance
from ..readings import Int64
from ..registry import EPOCH, PaymentMode
from .moved import Moved
from .roll import Before, Roll
from .site import Site

RECENT_DAYS = 7
JUDGED_AT = time(12, 0)
LAST_RECHARGE = "last_recharge_paise"
JUDGED = ("closing_paise", "below_since", "uncertain_to_date", "measured_until", "within_free_units", "connected_load_w")


@dataclass(frozen=True, slots=True)
class Told:
    """Rows of a (day, shard). notices: a row per account as the roll has them: meter, level (-1 = none), send, days_left (null = cannot be told),
    last_recharge_paise (0 = none), which the next day's goes on from. due: account, balance_paise,
    shortfall_paise, days_below, judged_at, allowed, reasons (JSON: every rule that was asked, with its answer and source)."""

    notices: pa.Table
    due: pa.Table


def tell(site: Site, day: date, shard: int, roll: Roll, statements: pa.Table, moved: Moved) -> Told:
    """Notices and the due list of one closed (day, shard); `statements` in the order of the roll; moved: the day's transfers."""
    closing = statements["closing_paise"].to_numpy()
    recent = _recent_charges(site, day, shard, roll, statements)
    policy = _notice_policy(site.deployment.policy)
    before = Before.of(site.lake, "notices", day - timedelta(days=1), shard, roll, ["level", LAST_RECHARGE])
    recharge = _last_recharge(site, day, roll, before, moved)
    notices = low_balance(policy, closing, recent, recharge, before.column("level", -1).astype(np.int8), roll.prepaid)
    found = due_for_disconnection(closing, roll.prepaid, statements["pending"].to_numpy(zero_copy_only=False))
    rows = []
    for at, shortfall in zip(found.account.tolist(), found.shortfall_paise.tolist(), strict=True):
        statement = {name: statements[name][at].as_py() for name in JUDGED}
        decision = _judge(site, day, roll, at, statement, int(recent[:, at].mean()))
        rows.append(_due_row(day, roll.numbers[at].as_py(), statement, shortfall, decision))
    return Told(_notice_rows(roll, notices, recharge), pa.Table.from_pylist(rows, DUE_SCHEMA))


def _notice_policy(name: str) -> NoticePolicy:
    known = load_notice_policies()
    if name not in known:
        raise InputError(f"there is no notice policy {name!r}; put one of {', '.join(sorted(known))} into openami.toml")
    return known[name]


DUE_SCHEMA = pa.schema(
    [
        ("account", pa.string()),
        ("balance_paise", pa.int64()),
        ("shortfall_paise", pa.int64()),
        ("days_below", pa.int32()),
        ("judged_at", pa.timestamp("us", "UTC")),
        ("policy", pa.string()),
        ("allowed", pa.bool_()),
        ("reasons", pa.string()),
    ]
)


def _judge(site: Site, day: date, roll: Roll, at: int, statement: dict[str, Any], daily_use_paise: int) -> Decision:
    """Ask the guard whether this account's supply might be cut at noon of the next day."""
    now = datetime.combine(day + timedelta(days=1), JUDGED_AT, ZoneInfo(site.calendar.zone))
    tariff = load_tariffs().on(roll.tariffs[roll.tariff[at]], day)
    facts = Facts(
        payment_mode=(PaymentMode.PREPAID if roll.prepaid[at] else PaymentMode.POSTPAID).value,
        category=tariff.category,
        sanctioned_load_w=statement["connected_load_w"],
        kill_switch_on=False,
        balance_paise=statement["closing_paise"],
        balance_as_of=statement["measured_until"],
        below_floor_since=statement["below_since"],
        old_arrears_paise=0,
        daily_use_paise=daily_use_paise,
        converted_on=EPOCH + timedelta(days=int(roll.mode_since[at])),
        migration_settled=True,
        estimate_in_reckoning=statement["uncertain_to_date"],
        within_free_units=statement["within_free_units"],
        notice_delivered_at=NEVER,
        payment_in_flight=False,
        feeder_cuts_last_hour=0,
        power_cut_last_hour_w=0,
        batch_size=1,
        approvers=0,
    )
    return decide(load_policies().on(site.deployment.policy, now.date()), facts, now)


def _due_row(day: date, number: str, statement: dict[str, Any], shortfall_paise: int, decision: Decision) -> dict[str, Any]:
    reasons = [
        {"code": r.code, "ok": r.ok, "en": r.en, "hi": r.hi, "source": r.source, **({"verify": r.verify} if r.verify else {})}
        for r in decision.reasons
    ]
    return {
        "account": number,
        "balance_paise": statement["closing_paise"],
        "shortfall_paise": shortfall_paise,
        "days_below": (day - statement["below_since"]).days + 1,
        "judged_at": decision.now_local,
        "policy": decision.policy,
        "allowed": decision.allowed,
        "reasons": json.dumps(reasons, ensure_ascii=False),
    }


def _notice_rows(roll: Roll, notices: Notices, last_recharge_paise: Int64) -> pa.Table:
    rows = pa.table(
        {
            "meter": pa.array(roll.meter.astype(np.int32)),
            "level": pa.array(notices.level.astype(np.int32)),
            "send": pa.array(notices.send),
            "days_left": pa.array(notices.days_left, mask=notices.days_left < 0),
            LAST_RECHARGE: pa.array(last_recharge_paise),
        }
    )
    return roll.marked(rows)


def _recent_charges(site: Site, day: date, shard: int, roll: Roll, statements: pa.Table) -> Int64:
    """int64 [day, account]: the charges of up to the last seven days, this one included, in the order of the roll."""
    days = [statements["charges_paise"].to_numpy()]
    for back in range(1, RECENT_DAYS):
        earlier = day - timedelta(days=back)
        if not site.lake.has("statements", earlier, shard):
            break
        days.append(Before.of(site.lake, "statements", earlier, shard, roll, ["charges_paise"]).column("charges_paise", 0))
    return np.asarray(days, np.int64)


def _last_recharge(site: Site, day: date, roll: Roll, before: Before, moved: Moved) -> Int64:
    """int64 [account]: the latest recharge [paise], 0 = none: today's, else what the day before went by. Accounts of which it says nothing are looked
    up in the ledger."""
    found = np.asarray(before.column(LAST_RECHARGE, -1), np.int64).copy()
    lacking, first = np.flatnonzero(found < 0), site.deployment.first_day
    found[lacking] = 0
    if lacking.size and day > first:
        earlier = site.rows.last_recharges(roll.numbers.take(pa.array(lacking)).to_pylist(), first, day - timedelta(days=1))
        at = pc.fill_null(pc.index_in(pa.array([*earlier], pa.string()), roll.numbers), -1).to_numpy()
        found[at] = np.array([*earlier.values()], np.int64)
    today = moved.recharges(roll)
    return np.where(today > 0, today, found)
