"""Prepaid: balances and charges in; daily statements, low-balance notices and the list of who is due out.

    statement.py   opening + recharges - charges = closing, for all accounts at once
    notices.py     who is told what, by policy, in the account's language
    due.py         who would be due for disconnection (whether they may be cut is `control.decide`)
    recharge.py    which recharge is accepted, how long a part payment brings supply back
    ledger.py      double entry over rows: idempotent, append-only, hash-chained, bitemporal
    reconcile.py   gateway file against ledger, ledger against statements
    postpaid.py    due dates, payments to the oldest claim first, late surcharge, interest on the deposit
    conversion.py  postpaid to prepaid and back; instalments of dues, deposit and arrears

What always holds: the closing balance is exactly the opening balance, plus recharges, less the sum of the printed charge lines; the
closing balance of a day is the opening balance of the next.
"""

from .due import Due, due_for_disconnection
from .notices import NoticePolicy, Notices, load_notice_policies, low_balance, notice_text
from .statement import Statements, daily_statements

__all__ = [
    "Due",
    "NoticePolicy",
    "Notices",
    "Statements",
    "daily_statements",
    "due_for_disconnection",
    "load_notice_policies",
    "low_balance",
    "notice_text",
]
