"""`openami ledger` and `openami payments` as a clerk types them: an account from prepaid to postpaid and back, every rupee followed."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from openami.cli import app
from openami.day import Site, close_all
from openami.errors import InputError, OpenAMIError, RequestError
from openami.registry import PaymentMode
from openami.store.audit import AuditTrail
from openami.store.ledger import Ledger
from openami.store.ledger_bills import open_bills

from .homes import Home, even, number, read, site_of, told

FIRST = date(2025, 12, 1)
DAYS = [FIRST + timedelta(days=k) for k in range(4)]
PREPAID, POSTPAID = 0, 1
WHO = ["--who", "asha", "--why", "at the counter"]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four closed days of a prepaid and a postpaid home."""
    homes = [Home("KL-LT1A", opening_paise=500_00), Home("KL-LT1A", mode=PaymentMode.POSTPAID)]
    site = site_of(tmp_path_factory.mktemp("ledger") / "data", homes, FIRST, len(DAYS))
    for day in DAYS:
        read(site, day, {"import_wh": even(200, 300)})
    close_all(site)
    site.rows.close()
    return site.folder.root


@pytest.fixture
def site(closed: Path, tmp_path: Path) -> Site:
    import shutil

    from openami.store.deployment import Folder

    shutil.copytree(closed, tmp_path / "data")
    return Site.open(Folder(tmp_path / "data"))


