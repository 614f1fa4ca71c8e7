"""From a low balance to a cut, and from a payment to the order of light, on PostgreSQL as on SQLite."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from openami.control.order import Order, What
from openami.payments.event import Event, Kind
from openami.prepaid.ledger import Book, Transfer
from openami.store.ledger import Ledger
from openami.store.order_book import OrderBook
from openami.store.supply_rows import SupplyRows
from openami.supply.back import bring_back
from openami.supply.due import needed_paise
from openami.supply.guard import SupplyGuard, replay
from openami.supply.paying import payment_desk

from .houses import FIRST, Phones, at, closed_site, in_order, owing
from .test_due import cuts, play


def test_told_cut_and_paid_for(tmp_path: Path, postgres: Callable[..., sa.URL], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAMI_DATABASE", postgres().render_as_string(hide_password=False))
    site, town = closed_site(tmp_path / "town")
    assert not site.rows.database.is_sqlite
    in_order(site, at(site, FIRST, "08:00"))
    cut_s = play(site, Phones())
    assert cuts(site) == owing(town)
    kept = SupplyRows(site.rows.database).decisions(limit=1000)
    assert kept
    assert all(replay(site, one.number)[1].same for one in kept)

    points, guard = {point.name: point.meter for point in town.points}, SupplyGuard(site)
    asked = [Order(f"x{a.number}", What.DISCONNECT, a.number, points[a.usage_point], cut_s, who="asha") for a in town.accounts]
    assert guard.ask_all(asked, cut_s) == [guard.ask(order, cut_s) for order in asked]

    number, book, paid_s = owing(town)[0], OrderBook(site.rows), int(timedelta(minutes=5).total_seconds()) + cut_s
    with site.rows.begin(writing=True) as connection:
        connection.exec_driver_sql("UPDATE meter_order SET state = 'confirmed'")
    event = Event("upi", "E1", "P1", Kind.PAID, number, needed_paise(site, number, paid_s), paid_s)
    assert payment_desk(site, lambda: paid_s).take(event).result == "taken"
    assert book.order("reconnect:upi:P1").account == number

    counter = Transfer("counter", owing(town)[1], site.calendar.local(paid_s).date(), "recharge", Book.GATEWAY, Book.BALANCE, 1000_00)
    assert Ledger(site.rows.database).post_all([counter], paid_s).rows
    assert bring_back(site, paid_s + 60) == 1, "money at the counter"
    site.rows.close()
