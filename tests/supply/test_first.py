"""A reconnection goes before everything else, in the queue and in the plan."""

from __future__ import annotations

from openami.control.order import Order, What
from openami.headend.plan import Limits, Plan, Priority, Task
from openami.registry import Meter
from openami.store.order_book import OrderBook
from openami.store.rows import Rows
from openami.store.sql import Database

NOW = 1_764_700_000


def test_the_order_book_gives_reconnections_first(database: Database) -> None:
    rows = Rows(database)
    rows.add_registry([], [], [Meter(f"M{k}", bytes(7) + bytes([k]), "X", "X", 0, k, 0x20, 1) for k in range(4)], [], [], [])
    book = OrderBook(rows)
    for k, what in enumerate((What.CLOCK, What.DISCONNECT, What.CONNECT, What.CONNECT)):
        book.ask(Order(f"o{k}", what, "", f"M{k}", NOW + k))
    assert [one.order_id for one in book.due_now(NOW + 9)] == ["o2", "o3", "o0", "o1"]


def test_a_reconnection_starts_though_all_conversations_are_taken() -> None:
    plan = Plan(Limits(total=1, reserved=1))
    plan.add(Task("routine", "M0", Priority.ROUTINE, "daily_load", 0))
    assert [task.key for task in plan.take(0)] == ["routine"]
    for key, priority in (("order", Priority.ORDER), ("light", Priority.RECONNECTION), ("later", Priority.RECONNECTION)):
        plan.add(Task(key, key, priority, "order", 0))
    assert [task.key for task in plan.take(1)] == ["light"]