def run(site: Site, *words: str, of: str = "ledger", code: int = 0) -> str:
    done: Result = CliRunner().invoke(app, [of, *words, "--data", str(site.folder.root)])
    if isinstance(done.exception, OpenAMIError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def charged(site: Site, k: int, days: list[date]) -> int:
    return sum(int(told(site, "statements", day, k)["charges_paise"]) for day in days)  # type: ignore[call-overload]


def books(site: Site, k: int) -> tuple[int, int, int, int]:
    s = Ledger(site.rows.database).standing(number(k))
    return s.balance_paise, s.dues_paise, s.arrears_paise, s.deposit_paise


def test_settling_takes_prepaid_days_and_billing_postpaid_ones_each_once(site: Site) -> None:
    for _ in range(2):
        run(site, "settle", "--through", "2025-12-04")
    assert books(site, PREPAID)[0] == 500_00 - charged(site, PREPAID, DAYS)
    assert books(site, POSTPAID) == (0, 0, 0, 0)
    issued = ["--through", "2025-12-04", "--issued", "2025-12-05", "--who", "asha"]
    assert [run(site, "issue", *issued) for _ in range(2)] == ["1 bills issued\n", "0 bills issued\n"]
    assert books(site, POSTPAID) == (0, -charged(site, POSTPAID, DAYS), 0, 0)
    run(site, "settle", "--through", "2025-12-04")
    assert books(site, POSTPAID) == (0, -charged(site, POSTPAID, DAYS), 0, 0)
    (bill,) = (json.loads(line) for line in run(site, "bills", number(POSTPAID), "--json").splitlines())
    assert (bill["due"], bill["owed_paise"]) == ("2025-12-20", charged(site, POSTPAID, DAYS))
    assert "everything ties" in run(site, "check")


def test_a_bill_is_of_closed_days_that_are_over_and_leaves_none_out(site: Site) -> None:
    for through, why in (("2025-12-10", "cannot be billed on"), ("2025-12-09", "2025-12-05 of shard 0 is not closed")):
        with pytest.raises(OpenAMIError, match=why):
            run(site, "issue", "--through", through, "--issued", "2025-12-10", "--who", "asha")
    for through in ("2025-12-01", "2025-12-04"):
        assert run(site, "issue", "--through", through, "--issued", "2025-12-05", "--who", "asha") == "1 bills issued\n"
    assert books(site, POSTPAID)[1] == -charged(site, POSTPAID, DAYS)
    spans = [(b.bill_id, b.amount_paise) for b in open_bills(site.rows.database, number(POSTPAID))]
    assert [paise for _, paise in spans] == [charged(site, POSTPAID, DAYS[:1]), charged(site, POSTPAID, DAYS[1:])]


def test_from_prepaid_to_postpaid_and_back_every_rupee_stays(site: Site) -> None:
    words = ["convert", "c1", "--to", "postpaid", "--day", "2025-12-03", "--account", number(PREPAID), *WHO]
    assert "the old meter's last reading is not billed" in run(site, *words, code=1)
    run(site, "settle", "--through", "2025-12-02")
    left = 500_00 - charged(site, PREPAID, DAYS[:2])
    assert "1 converted, 0 not" in run(site, *words)
    assert books(site, PREPAID) == (0, left, 0, 0), "what was left is credit"
    assert "2 bills issued" in run(site, "issue", "--through", "2025-12-04", "--issued", "2025-12-05", "--who", "asha")
    left -= charged(site, PREPAID, DAYS[2:])
    back = ["convert", "c2", "--to", "prepaid", "--day", "2025-12-05", "--account", number(PREPAID), *WHO]
    assert "1 converted" in run(site, *back)
    assert books(site, PREPAID) == (left, 0, 0, 0)
    ledger = Ledger(site.rows.database)
    assert sum(ledger.trial_balance().values()) == 0
    assert list(ledger.broken()) == []
    assert "convert to postpaid" in [entry.action for _, entry in AuditTrail(site.rows).latest(20)]


def test_lateness_deposit_and_interest(site: Site) -> None:
    run(site, "issue", "--through", "2025-12-04", "--issued", "2025-12-05", "--who", "asha")
    owed = charged(site, POSTPAID, DAYS)
    late = "late", "--day", "2026-01-19"
    assert [run(site, *late) for _ in range(2)] == ["1 accounts charged\n", "0 accounts charged\n"]
    surcharge = -books(site, POSTPAID)[1] - owed
    assert surcharge == (owed * 1250 * 30 * 2 + 100_000 * 30) // (2 * 100_000 * 30), "1.25 % for the 30 days since 20 December"
    asked = run(site, "deposit", number(POSTPAID), "1000.01", "--first-due", "2025-12-20", "--who", "asha")
    assert asked == "₹1,000.01 in 4 parts, the first due 2025-12-20\n"
    run(site, "post", "D1", number(POSTPAID), "deposit", "1000", "--day", "2025-12-20", *WHO)
    paid = run(site, "interest", "--day", "2026-12-20", "--since", "2025-12-20")
    assert paid == "1 accounts paid\n"
    assert books(site, POSTPAID)[3] == 1_060_00, "6 % a year"


def test_arrears_are_paid_off_as_agreed_and_never_faster_than_the_cap(site: Site) -> None:
    run(site, "post", "P0", number(PREPAID), "recharge", "100", "--day", "2025-12-05", *WHO)
    from openami.prepaid.ledger import Book, Transfer

    Ledger(site.rows.database).post_all([Transfer("old", number(PREPAID), FIRST, "opening", Book.ARREARS, Book.SUSPENSE, 300_00)])
    agreed = run(site, "agree", number(PREPAID), "--daily", "1", "--cap", "2.50", "--since", "2025-12-05", "--who", "asha")
    assert agreed == "arrears of ₹300.00: ₹1.00 a day from 2025-12-05 on, at most ₹2.50 in a day\n"
    assert [run(site, "instalments", "--day", day) for day in ("2025-12-05", "2025-12-05", "2025-12-20")] == [
        "1 accounts paid their instalment\n",
        "0 accounts paid their instalment\n",
        "1 accounts paid their instalment\n",
    ]
    assert books(site, PREPAID)[2] == -(300_00 - 1_00 - 2_50)


def test_what_a_clerk_posts_is_posted_once_reversed_once_and_stands_in_the_trail(site: Site) -> None:
    post = ["post", "P1", number(PREPAID), "recharge", "250.50", "--day", "2025-12-05", *WHO]
    assert run(site, *post) == f"P1: ₹250.50 from gateway to balance of account {number(PREPAID)}\n"
    assert run(site, *post) == "P1 is posted already\n"
    run(site, "reverse", "P1", "R1", "--day", "2025-12-05", *WHO)
    with pytest.raises(RequestError, match="is reversed already"):
        run(site, "reverse", "P1", "R2", "--day", "2025-12-05", *WHO)
    run(site, "post", "F1", number(PREPAID), "refund", "10", "--day", "2025-12-05", *WHO)
    assert books(site, PREPAID)[0] == 490_00
    shown = run(site, "show", number(PREPAID))
    assert all(name in shown for name in ("P1", "R1", "F1", "for P1"))
    assert [(e.who, e.action) for _, e in AuditTrail(site.rows).latest(2)] == [("asha", "ledger.refund"), ("asha", "ledger.reversal")]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["post", "X", "77", "recharge", "1", "--day", "2025-12-04", *WHO], "there is no such account"),
        (["post", "X", number(0), "recharge", "0", "--day", "2025-12-04", *WHO], "AMOUNT '0' is no amount"),
        (["post", "X", number(0), "recharge", "1.005", "--day", "2025-12-04", *WHO], "is no amount"),
        (["post", "X", number(0), "recharge", "-5", "--day", "2025-12-04", *WHO], "No such option|is no amount"),
        (["post", "X", number(0), "gift", "1", "--day", "2025-12-04", *WHO], "'gift' is not posted by hand"),
        (["post", "X", number(0), "credit", "1", "--day", "soon", *WHO], "--day 'soon' is not a date"),
        (["post", "X", number(0), "credit", "1", "--day", "2025-12-04", "--who", " ", "--why", "x"], "needs somebody"),
        (["post", "X", number(0), "credit", "1", "--day", "2025-12-05", *WHO, "--refers-to", "nothing"], "is not a posted transfer"),
        (
            ["post", "X", number(0), "recharge", "5", "--day", "2025-12-04", *WHO],
            "2025-12-04 is closed, so no balance would show it; the first open day is 2025-12-05",
        ),
        (["post", "X", number(0), "recharge", "5", "--day", "2999-12-04", *WHO], "is still to come"),
        (["post", "X", number(0), "payment", "5", "--day", "2025-12-05", *WHO], "is prepaid on 2025-12-05 and owes no bill"),
        (["post", "X", number(1), "recharge", "5", "--day", "2025-12-05", *WHO], "is postpaid on 2025-12-05"),
        (["post", "X", number(0), "refund", "500.01", "--day", "2025-12-05", *WHO], "are more than account"),
        (["post", "X", number(1), "deposit_back", "0.01", "--day", "2025-12-05", *WHO], "are more than account"),
        (["reverse", "nothing", "R", "--day", "2025-12-04", *WHO], "there is no transfer nothing"),
        (["deposit", "77", "100", "--first-due", "2025-12-20", "--who", "asha"], "there is no account 77"),
        (["agree", number(0), "--daily", "2", "--cap", "1", "--since", "2025-12-04", "--who", "asha"], "cannot be agreed"),
        (["instalments", "--day", "2025-12-04"], "2025-12-04 is closed, so no balance would show it; the first open day is 2025-12-05"),
        (["instalments", "--day", "2999-12-04"], "is still to come"),
        (["post", "X", number(0), "debit", "5", "--day", "2025-12-01", *WHO], "is closed, so no balance would show it"),
        (["settle", "--through", "2025-12-09"], "2025-12-05 is not closed"),
        (["show", "77"], "there is no account 77"),
        (["show", number(0), "--at", "noon"], "--at 'noon' is not a time"),
    ],
)
def test_refused_by_name_and_nothing_is_posted(site: Site, words: list[str], why: str) -> None:
    before = [len(Ledger(site.rows.database).rows(number(k))) for k in (0, 1)]
    done = CliRunner().invoke(app, ["ledger", *words, "--data", str(site.folder.root)])
    said = str(done.exception) if isinstance(done.exception, OpenAMIError) else done.output
    assert done.exit_code != 0
    assert any(part in said for part in why.split("|"))
    assert [len(Ledger(site.rows.database).rows(number(k))) for k in (0, 1)] == before
    assert AuditTrail(site.rows).latest(5) == []


