"""A desk over a database of either engine, and a gateway that knows its secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pytest

from openami.payments.desk import PaymentDesk
from openami.payments.event import Event, Kind
from openami.payments.gateways import Gateway
from openami.payments.signing import HEADER, sign
from openami.registry import Account, PaymentMode
from openami.store.rows import Rows
from openami.store.sql import Database

NOW = 1_764_700_000  # 2 December 2025, 23:56 in India
START = date(2025, 12, 1)
SECRET = b"a secret for the tests"
GATEWAY = Gateway("upi", "http://gateway", (SECRET,))


def add_accounts(database: Database, *numbers: str, mode: PaymentMode = PaymentMode.PREPAID) -> None:
    accounts = [Account(n, f"UP-{n}", "Asha Devi", "hi", "BR-DS2", mode, START, START, 0) for n in numbers]
    Rows(database).add_registry([], [], [], [], accounts, [])


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(database: Database, clock: Clock) -> PaymentDesk:
    add_accounts(database, "A", "B")
    add_accounts(database, "P", mode=PaymentMode.POSTPAID)
    return PaymentDesk(database, "Asia/Kolkata", now_s=clock)


def event(number: int = 1, payment: str = "p1", kind: Kind = Kind.PAID, account: str = "A", paise: int = 500_00) -> Event:
    return Event("upi", f"E{number}", payment, kind, account, paise, NOW - 5)


def message(told: Event, secret: bytes = SECRET, at_s: int = NOW, **more: object) -> tuple[bytes, dict[str, str]]:
    fields = {name: getattr(told, name) for name in ("event_id", "payment_id", "kind", "account", "amount_paise", "happened_s")} | more
    body = json.dumps(fields).encode()
    return body, {HEADER: sign(secret, body, at_s)}


Sender = Callable[..., object]
