"""The API for Python programs: `openami.Client`.

    with openami.Client("https://ami.example.in", client_id="planning", client_secret=...) as ami:
        for meter in ami.meters(feeder="F1"):
            table = ami.readings(meter["serial"], first="2025-12-01", last="2025-12-31")

What always holds: lists go on page by page until they end; a request that makes something carries an idempotency key, so that it may be sent
again when no answer came; what the server refuses comes out as one of our errors, with its sentence and what else it said (`Refused`); tokens are
fetched anew before they end and are in no repr. Reads, and requests under a key, are tried again when the server is away or asks to wait; nothing
else is. It waits where it stands; there is no asynchronous one. One client is for one thread.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow as pa

from .errors import DataError, InputError, OpenAMIError, RequestError, StorageError

TRIES = 4
LONGEST_WAIT_S = 30.0
RENEW_BEFORE_S = 60
AWAY = (429, 502, 503, 504)
COME_BACK_S = 3.0
PAGE = 500
Day = date | str


class Refused(OpenAMIError):
    """What a server that answered said no with; each is one of the errors that `Client` names, too. status: of HTTP; problem: the document (RFC
    9457) with its `type`, `detail` and `errors`, {} where the answer was none."""

    def __init__(self, said: str, status: int, problem: dict[str, Any]) -> None:
        super().__init__(said)
        self.status, self.problem = status, problem


class RefusedInput(Refused, InputError):
    """400, 403, 413, 415, 422, 429: what was asked cannot be used, or not by you."""


class RefusedNow(Refused, RequestError):
    """404, 409, 412: it is not there, or not in the state for this."""


class NobodySignedIn(Refused, DataError):
    """401: the token is none, or is over."""


class ServerAway(Refused, StorageError):
    """5xx, after some tries."""


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
        if not url.startswith(("https://", "http://")):
            raise InputError(f"{url!r} is no address of a console; give one as https://ami.example.in")
        if not (token.isascii() and token.isprintable()):
            raise InputError("the token holds what no token does; give it without blanks or line ends around it")
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

    def usage_point(self, name: str) -> dict[str, Any]:
        return dict(self.get(_at("usage-points", name)))

    def meter(self, serial: str) -> dict[str, Any]:
        return dict(self.get(_at("meters", serial)))

    def readings(
        self, serial: str, channel: str = "import_wh", *, first: Day | None = None, last: Day | None = None, table: str = "validated"
    ) -> pa.Table:
        """end (UTC), value (null = none; its field's metadata names unit and scaler), quality (`openami.readings.Quality` bits)."""
        asked = {"from": first, "to": last, "channel": channel, "table": table, "format": "arrow"}
        answer = self._ask("GET", _at("meters", serial, "readings"), params=asked)
        return pa.ipc.open_stream(answer.content).read_all()

    def readings_of(
        self,
        channel: str = "import_wh",
        *,
        feeder: str | None = None,
        transformer: str | None = None,
        meters: Iterable[str] | None = None,
        first: Day | None = None,
        last: Day | None = None,
        table: str = "validated",
    ) -> pa.Table:
        """Of many meters, up to 31 days: meter, end, value, quality, by day, then as the meters lie in the store. None named = all within reach."""
        asked: dict[str, Any] = {"feeder": feeder, "transformer": transformer, "meters": None if meters is None else ",".join(meters)}
        asked |= {"from": first, "to": last, "channel": channel, "table": table, "format": "arrow"}
        return pa.ipc.open_stream(self._ask("GET", "/readings", params=asked).content).read_all()

    def quality(
        self, serial: str, channel: str = "import_wh", *, first: Day | None = None, last: Day | None = None
    ) -> list[dict[str, Any]]:
        return list(self.get(_at("meters", serial, "quality"), **{"from": first, "to": last, "channel": channel}))

    def events(self, serial: str = "") -> Iterator[dict[str, Any]]:
        """The latest first."""
        return self.each(_at("meters", serial, "events") if serial else "/events")

    def accounts(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: payment_mode."""
        return self.each("/accounts", **only)

    def account(self, number: str) -> dict[str, Any]:
        return dict(self.get(_at("accounts", number)))

    def statements(self, number: str, *, first: Day | None = None, last: Day | None = None) -> list[dict[str, Any]]:
        return list(self.get(_at("accounts", number, "statements"), **{"from": first, "to": last}))

    def explain(self, number: str, day: Day) -> dict[str, Any]:
        return dict(self.get(_at("accounts", number, "statements", str(day), "explanation")))

    def payments(self, number: str) -> Iterator[dict[str, Any]]:
        return self.each(_at("accounts", number, "payments"))

    def terms(self, number: str) -> Iterator[dict[str, Any]]:
        """What the account was told of its tariff and contract demand, the oldest first."""
        return self.each(_at("accounts", number, "terms"))

    def tariffs(self, day: Day) -> list[dict[str, Any]]:
        return list(self.get("/tariffs", day=day))

    def tariff(self, name: str) -> list[dict[str, Any]]:
        """Its versions, the oldest first."""
        return list(self.get(_at("tariffs", name)))

    def losses(self, day: Day | None = None, **only: Any) -> Iterator[dict[str, Any]]:
        """only: kind."""
        return self.each("/losses", day=day, **only)

    def losses_above(self, day: Day | None = None) -> Iterator[dict[str, Any]]:
        """Of substations, divisions and the company."""
        return self.each("/losses/areas", day=day)

    def losses_now(self, name: str | None = None, *, hours: bool = False) -> Iterator[dict[str, Any]]:
        """Of the day that is not closed yet, provisional; hours: by the hour."""
        return self.each("/losses/now", name=name, hours="true" if hours else None)

    def service_levels(self, day: Day | None = None) -> list[dict[str, Any]]:
        """What the provider is held to; with a closed day, also how that day's levels were met."""
        return list(self.get("/service-levels" if day is None else _at("service-levels", str(day))))

    def quarantine(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: cause."""
        return self.each("/quarantine", **only)

    def audit(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: who, subject, action."""
        return self.each("/audit", **only)

    def orders(self, **only: Any) -> Iterator[dict[str, Any]]:
        """only: meter, state."""
        return self.each("/orders", **only)

    def news(self, path: str, since: datetime | str, later: str = "", **only: Any) -> tuple[list[dict[str, Any]], str]:
        """What is new of "/events" or "/orders" since an instant with its offset, oldest first, and from where to go on: given back as `later`, it
        makes the next round begin where this one ended."""
        asked = only | {"since": since.isoformat() if isinstance(since, datetime) else since, "limit": PAGE}
        rows, onward = list[dict[str, Any]](), later or None
        while True:
            page = self.get(path, **(asked | {"cursor": onward}))
            rows += page["items"]
            later, onward = page["later"], page["next"]
            if onward is None:
                return rows, later

    def order(self, order_id: str) -> dict[str, Any]:
        return dict(self.get(_at("orders", order_id)))

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

    def webhook(self, number: str) -> dict[str, Any]:
        return dict(self.get(_at("webhooks", number)))

    # ---- what can be done; each takes a `key`: the same one again acts no second time

    def ask(self, what: str, meters: list[str], why: str, key: str = "") -> dict[str, Any]:
        """Orders to meters: "connect", "disconnect", "clock", "read"."""
        return dict(self.post("/orders", {"what": what, "meters": meters, "why": why}, key))

    def withdraw(self, order_id: str, why: str) -> dict[str, Any]:
        return dict(self.post(_at("orders", order_id, "withdraw"), {"why": why}))

    def consent(self, account: str, partner: str, purposes: list[str], days: int, key: str = "") -> dict[str, Any]:
        return dict(self.post("/consents", {"account": account, "partner": partner, "purposes": purposes, "days": days}, key))

    def end_consent(self, number: str) -> dict[str, Any]:
        return dict(self.post(_at("consents", number, "end"), {}))

    def answer(self, complaint: str, text: str) -> dict[str, Any]:
        """Answer a complaint and close it; the consumer is told."""
        return dict(self.post(_at("complaints", complaint, "answer"), {"answer": text}))

    def inspected(self, meter: str, result: str, *, key: str = "", **more: Any) -> dict[str, Any]:
        """What a visit found: "theft", "fault", "innocent", "wrong_place", "no_access". more: day, who, note, at_random."""
        return dict(self.post("/inspections", {"meter": meter, "result": result, **more}, key))

    def subscribe(self, url: str, events: list[str], key: str = "") -> dict[str, Any]:
        """A webhook; its secret is in this answer alone."""
        return dict(self.post("/webhooks", {"url": url, "events": events}, key))

    def deliveries(self, webhook: str) -> Iterator[dict[str, Any]]:
        """What was told to it and what is to be, the latest first."""
        return self.each(_at("webhooks", webhook, "deliveries"))

    def deliver_again(self, webhook: str, event: str) -> None:
        self._ask("POST", _at("webhooks", webhook, "deliveries", event, "again"), body={})

    def new_secret(self, webhook: str, key: str = "") -> str:
        """For a day what is told is signed with the one before as well."""
        return str(self.post(_at("webhooks", webhook, "secret"), {}, key)["secret"])

    def unsubscribe(self, webhook: str) -> None:
        self._ask("DELETE", _at("webhooks", webhook))

    def live(self, seconds: int = 60, last: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(event, id, data) as they happen, for so long; last: the id to go on from. A stream that breaks off, or ends with its token, is taken up
        again behind the last id: no step is lost, and none comes twice."""
        ends_s, broken = time.monotonic() + seconds, 0
        while True:
            left_s = max(0, round(ends_s - time.monotonic()))
            try:
                for kind, number, data in self._stream(left_s, last):
                    broken, last = 0, number
                    if data:
                        yield kind, last, json.loads(data)
            except httpx.HTTPError as error:
                if (broken := broken + 1) >= TRIES:
                    raise StorageError(
                        f"{self._url} does not go on ({type(error).__name__}); try again later, from {last or 'now'}"
                    ) from error
            if ends_s - time.monotonic() < 1:
                return
            self._sleep(COME_BACK_S)

    def _stream(self, seconds: int, last: str) -> Iterator[tuple[str, str, str]]:
        headers = self._headers() | ({"last-event-id": last} if last else {})
        asked, patience_s = {"seconds": seconds}, seconds + 30.0
        with self._http.stream("GET", f"{self._url}/api/v1/live", params=asked, headers=headers, timeout=patience_s) as answer:
            if not answer.is_success:
                answer.read()
                raise _refusal(answer)
            yield from _events(answer.iter_lines(), last)

    # ---- the ways underneath

    def get(self, path: str, **asked: Any) -> Any:
        """What a GET answers. path: as in docs/api.md, "/meters", with or without a query; asked: parameters, the ones that are None left out."""
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
        if self._http.is_closed:
            raise RequestError("this client is closed; make a new one")
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        address = httpx.URL(f"{self._url}/api/v1/{path.removeprefix('/')}").copy_merge_params(given)
        again = method == "GET" or bool(key)
        for left in range(TRIES - 1, -1, -1):
            headers = self._headers() | ({"idempotency-key": key} if key else {})
            try:
                answer = self._http.request(method, address, json=body, headers=headers)
            except httpx.HTTPError as error:
                if left and again:
                    self._sleep(0.5 * 2 ** (TRIES - 1 - left))
                    continue
                raise StorageError(f"{self._url} does not answer ({type(error).__name__}); try again later") from error
            if answer.is_success:
                return answer
            if answer.status_code == 401 and left == TRIES - 1 and self._program[0]:
                self._ends_s = 0.0  # ended before its time: a new one may be had
            elif answer.status_code in AWAY and left and again:
                self._sleep(_wait_s(answer))
            else:
                raise _refusal(answer)
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


def _at(*parts: str) -> str:
    """The path of something by its name, whatever letters that has."""
    return "".join("/" + quote(part, safe="") for part in parts)


def _events(lines: Iterable[str], last: str) -> Iterator[tuple[str, str, str]]:
    """(event, id, data) of each event of a stream, data "" where only the id went on. The id stays that of the event before where none is named."""
    kind, data = "message", list[str]()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "id":
            last = value
        elif name == "data":
            data.append(value)
        elif not line:
            yield kind, last, "\n".join(data)
            kind, data = "message", []


def _wait_s(answer: httpx.Response) -> float:
    """How long the server asks to wait: seconds, or a date (RFC 9110, 10.2.3); one second where it says nothing that can be read."""
    asked = answer.headers.get("retry-after", "1")
    try:
        wait_s = float(asked) if asked.isdigit() else (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        wait_s = 1.0
    return min(LONGEST_WAIT_S, max(0.0, wait_s))


def _refusal(answer: httpx.Response) -> Refused:
    """The server's refusal as one of our errors, with its own sentence."""
    try:
        problem = answer.json()
        said = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem, said = {}, f"the server answered {answer.status_code}"
    if answer.status_code == 401:
        return NobodySignedIn(said, 401, problem)
    if answer.status_code in (404, 409, 412):
        return RefusedNow(said, answer.status_code, problem)
    return (RefusedInput if answer.status_code < 500 else ServerAway)(said, answer.status_code, problem)