def test_a_reversal_of_a_closed_days_transfer_is_posted_to_an_open_day_and_refers_to_it(site: Site) -> None:
    """Value and booking: the row counts for the day whose statement is still to come, the instant of its posting is kept beside it."""
    from openami.prepaid.ledger import Book, Transfer

    early = Transfer("P1", number(PREPAID), FIRST, "recharge", Book.GATEWAY, Book.BALANCE, 5_00)
    Ledger(site.rows.database).post_all([early])
    with pytest.raises(InputError, match="2025-12-01 is closed"):
        run(site, "reverse", "P1", "R1", "--day", "2025-12-01", *WHO)
    run(site, "reverse", "P1", "R1", "--day", "2025-12-05", *WHO)
    row = Ledger(site.rows.database).find("R1")
    assert row is not None
    assert (row.transfer.day, row.transfer.refers_to) == (date(2025, 12, 5), "P1")


def test_what_the_balance_showed_then(site: Site) -> None:
    run(site, "note")
    shown = json.loads(run(site, "show", number(PREPAID), "--at", "2025-12-02T00:00", "--json"))["shown_paise"]
    assert shown in (500_00, 500_00 - charged(site, PREPAID, DAYS[:1]))
    now = json.loads(run(site, "show", number(PREPAID), "--json"))["shown_paise"]
    assert now == 500_00 - charged(site, PREPAID, DAYS)


