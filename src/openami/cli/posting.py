"""`openami ledger`, what a clerk posts: bills, deposits in parts, agreed instalments, adjustments, refunds, reversals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from ..money import rupees
from ..prepaid.ledger import Book, Transfer, reversal
from ..registry import PaymentMode
from .money import ledger_app
from .words import DEMO_FOLDER, DataOption, a_day, audited, paise_of, site_at

if TYPE_CHECKING:
    from ..day.site import Site

WhoOption = Annotated[str, typer.Option(help="Who does it; it stands in the audit trail.")]
WhyOption = Annotated[str, typer.Option(help="Why; it stands in the audit trail.")]
DayOption = Annotated[str, typer.Option(help="The local day that it counts for.")]
WAYS = {
    "recharge": (Book.GATEWAY, Book.BALANCE),
    "payment": (Book.GATEWAY, Book.DUES),
    "deposit": (Book.GATEWAY, Book.DEPOSIT),
    "refund": (Book.BALANCE, Book.GATEWAY),
    "deposit_back": (Book.DEPOSIT, Book.GATEWAY),
    "credit": (Book.SUSPENSE, Book.BALANCE),
    "debit": (Book.BALANCE, Book.SUSPENSE),
    "rebate": (Book.INTEREST, Book.BALANCE),
}
"""What a clerk may post by hand, and from which book to which it moves."""


@ledger_app.command("post")
def post_(
    transfer_id: Annotated[str, typer.Argument(help="Its name; the same name again posts nothing more.")],
    account: Annotated[str, typer.Argument(help="The account's number.")],
    kind: Annotated[str, typer.Argument(help=", ".join(WAYS))],
    amount: Annotated[str, typer.Argument(help="Rupees, as 12.50.")],
    day: DayOption,
    who: WhoOption,
    why: WhyOption,
    refers_to: Annotated[str, typer.Option(help="The transfer that it puts right.")] = "",
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Post one transfer by hand: money brought to the counter, a deposit, a refund, a credit or debit that puts something right, a rebate."""
    if kind not in WAYS:
        raise InputError(f"{kind!r} is not posted by hand; there are {', '.join(WAYS)}")
    debit, credit = WAYS[kind]
    paise = paise_of(amount, "AMOUNT")
    _post(Transfer(transfer_id, account, a_day(day, "--day"), kind, debit, credit, paise, refers_to), data, who, why)


