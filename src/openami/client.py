"""The API for Python programs: `openami.Client`.

    with openami.Client("https://ami.example.in", client_id="planning", client_secret=...) as ami:
        for meter in ami.meters(feeder="F1"):
            table = ami.readings(meter["serial"], first="2025-12-01", last="2025-12-31")

What always holds: lists go on page by page until they end; a request that makes something carries an idempotency key, so that it may be sent
again when no answer came; what the server refuses comes out as one of our errors, with its sentence; tokens are fetched anew before they end and
are in no repr. Reads are tried again when the server is away or asks to wait; nothing else is.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from types import TracebackType
from typing import Any

import httpx
import pyarrow as pa

from .errors import DataError, InputError, RequestError, StorageError

TRIES = 4
LONGEST_WAIT_S = 30.0
RENEW_BEFORE_S = 60
PAGE = 500
Day = date | str


class Client:
    """Of one deployment. url: where its console is; token: an access token, or client_id and client_secret of a program that fetches its own.

    InputError for what the server cannot use (422) or may not be asked (403), RequestError for what is not possible now (404, 409, 412), DataError
    where nobody is signed in (401), StorageError when it is away (5xx, or no answer).
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        client_id: str = "",
        client_secret: str = "",
        timeout_s: float = 30.0,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if bool(token) == bool(client_id):
            raise InputError("give either a token, or client_id and client_secret")
        self._url = url.rstrip("/")
        self._http = http or httpx.Client(timeout=timeout_s, follow_redirects=False)
        self._token, self._ends_s = token, float("inf") if token else 0.0
        self._program, self._sleep = (client_id, client_secret), sleep

    def __repr__(self) -> str:
        return f"Client({self._url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ---- what there is

    def me(self) -> dict[str, Any]:
        return dict(self.get("/me"))

    def usage_points(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: feeder, transformer."""
        return self.each("/usage-points", **only)

    def meters(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: feeder, transformer."""
        return self.each("/meters", **only)

    def meter(self, serial: str) -> dict[str, Any]:
        return dict(self.get(f"/meters/{serial}"))

    def readings(
        self, serial: str, channel: str = "import_wh", *, first: Day | None = None, last: Day | None = None, table: str = "validated"
    ) -> pa.Table:
        """end (UTC), value (null = none; its field's metadata names unit and scaler), quality (`openami.readings.Quality` bits)."""
        asked = {"from": first, "to": last, "channel": channel, "table": table, "format": "arrow"}
        answer = self._ask("GET", f"/meters/{serial}/readings", params=asked)
        return pa.ipc.open_stream(answer.content).read_all()

    def quality(
        self, serial: str, channel: str = "import_wh", *, first: Day | None = None, last: Day | None = None
    ) -> list[dict[str, Any]]:
        return list(self.get(f"/meters/{serial}/quality", **{"from": first, "to": last, "channel": channel}))

    def events(self, serial: str = "") -> Iterator[dict[str, Any]]:
        return self.each(f"/meters/{serial}/events" if serial else "/events")

    def accounts(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: payment_mode."""
        return self.each("/accounts", **only)

    def account(self, number: str) -> dict[str, Any]:
        return dict(self.get(f"/accounts/{number}"))

    def statements(self, number: str, *, first: Day | None = None, last: Day | None = None) -> list[dict[str, Any]]:
        return list(self.get(f"/accounts/{number}/statements", **{"from": first, "to": last}))

    def explain(self, number: str, day: Day) -> dict[str, Any]:
        return dict(self.get(f"/accounts/{number}/statements/{day}/explanation"))

    def payments(self, number: str) -> Iterator[dict[str, Any]]:
        return self.each(f"/accounts/{number}/payments")

    def terms(self, number: str) -> Iterator[dict[str, Any]]:
        """What the account was told of its tariff and contract demand, the oldest first."""
        return self.each(f"/accounts/{number}/terms")

    def tariffs(self, day: Day) -> list[dict[str, Any]]:
        return list(self.get("/tariffs", day=day))

    def tariff(self, name: str) -> list[dict[str, Any]]:
        """Its versions, the oldest first."""
        return list(self.get(f"/tariffs/{name}"))

    def losses(self, day: Day | None = None, **only: Any) -> Iterator[dict[str, Any]]:
        """only: kind."""
        return self.each("/losses", day=day, **only)

    def service_levels(self, day: Day | None = None) -> list[dict[str, Any]]:
        """What the provider is held to; with a closed day, also how that day's levels were met."""
        return list(self.get("/service-levels" if day is None else f"/service-levels/{day}"))

    def quarantine(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: cause."""
        return self.each("/quarantine", **only)

    def audit(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: who, subject, action."""
        return self.each("/audit", **only)

    def orders(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: meter, state."""
        return self.each("/orders", **only)

    def order(self, order_id: str) -> dict[str, Any]:
        return dict(self.get(f"/orders/{order_id}"))

    def complaints(self) -> Iterator[dict[str, Any]]:
        """Those that wait for an answer, the oldest first."""
        return self.each("/complaints")

    def inspections(self) -> Iterator[dict[str, Any]]:
        return self.each("/inspections")

    def proposals(self) -> Iterator[dict[str, Any]]:
        return self.each("/proposals")

    def consents(self) -> Iterator[dict[str, Any]]:
        return self.each("/consents")

    def people(self) -> Iterator[dict[str, Any]]:
        return self.each("/people")

    def webhooks(self) -> Iterator[dict[str, Any]]:
        return self.each("/webhooks")

    # ---- what can be done; each takes a `key`: the same one again acts no second time

    def ask(self, what: str, meters: list[str], why: str, key: str = "") -> dict[str, Any]:
        """Orders to meters: "connect", "disconnect", "clock", "read"."""
        return dict(self.post("/orders", {"what": what, "meters": meters, "why": why}, key))

    def withdraw(self, order_id: str, why: str) -> dict[str, Any]:
        return dict(self.post(f"/orders/{order_id}/withdraw", {"why": why}))

    def consent(self, account: str, partner: str, purposes: list[str], days: int, key: str = "") -> dict[str, Any]:
        return dict(self.post("/consents", {"account": account, "partner": partner, "purposes": purposes, "days": days}, key))

    def end_consent(self, number: str) -> dict[str, Any]:
        return dict(self.post(f"/consents/{number}/end", {}))

    def answer(self, complaint: str, text: str) -> dict[str, Any]:
        """Answer a complaint and close it; the consumer is told."""
        return dict(self.post(f"/complaints/{complaint}/answer", {"answer": text}))

    def inspected(self, meter: str, result: str, *, key: str = "", **more: Any) -> dict[str, Any]:
        """What a visit found: "theft", "fault", "innocent", "wrong_place", "no_access". more: day, who, note, at_random."""
        return dict(self.post("/inspections", {"meter": meter, "result": result, **more}, key))

    def subscribe(self, url: str, events: list[str], key: str = "") -> dict[str, Any]:
        """A webhook; its secret is in this answer alone."""
        return dict(self.post("/webhooks", {"url": url, "events": events}, key))

    def deliveries(self, webhook: str) -> Iterator[dict[str, Any]]:
        """What was told to it and what is to be, the latest first."""
        return self.each(f"/webhooks/{webhook}/deliveries")

    def deliver_again(self, webhook: str, event: str) -> None:
        self._ask("POST", f"/webhooks/{webhook}/deliveries/{event}/again", body={})

    def new_secret(self, webhook: str, key: str = "") -> str:
        """For a day what is told is signed with the one before as well."""
        return str(self.post(f"/webhooks/{webhook}/secret", {}, key)["secret"])

    def unsubscribe(self, webhook: str) -> None:
        self._ask("DELETE", f"/webhooks/{webhook}")

    def live(self, seconds: int = 60, last: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(event, id, data) as they happen; last: the id to go on from."""
        headers = self._headers() | ({"last-event-id": last} if last else {})
        asked, patience_s = {"seconds": seconds}, seconds + 30.0
        with self._http.stream("GET", f"{self._url}/api/v1/live", params=asked, headers=headers, timeout=patience_s) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            kind = number = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    number = value
                elif name == "data":
                    yield kind, number, json.loads(value)

    # ---- the ways underneath

    def get(self, path: str, **asked: Any) -> Any:
        return self._ask("GET", path, params=asked).json()

    def each(self, path: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, **(asked | {"limit": PAGE, "cursor": cursor}))
            yield from page["items"]
            if (cursor := page["next"]) is None:
                return

    def post(self, path: str, body: dict[str, Any], key: str = "") -> Any:
        return self._ask("POST", path, body=body, key=key or uuid.uuid4().hex).json()

    def _ask(
        self, method: str, path: str, *, params: dict[str, Any] | None = None, body: dict[str, Any] | None = None, key: str = ""
    ) -> httpx.Response:
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        for left in range(TRIES - 1, -1, -1):
            headers = self._headers() | ({"idempotency-key": key} if key else {})
            try:
                answer = self._http.request(method, f"{self._url}/api/v1{path}", params=given, json=body, headers=headers)
            except httpx.HTTPError as error:
                if left and (method == "GET" or key):
                    self._sleep(0.5 * 2 ** (TRIES - 1 - left))
                    continue
                raise StorageError(f"{self._url} does not answer ({type(error).__name__}); try again later") from error
            if answer.status_code in (429, 503) and left and (method == "GET" or key):
                self._sleep(min(LONGEST_WAIT_S, float(answer.headers.get("retry-after", "1"))))
                continue
            if not answer.is_success:
                raise _refusal(answer)
            return answer
        raise StorageError(f"{self._url} does not answer; try again later")

    def _headers(self) -> dict[str, str]:
        if time.time() > self._ends_s - RENEW_BEFORE_S:
            try:
                answer = self._http.post(f"{self._url}/oauth/token", data={"grant_type": "client_credentials"}, auth=self._program)
            except httpx.HTTPError as error:
                raise StorageError(f"{self._url} does not answer ({type(error).__name__}); try again later") from error
            if not answer.is_success:
                raise DataError(f"{self._url} gives the program {self._program[0]} no token; see that its name and secret are right")
            found = answer.json()
            self._token, self._ends_s = found["access_token"], time.time() + found["expires_in"]
        return {"authorization": f"Bearer {self._token}"}


def _refusal(answer: httpx.Response) -> Exception:
    """The server's refusal as one of our errors, with its own sentence."""
    try:
        said = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        said = f"the server answered {answer.status_code}"
    if answer.status_code == 401:
        return DataError(said)
    if answer.status_code in (404, 409, 412):
        return RequestError(said)
    return InputError(said) if answer.status_code < 500 else StorageError(said)