def test_a_gateways_file_against_the_ledger(site: Site, tmp_path: Path) -> None:
    run(site, "post", "upi:p1", number(PREPAID), "recharge", "100", "--day", "2025-12-05", *WHO)
    file = tmp_path / "upi.csv"
    file.write_text(f"payment_id,account,amount_paise\np1,{number(PREPAID)},10000\np2,{number(PREPAID)},5000\n", encoding="utf-8")
    told_ = run(site, "reconcile", str(file), "--gateway", "upi", "--day", "2025-12-05", of="payments", code=1)
    assert "p2" in told_
    assert "2 payments in the file, 1 differences" in told_
    with pytest.raises(InputError):
        run(site, "reconcile", str(tmp_path / "none.csv"), "--gateway", "upi", "--day", "2025-12-04", of="payments")


def test_terms_are_told_shown_loaded_and_refused_by_name(site: Site, tmp_path: Path) -> None:
    tell = ["tell", number(PREPAID), "--since", "2025-12-03", "--contract-kva", "7.5", *WHO]
    assert run(site, *tell, of="terms").startswith("1 of 1 are new; ")
    assert run(site, *tell, of="terms") == "0 of 1 are new; 0 adjustments of closed days\n"
    shown = run(site, "show", number(PREPAID), of="terms")
    assert "from 2025-12-03" in shown
    assert "7.5 kVA" in shown
    file = tmp_path / "terms.csv"
    for line, why in (
        ("77,2025-12-03,BR-DS2,", "there is no account 77"),
        (f"{number(0)},2025-12-03,XX,", "'XX'"),
        (f"{number(0)},soon,BR-DS2,", "line 3: since 'soon' is not a date"),
        (f"{number(0)},2025-12-03,,many", "line 3: contract demand 'many' is no number"),
        (f"{number(0)},2025-12-03,,0", "a contract demand of 0 VA"),
        (f"{number(0)},2025-12-03,,", "nothing is told"),
        (f"{number(0)},2999-12-03,BR-DS2,", "is still to come|holds from"),
        (f"{number(0)},2025-12-03", "line 3: 2 cells"),
    ):
        file.write_text(f"account,since,tariff,contract_kva\n{number(1)},2025-12-02,BR-DS2,\n{line}\n", "utf-8")
        with pytest.raises(OpenAMIError) as refused:
            run(site, "load", str(file), *WHO, of="terms")
        assert any(part in str(refused.value) for part in why.split("|"))
        assert run(site, "show", number(1), of="terms") == "now KL-LT1A\n", "nothing of the file was taken"
    file.write_text(f"account,since,tariff,contract_kva\n{number(1)},2025-12-02,BR-DS2,\n", "utf-8")
    assert "1 of 1 are new" in run(site, "load", str(file), *WHO, of="terms")
    assert run(site, "show", number(1), of="terms").endswith("now BR-DS2\n")
    assert "terms" in [entry.action for _, entry in AuditTrail(site.rows).latest(5)]