@ledger_app.command()
def reverse(
    transfer_id: Annotated[str, typer.Argument(help="The posted transfer that is undone.")],
    reversal_id: Annotated[str, typer.Argument(help="The name of its reversal.")],
    day: DayOption,
    who: WhoOption,
    why: WhyOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Undo a posted transfer by another row that refers to it; once."""
    from ..store.ledger import Ledger

    found = Ledger(site_at(data).rows.database).find(transfer_id)
    if found is None:
        raise InputError(f"there is no transfer {transfer_id}; see `openami ledger show ACCOUNT`")
    _post(reversal(found.transfer, reversal_id, a_day(day, "--day")), data, who, why)


def _post(transfer: Transfer, data: DataOption, who: str, why: str) -> None:
    """Post it and say so; what is refused is a sentence and exit code 2."""
    from ..store.ledger import Ledger

    _somebody(who, why)
    site = site_at(data)
    ledger = Ledger(site.rows.database)
    if ledger.find(transfer.transfer_id) is None:
        _fits(site, transfer)
    done = ledger.post_all([transfer])
    if done.rows:
        audited(site.rows, who, f"ledger.{transfer.kind}", transfer.transfer_id, f"account {transfer.account}: {why}")
    what = (
        f"{transfer.transfer_id}: {rupees(transfer.amount_paise)} from {transfer.debit} to {transfer.credit} of account {transfer.account}"
    )
    print(what if done.rows else f"{transfer.transfer_id} is posted already")


def _fits(site: Site, transfer: Transfer) -> None:
    """InputError where the day is none on which a balance would show it, the account's mode has no use for the money, or more would be given back
    than is there."""
    from ..day.books import refuse_unshown, shown_balance_paise
    from ..store.ledger import Ledger

    account, now_s = site.rows.account(transfer.account, on=transfer.day), int(time.time())
    if account is None:
        return  # the ledger names it
    if Book.BALANCE in (transfer.debit, transfer.credit):
        refuse_unshown(site, transfer.day, now_s)
    elif transfer.day > (today := site.calendar.local(now_s).date()):
        raise InputError(f"--day {transfer.day} is still to come; today is {today}")
    stands = Ledger(site.rows.database).standing(transfer.account)
    if transfer.kind == "recharge" and account.payment_mode is PaymentMode.POSTPAID:
        raise InputError(f"account {transfer.account} is postpaid on {transfer.day} and has no balance to recharge; post a payment")
    if transfer.kind == "payment" and account.payment_mode is PaymentMode.PREPAID and stands.dues_paise >= 0:
        raise InputError(f"account {transfer.account} is prepaid on {transfer.day} and owes no bill; post a recharge")
    if transfer.kind in ("refund", "deposit_back"):
        there = stands.deposit_paise
        if transfer.kind == "refund":
            there = shown_balance_paise(site, transfer.account, now_s)
        if transfer.amount_paise > there:
            raise InputError(
                f"{rupees(transfer.amount_paise)} are more than account {transfer.account} has there ({rupees(there)}); give back that at most"
            )


@ledger_app.command()
def issue(
    through: Annotated[str, typer.Option(help="The last local day that is billed.")],
    issued: Annotated[str, typer.Option(help="The day of issue; the due date follows from it by policy.")],
    who: WhoOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Bill the postpaid accounts for the closed days that were not billed before."""
    from ..day.bills import bill_through

    _somebody(who, "bills")
    site = site_at(data)
    made = bill_through(site, a_day(through, "--through"), a_day(issued, "--issued"), int(time.time()))
    audited(site.rows, who, "ledger.issue", through, f"{made} bills")
    print(f"{made} bills issued")


@ledger_app.command()
def deposit(
    account: Annotated[str, typer.Argument(help="The account's number.")],
    amount: Annotated[str, typer.Argument(help="Rupees, as 1200.")],
    first_due: Annotated[str, typer.Option(help="When the first part is due; the others follow every 30 days.")],
    who: WhoOption,
    parts: Annotated[int | None, typer.Option(min=1, max=60, help="In how many parts; left out = by the deployment's policy.")] = None,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Ask for a deposit, in parts that add up exactly. Nothing is owed until it is paid."""
    from ..prepaid.postpaid import postpaid_policy
    from ..store.ledger import Ledger
    from ..store.ledger_bills import demand_deposit

    _somebody(who, "deposit")
    site, paise, due = site_at(data), paise_of(amount, "AMOUNT"), a_day(first_due, "--first-due")
    Ledger(site.rows.database).standing(account)  # an account that is not there is named
    count = parts or postpaid_policy(site.deployment.policy, due).deposit_instalments
    demand_deposit(site.rows.database, account, paise, count, due, site.calendar.local(int(time.time())).date())
    audited(site.rows, who, "ledger.deposit", account, f"{rupees(paise)} in {count} parts from {due} on")
    print(f"{rupees(paise)} in {count} parts, the first due {due}")


@ledger_app.command()
def agree(
    account: Annotated[str, typer.Argument(help="The account's number.")],
    daily: Annotated[str, typer.Option(help="Rupees a day.")],
    cap: Annotated[str, typer.Option(help="The most in a day, also after days that were missed.")],
    since: Annotated[str, typer.Option(help="The first day.")],
    who: WhoOption,
    data: DataOption = DEMO_FOLDER,
) -> None:
    """Agree that old arrears are paid off day by day from the prepaid balance, never more than the cap in a day."""
    from ..store import ledger_bills
    from ..store.ledger import Ledger

    _somebody(who, "agreement")
    site, each, most, begins = site_at(data), paise_of(daily, "--daily"), paise_of(cap, "--cap"), a_day(since, "--since")
    owed = -Ledger(site.rows.database).standing(account).arrears_paise
    ledger_bills.agree(site.rows.database, account, begins, each, most)
    audited(site.rows, who, "ledger.agree", account, f"{rupees(each)} a day, at most {rupees(most)}, from {begins} on")
    print(f"arrears of {rupees(owed)}: {rupees(each)} a day from {begins} on, at most {rupees(most)} in a day")


def _somebody(who: str, why: str) -> None:
    if not who.strip() or not why.strip():
        raise InputError("a posting needs somebody who makes it and a reason; give --who and --why")
