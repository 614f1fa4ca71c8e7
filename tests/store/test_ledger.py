"""The ledger in SQL, on both engines: append-only, chained, idempotent, and the same in whatever order its money comes."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from datetime import date, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.prepaid.ledger import Book, Transfer, balance_paise, broken_row, reversal
from openami.registry import Account, PaymentMode
from openami.store.ledger import Ledger
from openami.store.ledger_bulk import settle, tell
from openami.store.ledger_conversion import convert, refusals
from openami.store.ledger_tables import control_total, ledger_head, ledger_row, payment, payment_event
from openami.store.rows import Rows
from openami.store.sql import Database

DAY = date(2025, 12, 3)
START = date(2025, 12, 1)


def accounts(*numbers: str, mode: PaymentMode = PaymentMode.PREPAID, opening: int = 0) -> list[Account]:
    return [Account(n, f"UP-{n}", "", "hi", "BR-DS2", mode, START, START, opening) for n in numbers]


def add(database: Database, *given: Account) -> Ledger:
    Rows(database).add_registry([], [], [], [], given, [])
    return Ledger(database)


def mode(database: Database, number: str, day: date) -> PaymentMode:
    found = Rows(database).account(number, day)
    assert found is not None
    return found.payment_mode


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return add(database, *accounts("A", "B"), *accounts("C", opening=-(2**40)))


def recharge(name: str = "r1", paise: int = 500_00, account: str = "A", day: date = DAY) -> Transfer:
    return Transfer(name, account, day, "recharge", Book.GATEWAY, Book.BALANCE, paise)


# Posting


def test_a_transfer_is_posted_once_and_its_chain_holds(ledger: Ledger) -> None:
    assert len(ledger.post([recharge(), recharge()], 100).rows) == 1
    again = ledger.post([recharge(), recharge("r2")], 200)
    assert again.already == ("r1",)
    rows = ledger.rows("A")
    assert [row.transfer.transfer_id for row in rows] == ["r1", "r2"]
    assert broken_row(rows, ledger.standing("A").head) is None
    assert ledger.standing("A").balance_paise == balance_paise(rows, Book.BALANCE) == 1000_00
    assert list(ledger.broken()) == []


def test_an_account_begins_with_its_opening(ledger: Ledger) -> None:
    assert ledger.standing("C").balance_paise == -(2**40)
    assert [row.transfer.kind for row in ledger.rows("C")] == ["opening"]
    assert ledger.moves(START, DAY) == []


def test_what_is_refused_is_named_and_stops_nobody(ledger: Ledger) -> None:
    ledger.post([recharge()], 100)
    bad = [recharge("r2", account="nobody"), recharge("r1", 1), recharge("r3", 0), reversal(recharge("x"), "v", DAY)]
    posting = ledger.post([*bad, recharge("r9")], 200)
    assert sorted((r.transfer.transfer_id, r.cause) for r in posting.refused) == [
        ("r1", "conflict"),
        ("r2", "account"),
        ("r3", "amount"),
        ("v", "reference"),
    ]
    assert [row.transfer.transfer_id for row in posting.rows] == ["r9"]


def test_a_reversal_undoes_once_across_batches(ledger: Ledger) -> None:
    ledger.post([recharge()], 100)
    assert len(ledger.post([reversal(recharge(), "v1", DAY)], 200).rows) == 1
    assert [r.cause for r in ledger.post([reversal(recharge(), "v2", DAY)], 300).refused] == ["reversed"]
    assert ledger.standing("A").balance_paise == 0


def test_many_at_once_stand_as_one_by_one(ledger: Ledger) -> None:
    ledger.post([recharge(f"r{k}", 100 + k, "AB"[k % 2]) for k in range(501)], 100)
    assert ledger.standing("A").balance_paise + ledger.standing("B").balance_paise == 501 * 100 + 500 * 501 // 2
    assert list(ledger.broken()) == []


def test_two_who_post_at_once_stand_one_after_the_other(ledger: Ledger) -> None:
    def work(k: int) -> None:
        for n in range(10):
            ledger.post([recharge(f"r{k}-{n}", 1), recharge(f"shared-{n}", 1), recharge(f"b{k}-{n}", 1, "B")], 100)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.standing("A").balance_paise == 50
    assert ledger.standing("B").balance_paise == 40
    assert list(ledger.broken()) == []


NOBODYS = {
    "ledger_row": "INSERT INTO ledger_row VALUES ('x', 'nobody', 0, '2025-12-03', 'recharge', 'gateway', 'balance', 1, '', 1, 'x')",
    "payment_mode": "INSERT INTO payment_mode VALUES ('nobody', '2025-12-03', 1, 'prepaid', 'c')",
}


@pytest.mark.parametrize("table", NOBODYS)
def test_nobody_can_write_a_row_of_no_account_nor_take_an_account_away(ledger: Ledger, table: str) -> None:
    for change in (NOBODYS[table], "DELETE FROM account WHERE number = 'A'"):
        with pytest.raises(RequestError, match="refuses these rows"), ledger.database.begin(writing=True) as connection:
            connection.exec_driver_sql(change)


@pytest.mark.parametrize("table", [ledger_row, control_total, payment_event], ids=lambda table: table.name)
@pytest.mark.parametrize("what", ["change", "remove"])
def test_what_is_posted_cannot_be_changed_by_anybody(ledger: Ledger, table: sa.Table, what: str) -> None:
    ledger.post([recharge()], 100)
    with ledger.database.begin() as connection:
        values = {c.name: {"TEXT": "x", "DATE": DAY, "BLOB": b""}.get(str(c.type), 1) for c in table.c} | {"account": "A"}
        if table is not ledger_row:
            connection.execute(table.insert(), {k: v for k, v in values.items() if k in table.c})
    column = next(c for c in table.c if not c.primary_key)
    change = table.update().values({column.name: column}) if what == "change" else table.delete()

    def do() -> None:
        with ledger.database.begin() as connection:
            connection.execute(change)

    with pytest.raises(RequestError, match="never changed or removed"):
        do()


@pytest.mark.parametrize("tamper", ["amount_paise = 1", "day = '2025-01-01'", "kind = 'gift'", "posted_s = 1"])
def test_what_was_changed_under_the_triggers_is_found(ledger: Ledger, tamper: str) -> None:
    ledger.post([recharge(), recharge("b", account="B")], 100)
    with ledger.database.begin() as connection:
        for name in ("_no_update",) if ledger.database.is_sqlite else ("_rows",):
            on = "" if ledger.database.is_sqlite else " ON ledger_row"
            connection.exec_driver_sql(f"DROP TRIGGER ledger_row{name}{on}")
        connection.exec_driver_sql(f"UPDATE ledger_row SET {tamper} WHERE transfer_id = 'r1'")
    assert list(ledger.broken()) == [("A", "its chain breaks at row 0")]


def test_a_head_that_says_other_than_its_rows_is_found(ledger: Ledger) -> None:
    ledger.post([recharge()], 100)
    with ledger.database.begin() as connection:
        connection.execute(ledger_head.update().where(ledger_head.c.account == "A").values(balance_paise=0))
    assert list(ledger.broken()) == [("A", "its rows put balance at 50000 paise, its head at 0")]


# Two times


def test_what_the_balance_showed_at_an_instant(ledger: Ledger) -> None:
    """Closed days from the lake, and what was paid in since and known by then."""
    ledger.post([recharge("r1", 100_00, day=date(2025, 12, 1))], 1000)
    ledger.post([recharge("r2", 20_00, day=date(2025, 12, 3))], 3000)
    ledger.post([recharge("r3", 5_00, day=date(2025, 12, 3))], 4000)
    assert ledger.shown_paise(999, {"A": None}) == {"A": 0}
    assert ledger.shown_paise(1000, {"A": None}) == {"A": 100_00}
    closed = (date(2025, 12, 2), 70_00)  # 100 paid in, 30 charged
    assert ledger.shown_paise(2000, {"A": closed}) == {"A": 70_00}
    assert ledger.shown_paise(3500, {"A": closed}) == {"A": 90_00}
    assert ledger.shown_paise(4000, {"A": closed}) == {"A": 95_00}
    assert ledger.shown_paise(4000, {"C": None}) == {"C": -(2**40)}
    assert ledger.shown_paise(4000, {"C": None, "A": closed}) == {"A": 95_00, "C": -(2**40)}


def test_balances_by_day_and_by_knowledge(ledger: Ledger) -> None:
    ledger.post([recharge("r1", 7, day=date(2025, 12, 1)), recharge("r2", 5, day=date(2025, 12, 3))], 1000)
    ledger.post([recharge("r3", 3, day=date(2025, 12, 1))], 2000)
    assert ledger.balance_paise("A") == 15
    assert ledger.balance_paise("A", to_day=date(2025, 12, 2)) == 10
    assert ledger.balance_paise("A", to_day=date(2025, 12, 2), known_at_s=1500) == 7


# Charges


def test_charges_come_in_as_the_difference_however_often(ledger: Ledger) -> None:
    for _ in range(2):
        settle(ledger.database, DAY, ["A", "B"], np.array([120_00, 0]), 100)
    assert ledger.standing("A").balance_paise == -120_00
    assert ledger.standing("B").charged_to == DAY
    settle(ledger.database, DAY, ["A"], np.array([100_00]), 200)
    settle(ledger.database, DAY + timedelta(days=1), ["A"], np.array([130_00]), 300)
    assert [(r.transfer.kind, r.transfer.amount_paise) for r in ledger.rows("A")] == [
        ("charges", 120_00),
        ("adjustment", 20_00),
        ("charges", 30_00),
    ]
    assert ledger.moves(START, DAY) == []
    assert list(ledger.broken()) == []


# Conversion


def settled_town(database: Database) -> Ledger:
    """P: prepaid with 300 rupees; N: prepaid, 40 below zero; Q: postpaid, owes 500, deposit 200; R: postpaid, paid 11954 in advance."""
    ledger = add(database, *accounts("P", "N"), *accounts("Q", "R", mode=PaymentMode.POSTPAID))
    ledger.post([recharge("p", 400_00, "P"), recharge("n", 60_00, "N")], 50)
    tell(database, ["Q", "R"], np.array([500_00, -11_954_00]), np.array([200_00, 0]), START, 60)
    settle(database, DAY, ["N", "P", "Q", "R"], np.array([100_00, 100_00, 0, 0]), 70)
    return ledger


def stand(ledger: Ledger, *numbers: str) -> list[tuple[int, int, int, int]]:
    each = [ledger.standing(number) for number in numbers]
    return [(s.balance_paise, s.dues_paise, s.arrears_paise, s.deposit_paise) for s in each]


def test_to_prepaid_carries_the_credit_over_and_makes_old_dues_arrears(database: Database) -> None:
    ledger = settled_town(database)
    done = convert(database, "c1", PaymentMode.PREPAID, DAY + timedelta(days=1), 100, who="clerk", why="order 12")
    assert (done.converted, done.refused, done.finished) == (2, 0, True)
    assert stand(ledger, "Q", "R") == [(0, 0, -300_00, 0), (11_954_00, 0, 0, 0)]
    assert done.rupees_before_paise == done.rupees_after_paise
    assert {a.number: a.payment_mode for a in Rows(database).accounts()} == dict.fromkeys("PNQR", PaymentMode.PREPAID)
    assert sum(ledger.trial_balance().values()) == 0
    assert list(ledger.broken()) == []


def test_to_postpaid_makes_a_balance_credit_or_dues_and_back_again(database: Database) -> None:
    ledger = settled_town(database)
    day = DAY + timedelta(days=1)
    convert(database, "c1", PaymentMode.POSTPAID, day, 100, who="clerk", why="order 13")
    assert stand(ledger, "P", "N") == [(0, 300_00, 0, 0), (0, -40_00, 0, 0)]
    convert(database, "c2", PaymentMode.PREPAID, day, 200, who="clerk", why="withdrawn", numbers=["P", "N"])
    assert stand(ledger, "P", "N") == [(300_00, 0, 0, 0), (0, 0, -40_00, 0)]
    assert [mode(database, "P", d) for d in (DAY, day)] == [PaymentMode.PREPAID] * 2
    assert list(ledger.broken()) == []


def test_nothing_is_converted_before_it_is_settled_and_it_is_said_why(database: Database) -> None:
    ledger = add(database, *accounts("P", "W"), *accounts("Q", mode=PaymentMode.POSTPAID))
    settle(database, DAY, ["W"], np.array([0]), 70)
    with database.begin() as connection:
        row = {"gateway": "g", "payment_id": "1", "account": "W", "amount_paise": 5, "asked_s": 1, "state": "pending"}
        connection.execute(payment.insert(), row)
    day = DAY + timedelta(days=1)
    assert convert(database, "c1", PaymentMode.POSTPAID, day, 100, who="clerk", why="x").refused == 2
    assert refusals(database, "c1") == [("P", ("the old meter's last reading is not billed",)), ("W", ("a payment is under way",))]
    assert convert(database, "c2", PaymentMode.PREPAID, day, 100, who="clerk", why="x").converted == 0
    causes = dict(refusals(database, "c2"))["Q"]
    assert causes == ("old balance not known", "deposit not known", "the old meter's last reading is not billed")
    assert mode(database, "P", day) is PaymentMode.PREPAID
    settle(database, DAY, ["P"], np.array([0]), 200)
    again = convert(database, "c1", PaymentMode.POSTPAID, day, 300, who="clerk", why="x")
    assert (again.converted, again.refused) == (1, 1)
    assert mode(database, "P", day) is PaymentMode.POSTPAID
    assert mode(database, "P", DAY) is PaymentMode.PREPAID
    assert list(ledger.broken()) == []


KILLED = """
import os, signal, sys
from datetime import date
from openami.registry import PaymentMode
from openami.store import ledger_bulk, ledger_conversion
from openami.store.sql import Database

