"""`openami payments serve` and `openami payments gateway` as real processes: a payment by webhook, by poll and by the daily file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from openami.payments.client import GatewayClient
from openami.payments.desk import PaymentDesk
from openami.payments.event import State
from openami.payments.gateways import Gateway
from openami.payments.signing import HEADER, sign
from openami.store.deployment import Deployment, Folder
from openami.store.rows import Rows

from .conftest import SECRET, START, add_accounts

PATIENCE_S = 120.0


class Town:
    """A data folder with two processes beside it: who takes payments, and the gateway that tells of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder(folder)
        self.folder.save(Deployment("Town", "Asia/Kolkata", 30, START, 1, "BR", "4f41490000000001"))
        self.rows = Rows.of(self.folder, create=True)
        add_accounts(self.rows.database, "A")
        self.desk = PaymentDesk(self.rows.database, "Asia/Kolkata")
        self._running: list[subprocess.Popen[str]] = []
        (folder / "payments.toml").write_text('[upi]\nsecrets = ["env:UPI_SECRET"]\n')
        self.ours = self.start("serve", "--data", str(folder))
        self.gateway_process, self.gateway = self.start_gateway()

    def start_gateway(self) -> tuple[subprocess.Popen[str], Gateway]:
        """The simulated gateway; our own settings are told its address."""
        address = self.start("gateway", "--webhook", f"{self.ours}payments/upi/events", "--secret", "env:UPI_SECRET").rstrip("/")
        (self.folder.root / "payments.toml").write_text(f'[upi]\naddress = "{address}"\nsecrets = ["env:UPI_SECRET"]\n')
        return self._running[-1], Gateway("upi", address, (SECRET,))

    def start(self, *words: str) -> str:
        """`openami payments ...`; gives the address that it says."""
        process = subprocess.Popen(
            [sys.executable, "-m", "openami", "payments", *words, "--port", "0"], env=self.environment, stderr=subprocess.PIPE, text=True
        )
        self._running.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+/", line):
                return found.group()
        raise AssertionError(f"openami payments {words[0]} ended with {process.wait()}")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"UPI_SECRET": SECRET.decode()}

    def run(self, *words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "openami", "payments", *words, "--data", str(self.folder.root)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def collect(self, payment_id: str, paise: int) -> None:
        self.desk.start("upi", payment_id, "A", paise)
        client = GatewayClient(self.gateway, self.desk)
        client.collect(payment_id, "A", paise)
        client.close()

    def misbehave(self, **how: float) -> None:
        httpx.post(f"{self.gateway.address}/misbehave", json=how).raise_for_status()

    def balance(self) -> int:
        return self.desk.ledger.standing("A").balance_paise

    def close(self) -> None:
        for process in self._running:
            process.terminate()
            process.communicate()
        self.rows.close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


def until(true: Callable[[], bool], what: str) -> None:
    """Ask until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, what


def test_a_payment_goes_all_the_way_by_webhook_poll_and_daily_file(town: Town) -> None:
    # By webhook; told three times, posted once.
    town.misbehave(copies=3)
    town.collect("p1", 100_00)
    until(lambda: town.desk.state("upi", "p1") is State.PAID, "the webhook did not bring the payment")

    # Forged, and an old message sent again: refused, nothing posted.
    told = {"event_id": "X1", "payment_id": "p9", "kind": "paid", "account": "A", "amount_paise": 5, "happened_s": 1}
    body, now = json.dumps(told).encode(), int(time.time())
    events = f"{town.ours}payments/upi/events"
    forged = httpx.post(events, content=body, headers={HEADER: sign(b"not the secret of ours", body, now)})
    stale = httpx.post(events, content=body, headers={HEADER: sign(SECRET, body, now - 3600)})
    assert [(a.status_code, a.json()["cause"]) for a in (forged, stale)] == [(401, "forged"), (401, "stale")]

    # By poll: the webhook is lost.
    town.misbehave(copies=1, lost=1.0)
    town.collect("p2", 200_00)
    code, said = town.run("poll", "--gateway", "upi", "--older-than", "0")
    assert (code, "p2: taken paid" in said) == (0, True), said
    assert town.balance() == 300_00

    # By the day's file: neither webhook nor poll told of the third.
    town.collect("p3", 400_00)
    file = town.folder.root / "upi.csv"
    file.write_text(httpx.get(f"{town.gateway.address}/file").text)
    day = town.desk.ledger.rows("A")[-1].transfer.day.isoformat()
    code, said = town.run("reconcile", str(file), "--gateway", "upi", "--day", day)
    assert (code, "upi:p3" in said, "1 differences" in said) == (1, True, True), said

    # The gateway dies, and its successor knows nothing: the open payment stays open, and the next one comes through.
    town.gateway_process.kill()
    town.gateway_process.wait()
    code, said = town.run("poll", "--gateway", "upi", "--older-than", "0")
    assert (code != 0, "gateway upi does not answer" in said) == (True, True), said
    town.gateway_process, town.gateway = town.start_gateway()
    code, said = town.run("poll", "--gateway", "upi", "--older-than", "0")
    assert (code, said.startswith("0 answers")) == (0, True), said
    assert town.desk.state("upi", "p3") is State.PENDING
    town.collect("p4", 800_00)
    until(lambda: town.desk.state("upi", "p4") is State.PAID, "the restarted gateway did not tell")
    assert town.balance() == 1100_00
    assert list(town.desk.ledger.broken()) == []
