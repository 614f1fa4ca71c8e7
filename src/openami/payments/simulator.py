"""A payment gateway that misbehaves on request: it collects at once, tells by webhook, answers status, and writes its file of the day.

    POST /collect   {"payment_id", "account", "amount_paise"}   signed; the payer pays at once
    POST /status    {"payment_id"}                              signed; {"kind", "amount_paise", "happened_s"}, or {} = not known
    POST /refund    {"payment_id", "refund_id", "amount_paise"} signed
    POST /reverse   {"payment_id"}                              the bank takes the payment back
    POST /misbehave {...}                                       how, from now on (`Misbehaviour`); for tests and demos only
    GET  /file                                                  the day's file, CSV

What it says is told by its own seed, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from .event import Kind
from .gateways import Gateway
from .signing import HEADER, doubt, sign

Send = Callable[[bytes, dict[str, str]], Awaitable[int]]
Later = Callable[[Awaitable[None]], None]


@dataclass
class Misbehaviour:
    """copies: of every webhook; delay_s: before it; shuffled: several are held and sent in another order; lost, forged, stale, wrong_amount: the
    share of webhooks of which that is true; failed_first: `failed` is told before `paid`; retries: how often one that was not taken is sent
    again."""

    copies: int = 1
    delay_s: float = 0.0
    shuffled: bool = False
    lost: float = 0.0
    forged: float = 0.0
    stale: float = 0.0
    wrong_amount: float = 0.0
    failed_first: bool = False
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Collected:
    payment_id: str
    account: str
    amount_paise: int
    happened_s: int


class Simulator:
    """The gateway's side. send: delivers a webhook (body, headers) and gives the HTTP status, 0 = nobody there."""

    def __init__(self, gateway: Gateway, send: Send, seed: int = 1, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self.gateway, self._send, self._now_s = gateway, send, now_s
        self.collected: dict[str, Collected] = {}
        self.reversed: set[str] = set()
        self.how = Misbehaviour()
        self.answers: list[int] = []
        self._rng, self._told, self._begun_s = random.Random(seed), 0, now_s()
        self._held: list[tuple[bytes, dict[str, str]]] = []

    async def collect(self, payment_id: str, account: str, amount_paise: int) -> None:
        """The payer pays, and we are told; again with the same id collects nothing."""
        if payment_id in self.collected:
            return
        self.collected[payment_id] = Collected(payment_id, account, amount_paise, self._now_s())
        if self.how.failed_first:
            await self._tell(payment_id, Kind.FAILED)
        await self._tell(payment_id, Kind.PAID)

    async def reverse(self, payment_id: str) -> None:
        self.reversed.add(payment_id)
        await self._tell(payment_id, Kind.REVERSED)

    async def flush(self) -> None:
        """Send what was held, in another order."""
        held, self._held = self._held, []
        self._rng.shuffle(held)
        for body, headers in held:
            await self._deliver(body, headers)

    def status(self, payment_id: str) -> dict[str, Any]:
        found = self.collected.get(payment_id)
        if found is None:
            return {}
        kind = Kind.REVERSED if payment_id in self.reversed else Kind.PAID
        return {"kind": kind.value, "amount_paise": found.amount_paise, "happened_s": found.happened_s}

    def daily_file(self) -> str:
        """What was collected and not taken back."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["payment_id", "account", "amount_paise", "happened_s"])
        writer.writerows(
            [c.payment_id, c.account, c.amount_paise, c.happened_s] for c in self.collected.values() if c.payment_id not in self.reversed
        )
        return out.getvalue()

    async def _tell(self, payment_id: str, kind: Kind) -> None:
        how, found = self.how, self.collected[payment_id]
        self._told += 1
        amount = found.amount_paise + (1 if self._rng.random() < how.wrong_amount else 0)
        event_id = f"E{self._begun_s}-{self._told:06d}"  # started again, it says nothing under an id that it has used
        told = {"event_id": event_id, "payment_id": payment_id, "kind": kind.value, "account": found.account}
        body = json.dumps(told | {"amount_paise": amount, "happened_s": found.happened_s}).encode()
        secret = b"somebody else's secret" if self._rng.random() < how.forged else self.gateway.secrets[0]
        at_s = self._now_s() - (3600 if self._rng.random() < how.stale else 0)
        if self._rng.random() < how.lost:
            return
        for _ in range(how.copies):
            message = (body, {HEADER: sign(secret, body, at_s), "Content-Type": "application/json"})
            if how.shuffled:
                self._held.append(message)
            else:
                await self._deliver(*message)

    async def _deliver(self, body: bytes, headers: dict[str, str]) -> None:
        await asyncio.sleep(self.how.delay_s)
        for _ in range(self.how.retries + 1):
            self.answers.append(status := await self._send(body, headers))
            if status and status != 503:
                return


def create_gateway(gateway: Gateway, webhook: str, seed: int = 1) -> FastAPI:
    """The simulated gateway as a server. webhook: the address of our `/payments/{gateway}/events`."""
    client: httpx.AsyncClient

    async def send(body: bytes, headers: dict[str, str]) -> int:
        try:
            return (await client.post(webhook, content=body, headers=headers)).status_code
        except httpx.HTTPError:
            return 0

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        nonlocal client
        async with httpx.AsyncClient(timeout=30) as client:
            yield

    simulator = Simulator(gateway, send, seed)
    tasks: set[asyncio.Task[None]] = set()
    app = FastAPI(title="OpenAMI's simulated payment gateway", lifespan=life)
    app.state.simulator = simulator

    def later(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    _answer_signed(app, gateway, simulator, later)
    _be_steered(app, simulator, later)
    return app


def _answer_signed(app: FastAPI, gateway: Gateway, simulator: Simulator, later: Later) -> None:
    """What a utility may ask of its gateway."""

    async def signed(request: Request) -> dict[str, Any] | JSONResponse:
        body = await request.body()
        if cause := doubt(gateway.secrets, request.headers.get(HEADER), body, int(time.time())):
            return JSONResponse({"cause": cause}, 401)
        told = json.loads(body)
        return told if isinstance(told, dict) else JSONResponse({"cause": "malformed"}, 422)

    @app.post("/collect")
    async def collect(request: Request) -> Any:
        if isinstance(told := await signed(request), JSONResponse):
            return told
        later(simulator.collect(str(told["payment_id"]), str(told["account"]), int(told["amount_paise"])))
        return {"state": "pending"}

    @app.post("/status")
    async def status(request: Request) -> Any:
        told = await signed(request)
        return told if isinstance(told, JSONResponse) else simulator.status(str(told["payment_id"]))

    @app.post("/refund")
    async def refund(request: Request) -> Any:
        told = await signed(request)
        return told if isinstance(told, JSONResponse) else {"state": "refunded"}


def _be_steered(app: FastAPI, simulator: Simulator, later: Later) -> None:
    """What the payer's bank does, how the gateway misbehaves from now on, and its file of the day."""

    @app.post("/reverse")
    async def reverse(told: dict[str, str]) -> Any:
        if told.get("payment_id") not in simulator.collected:
            return JSONResponse({"cause": "payment"}, 404)
        later(simulator.reverse(told["payment_id"]))
        return {"state": "reversed"}

    @app.post("/misbehave")
    async def misbehave(told: dict[str, Any]) -> Any:
        if unknown := set(told) - {f.name for f in fields(Misbehaviour)}:
            return JSONResponse({"cause": "malformed", "unknown": sorted(unknown)}, 422)
        simulator.how = Misbehaviour(**(asdict(simulator.how) | told))
        if not simulator.how.shuffled:
            later(simulator.flush())
        return asdict(simulator.how)

    @app.get("/file")
    async def file() -> PlainTextResponse:
        return PlainTextResponse(simulator.daily_file(), media_type="text/csv")