saved, save = [], ledger_bulk.Heads.save

def killed(self, connection, positions):
    save(self, connection, positions)
    saved.append(len(positions))
    if len(saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

ledger_bulk.Heads.save = killed
ledger_conversion.heads = lambda connection, numbers: ledger_bulk.heads(connection, numbers, chunk=2)
ledger_conversion.convert(Database(sys.argv[1]), "c", PaymentMode.POSTPAID, date(2025, 12, 4), 200, who="o", why="a test")
"""


def test_a_conversion_that_is_killed_midway_has_done_nothing_and_can_be_run_again(database: Database) -> None:
    names = [f"K{k}" for k in range(6)]
    ledger = add(database, *accounts(*names, opening=-70))
    settle(database, DAY, names, np.arange(6) * 100, 100)
    before = {name: (ledger.standing(name), len(ledger.rows(name))) for name in names}
    address = database.url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", KILLED, address], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {name: (ledger.standing(name), len(ledger.rows(name))) for name in names} == before
    assert {mode(database, name, DAY + timedelta(days=1)) for name in names} == {PaymentMode.PREPAID}
    again = convert(database, "c", PaymentMode.POSTPAID, DAY + timedelta(days=1), 300, who="o", why="a test")
    assert (again.converted, again.refused, again.rupees_before_paise) == (6, 0, again.rupees_after_paise)
    assert list(ledger.broken()) == []


def test_a_conversion_id_belongs_to_one_conversion(database: Database) -> None:
    settled_town(database)
    convert(database, "c1", PaymentMode.PREPAID, DAY, 100, who="clerk", why="x")
    with pytest.raises(RequestError, match="give another id"):
        convert(database, "c1", PaymentMode.POSTPAID, DAY, 100, who="clerk", why="x")
    with pytest.raises(RequestError, match="no account Z"):
        convert(database, "c3", PaymentMode.POSTPAID, DAY, 100, who="clerk", why="x", numbers=["P", "Z"])


# Any order


NUMBER = itertools.count()
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(0, 4), st.integers(1, 10**7)),
        st.tuples(st.just("reverse"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("charge"), st.integers(0, 3), st.integers(-(10**6), 10**7)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, seed=st.randoms(use_true_random=False))
def test_any_order_and_repetition_ends_in_the_same_balance(database: Database, events, seed) -> None:
    """Each payment's and each day's last word is fixed beforehand; a reversal that comes before its payment is handed in again after it."""
    paid = {k: paise for what, k, paise in events if what == "pay"}
    charged = {k: paise for what, k, paise in events if what == "charge"}
    back = {k for what, k, _ in events if what == "reverse" and k in paid}
    number = f"H{next(NUMBER)}"
    ledger = add(database, *accounts(number))
    arrived = events + seed.sample(events, seed.randrange(len(events)))
    seed.shuffle(arrived)
    latest: dict[int, int] = {}
    for what, k, _ in [*arrived, *(("reverse", k, 0) for k in back)]:
        before = recharge(f"{number}-{k}", paid.get(k, 1), number)
        if what == "pay":
            ledger.post([before], 100)
        elif what == "reverse":
            ledger.post([reversal(before, f"{number}-v{k}", DAY)], 100)
        else:
            latest[k] = charged[k]
            settle(database, START + timedelta(days=k), [number], np.array([sum(latest.values())]), 100)
        assert sum(ledger.trial_balance().values()) == 0
    want = sum(paise for k, paise in paid.items() if k not in back) - sum(charged.values())
    assert ledger.standing(number).balance_paise == want
    assert broken_row(ledger.rows(number), ledger.standing(number).head) is None
