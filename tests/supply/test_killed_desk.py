"""kill -9 between a payment that is posted and its order that is queued: when the gateway tells it again there is one payment and one order."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from openami.control.guard import Decision
from openami.control.order import Event as Move
from openami.control.order import Order, What, advance, decided
from openami.day import Site
from openami.fleet.town import Town
from openami.payments.event import Event, Kind
from openami.payments.event import State as Paid
from openami.store.order_book import OrderBook
from openami.supply.due import needed_paise
from openami.supply.paying import payment_desk

from .houses import FIRST, POLICY, Phones, at, owing, worker_of

DIES = """
import os, signal, sys
from pathlib import Path
from openami.day import Site
from openami.payments.event import Event, Kind
from openami.payments.reconnection import Reconnections
from openami.store.deployment import Folder
from openami.supply.paying import payment_desk

root, point, account, paise, now_s = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
die, order = lambda: os.kill(os.getpid(), signal.SIGKILL), Reconnections.__call__

def ordered(self, connection, posted):
    if point == "posted":
        die()
    order(self, connection, posted)
    if point == "ordered":
        die()

Reconnections.__call__ = ordered
payment_desk(Site.open(Folder(Path(root))), lambda: now_s).take(Event("upi", "E1", "P1", Kind.PAID, account, paise, now_s))
die()
"""


@pytest.mark.parametrize(("point", "kept"), [("posted", False), ("ordered", False), ("committed", True)])
def test_a_desk_that_is_killed_leaves_all_or_nothing_and_one_order_behind_its_restart(
    site: Site, town: Town, point: str, kept: bool
) -> None:
    account, now_s, book = owing(town)[0], at(site, FIRST + timedelta(days=3), "11:30"), OrderBook(site.rows)
    meter = next(p.meter for a in town.accounts if a.number == account for p in town.points if p.name == a.usage_point)
    asked = book.ask(Order("cut", What.DISCONNECT, account, meter, now_s - 60, who="asha"))
    local = site.calendar.local(now_s - 60)
    done = decided(asked, Decision(True, (), POLICY, local, local + timedelta(minutes=5)), now_s - 60)
    for event in (Move.SEND, Move.ACTION_OK, Move.READ_AS_ASKED):
        done = advance(done, event, now_s - 60)
    book.record(asked, done)
    paise = needed_paise(site, account, now_s)
    words = [sys.executable, "-c", DIES, str(site.folder.root), point, account, str(paise), str(now_s)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL

    desk = payment_desk(site, lambda: now_s + 5)
    assert desk.state("upi", "P1") is (Paid.PAID if kept else None)
    assert (desk.ledger.find("upi:P1") is not None) is kept
    assert [order.order_id for order in book.recent() if order.what is What.CONNECT] == (["reconnect:upi:P1"] if kept else [])

    told_again = desk.take(Event("upi", "E1", "P1", Kind.PAID, account, paise, now_s))
    assert told_again.result == ("already" if kept else "taken")
    worker_of(site, Phones()).step(now_s + 60)
    assert [order.order_id for order in book.recent() if order.what is What.CONNECT] == ["reconnect:upi:P1"]
    assert desk.ledger.find("upi:P1") is not None
