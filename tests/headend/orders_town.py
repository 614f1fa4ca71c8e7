"""A registry with one simulated meter in it, and the desk that carries its orders out; every part can be made anew as after a restart."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from openami.control.guard import Decision, Reason
from openami.control.order import Order, What
from openami.cosem.server import Served
from openami.headend.lines import Lines, reader_title
from openami.headend.orders import OrderDesk
from openami.headend.session import Patience
from openami.registry import Meter
from openami.store.contacts import Contacts, MeterLine
from openami.store.keys import MasterKey
from openami.store.order_book import SETTLED, OrderBook
from openami.store.rows import Rows
from served import ServedMeter

MASTER = MasterKey(b"\x42" * 32)
TITLE = b"OAM\x00\x00TST"
HASTY = Patience(connect_s=10.0, answer_s=5.0)
SERIAL = "XMA0000007"


def yes(order: Order, now_s: int) -> Decision:
    now = datetime.fromtimestamp(now_s, ZoneInfo("Asia/Kolkata"))
    return Decision(True, (), "TEST", now, now + timedelta(seconds=300))


def no(order: Order, now_s: int) -> Decision:
    now = datetime.fromtimestamp(now_s, ZoneInfo("Asia/Kolkata"))
    return Decision(False, (Reason("life_support", False, "", "", "", ""),), "TEST", now, now)


class Town:
    def __init__(self, folder: Path, meter: ServedMeter, images=None) -> None:
        self.path, self.meter, self.images = folder / "registry.db", meter, images or {}
        self.guard = yes
        identity = meter.identity
        rows = Rows(self.path, create=True)
        known = Meter(SERIAL, identity.system_title, "XMA", "XMA-1P", 0, 0, 0x20, 1)
        rows.add_registry([], [], [known], [], [], [(SERIAL, MASTER.wrap(identity.keys.ek), MASTER.wrap(identity.keys.ak))])
        line = MeterLine(
            SERIAL,
            "127.0.0.1",
            meter.port,
            meter.hdlc,
            mechanism=int(identity.hls),
            password_wrapped=MASTER.wrap_secret(identity.password),
            hls_secret_wrapped=MASTER.wrap_secret(identity.hls_secret),
            transfer_key_wrapped=MASTER.wrap_secret(identity.master_key),
        )
        Contacts(rows).add_lines([line])
        self.rows = rows
        self.restart()

    def restart(self) -> None:
        """Everything that was only in memory is gone."""
        self.rows.close()
        self.rows = Rows(self.path)
        self.book = OrderBook(self.rows)
        self.lines = Lines(self.rows, MASTER, reader_title(TITLE), HASTY)
        self.desk = OrderDesk(
            self.book, self.lines, lambda: self.meter.now_s, lambda *asked: self.guard(*asked), self._image, random.Random(1)
        )

    def _image(self, sha256: str) -> bytes:
        return self.images[sha256]

    def order(self, what: What, order_id: str = "o1", **wish) -> Order:
        return self.desk.ask(Order(order_id, what, "A1", SERIAL, self.meter.now_s, wish=json.dumps(wish), who="test", why="test"))

    async def until_settled(self, order_id: str = "o1", conversations: int = 30) -> Order:
        """Carries the order, minute by minute, until it is settled."""
        for _ in range(conversations):
            order = await self.desk.carry(order_id)
            if order.state in SETTLED:
                return order
            self.meter.now_s += 60
        return order

    def asked_of_meter(self, verb: str, class_id: int, member: int | None = None) -> int:
        """How often a client's request of this kind was carried out."""
        served = [e for e in self.meter.told if isinstance(e, Served) and e.verb == verb]
        return sum(
            code == 0 and ref.class_id == class_id and member in (None, ref.member)
            for e in served
            for ref, code in zip(e.refs, e.codes, strict=True)
        )
