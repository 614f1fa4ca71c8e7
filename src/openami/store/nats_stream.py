"""One NATS JetStream stream, for callers without asyncio: publish and wait until it is kept, read from a position on.

What always holds:
- `publish` returns only for messages that the servers keep through a crash, and that is proven before the first one: the stream has three or more
  replicas, or every server says in its monitoring that it syncs before it acknowledges. JetStream by itself acknowledges first and syncs every
  two minutes;
- the same message published again after a lost acknowledgement is kept once (`Nats-Msg-Id`, remembered for `DUPLICATES_S`);
- `read` gives messages in the stream's order without gaps, however often connection and consumer are lost in between;
- the stream drops nothing by itself: where it is full it refuses, and neither a message nor a subject can be deleted from it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import httpx

from ..errors import DataError, InputError, OpenAMIError, StorageError
from .nats_address import AUTHORITY, PASSWORD, USER, NatsAddress

log = logging.getLogger("openami.journal")
T = TypeVar("T")

DUPLICATES_S = 120.0
PATIENCE_S = 90.0
"""How long a write waits for servers that do not answer; less than `DUPLICATES_S`, so that a retry is always recognised."""
ACK_S = 5.0
CONNECT_S = 10.0
IN_FLIGHT = 256
"""Messages that may wait for their acknowledgement: what bounds memory, here and in the servers."""
FETCH = 128
UNACKED = 4 * FETCH
ACK_WAIT_S = 120.0
FULL = {10077, 10054, 10110}
"""JetStream's error numbers that no waiting mends: stream full, message too large, stream sealed."""


class Outgoing(NamedTuple):
    """A message to publish; `ident` names it for ever: the same ident is the same message."""

    subject: str
    ident: str
    payload: bytes
    headers: dict[str, str]


class Incoming(NamedTuple):
    seq: int
    subject: str
    payload: bytes
    headers: dict[str, str]


class NatsStream:
    """The stream of one address. Its connection lives on a thread of its own and comes back by itself when the servers do."""

    def __init__(self, address: NatsAddress, *, create: bool = False, patience_s: float = PATIENCE_S) -> None:
        """create: make the stream where it is not there, and prove that what is published is kept. StorageError where no server answers;
        InputError where the proof fails, or nobody has made the stream."""
        try:
            import nats.errors
            from nats.aio.client import Client
            from nats.js import api, errors
        except ImportError:
            raise InputError(
                "a journal at nats:// needs the package nats-py; install openami[nats], or leave `journal` out of openami.toml"
            ) from None
        self._client, self._nats, self._api, self._errors = Client, nats.errors, api, errors
        self.address, self._patience_s = address, patience_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        self._nc: Any = None
        self._window = asyncio.Semaphore(IN_FLIGHT)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tries = 0
        try:
            self._run(self._open(create))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._loop.is_closed():
            return
        if self._nc is not None:
            self._run(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, messages: Sequence[Outgoing]) -> list[int]:
        """Publish, wait until all are kept, give each one's seq. Waits for servers that are away; StorageError when patience has run out or
        they refuse: then some of the messages may be kept, and publishing them again is harmless."""
        return self._run(self._publish(messages))

    def last_seq(self) -> int:
        """The seq of the newest message; 0 = none."""
        return self._run(self._last())

    def get(self, seq: int) -> bytes:
        """One message's payload; DataError where the stream has no such seq."""
        return self._run(self._get(seq))

    def read(self, subjects: Sequence[str], after: int = 0, durable: str | None = None, headers_only: bool = False) -> Iterator[Incoming]:
        """Messages of `subjects` with seq > `after`, in order, up to the newest. The next are fetched while the caller works.

        durable: the name under which the servers remember this reader and count what it has not read yet; each message is acknowledged when
        the caller comes back for the next. Whoever opens the same name later takes it over, and this one ends with StorageError.
        """
        reader = _Reader(self, list(subjects), after, durable, headers_only)
        coming = self._later(reader.fetch())
        all_taken = False
        try:
            while messages := coming.result():
                coming = self._later(reader.fetch())
                yield from messages
            all_taken = True
        finally:
            coming.cancel()
            if not self._loop.is_closed():
                self._run(reader.end(all_taken))

    def _later(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        result: T = self._later(work).result()
        return result

    async def _open(self, create: bool) -> None:
        self._nc = self._client()
        nc: Any = self._nc
        tls = ssl.create_default_context(cafile=os.environ.get(AUTHORITY)) if self.address.servers[0].startswith("tls:") else None
        try:
            async with asyncio.timeout(min(CONNECT_S, self._patience_s)):
                await nc.connect(
                    list(self.address.servers),
                    error_cb=_nothing,
                    reconnected_cb=self._reconnected,
                    name="openami",
                    tls=tls,
                    user=os.environ.get(USER),
                    password=os.environ.get(PASSWORD),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    pending_size=2 * IN_FLIGHT * 65_536,
                )
        except (TimeoutError, OSError, self._nats.Error) as error:
            why = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise StorageError(f"journal {self.address} cannot be reached ({why}); start NATS, or mend `journal` in openami.toml") from None
        self._js = nc.jetstream(timeout=ACK_S)
        self._inbox = nc.new_inbox()
        await nc.subscribe(f"{self._inbox}.*", cb=self._answered)
        config = await self._stream_config(create)
        if create and config.num_replicas < 3:
            await self._prove_sync()

    async def _reconnected(self) -> None:
        log.info("the journal %s is reached by way of %s now", self.address, self._nc.connected_url.netloc)

    async def _leave(self) -> None:
        """Close the connection, and end what the client has left running where it had lost it."""
        try:
            await self._nc.close()
        except (self._nats.Error, OSError) as error:
            log.debug("nats: the connection was lost before it was closed (%s)", error)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _stream_config(self, create: bool) -> Any:
        """The stream's settings as the servers have them; made where it is not there yet."""
        name, api = self.address.stream, self._api
        wanted = api.StreamConfig(
            name=name,
            subjects=[f"{name}.>"],
            storage=api.StorageType.FILE,
            num_replicas=self.address.replicas,
            discard=api.DiscardPolicy.NEW,
            duplicate_window=DUPLICATES_S,
            deny_delete=True,
            deny_purge=True,
        )
        begun = time.monotonic()
        while True:
            try:
                return (await self._js.stream_info(name)).config
            except self._errors.NotFoundError:
                if not create:
                    raise InputError(f"there is no stream {name} at {self.address}; start the head-end once, it makes it") from None
            except (self._errors.Error, self._nats.Error, TimeoutError) as error:
                await self._be_patient(begun, error, CONNECT_S)
            try:
                return (await self._js.add_stream(wanted)).config
            except (self._errors.Error, self._nats.Error, TimeoutError) as error:
                await self._be_patient(begun, error, CONNECT_S)

    async def _prove_sync(self) -> None:
        """InputError unless every server that is named syncs before it acknowledges."""
        for monitor in self.address.monitors:
            try:
                async with httpx.AsyncClient(timeout=ACK_S, trust_env=False) as client:
                    said = (await client.get(f"{monitor}/varz")).json()
                proven = said["jetstream"]["config"].get("sync_always") is True
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                raise InputError(
                    f"whether the servers of {self.address} sync before they acknowledge cannot be seen at {monitor}/varz; open their monitoring "
                    "(http: 8222), name it with ?monitor=http://host:port, or have three replicas"
                ) from None
            if not proven:
                raise InputError(
                    f"the server at {monitor} acknowledges before it syncs, so a confirmed reading could be lost; set `sync_interval: always` "
                    "in its jetstream section, or have three replicas"
                )

    async def _get(self, seq: int) -> bytes:
        begun = time.monotonic()
        while True:
            try:
                return (await self._js.get_msg(self.address.stream, seq)).data or b""
            except self._errors.NotFoundError:
                raise DataError(f"journal {self.address} has no message {seq}; restore it from a backup") from None
            except (self._errors.Error, self._nats.Error, TimeoutError) as error:
                await self._be_patient(begun, error, self._patience_s)

    async def _last(self) -> int:
        begun = time.monotonic()
        while True:
            try:
                return int((await self._js.stream_info(self.address.stream)).state.last_seq)
            except (self._errors.Error, self._nats.Error, TimeoutError) as error:
                await self._be_patient(begun, error, self._patience_s)

    async def _publish(self, messages: Sequence[Outgoing]) -> list[int]:
        found = [0] * len(messages)
        left = list(range(len(messages)))
        begun, waiting = time.monotonic(), False
        while True:
            left, error = await self._publish_once(messages, left, found)
            if not left:
                break
            if not waiting:
                log.warning("the journal %s does not answer (%s); nothing is confirmed until it does", self.address, _word(error))
                waiting = True
            await self._be_patient(begun, error, self._patience_s)
        if waiting:
            log.warning("the journal %s answers again after %.0f s", self.address, time.monotonic() - begun)
        return found

    async def _publish_once(
        self, messages: Sequence[Outgoing], left: list[int], found: list[int]
    ) -> tuple[list[int], BaseException | None]:
        """One try for the messages `left`, at most `IN_FLIGHT` of them on the way; gives those that are still left and why."""
        tries: dict[int, asyncio.Future[dict[str, Any]]] = {}
        last: BaseException | None = None
        try:
            for k in left:
                tries[k] = await self._send(messages[k])
        except (self._nats.Error, TimeoutError) as error:
            last = error
        if tries:
            await asyncio.wait(tries.values(), timeout=ACK_S)
        for k, answer in tries.items():
            if not answer.done():
                answer.cancel()
                last = last or TimeoutError()
            elif refused := answer.result().get("error"):
                last = _Refused(refused)
            else:
                found[k] = int(answer.result()["seq"])
        return [k for k in left if not found[k]], last

    async def _send(self, message: Outgoing) -> asyncio.Future[dict[str, Any]]:
        """Send one message; the future is the servers' answer to it. The client's own way of doing this never tells of a refusal."""
        if self._window.locked():
            async with asyncio.timeout(ACK_S):
                await self._window.acquire()
        else:
            await self._window.acquire()
        self._tries += 1
        mark = str(self._tries)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()

        def ended(_: object) -> None:
            del self._waiting[mark]
            self._window.release()

        self._waiting[mark] = answer
        answer.add_done_callback(ended)
        try:
            headers = {"Nats-Msg-Id": message.ident, **message.headers}
            await self._nc.publish(message.subject, message.payload, reply=f"{self._inbox}.{mark}", headers=headers)
        except BaseException:
            answer.cancel()
            raise
        return answer

    async def _answered(self, message: Any) -> None:
        answer = self._waiting.get(message.subject[len(self._inbox) + 1 :])
        if answer is None or answer.done():
            return
        if message.headers and message.headers.get("Status"):
            answer.set_result({"error": {"code": 503, "description": "no server holds the stream"}})
        else:
            answer.set_result(json.loads(message.data))

    async def _be_patient(self, begun: float, error: BaseException | None, patience_s: float) -> None:
        """Wait a little before the next try; StorageError where none can help, or patience has run out."""
        code = getattr(error, "err_code", None)
        if code in FULL or isinstance(error, self._nats.MaxPayloadError):
            raise StorageError(f"journal {self.address} refuses ({_word(error)}); give the stream or its disks more room") from None
        if time.monotonic() - begun > patience_s:
            raise StorageError(
                f"journal {self.address} has not answered for {patience_s:.0f} s ({_word(error)}); start its servers again, a quorum of them at least"
            ) from None
        await asyncio.sleep(0.2)


class _Reader:
    """A pull consumer that is made again behind the last message whenever anything is not as it should be."""

    def __init__(self, stream: NatsStream, subjects: list[str], after: int, durable: str | None, headers_only: bool) -> None:
        self._stream, self._subjects, self._after, self._headers_only = stream, subjects, after, headers_only
        self._durable, self._owner, self._owned = durable, uuid.uuid4().hex, False
        self._pull: Any = None
        self._ended = False
        self._taken: list[Any] = []
        self._given: list[Any] = []

    async def fetch(self) -> list[Incoming]:
        """The next messages; none = the newest has been given. Asked for ahead of the caller: what was given last is still in work."""
        s, begun = self._stream, time.monotonic()
        await self._acknowledge()
        self._taken, self._given = self._given, []
        while not self._ended:
            try:
                if self._pull is None and not await self._begin():
                    return []
                messages = await self._pull.fetch(FETCH, timeout=ACK_S)
            except OpenAMIError:
                raise
            except (s._errors.Error, s._nats.Error, TimeoutError) as error:
                self._pull = None
                await s._be_patient(begun, error, s._patience_s)
                continue
            if found := self._in_order(messages):
                return found
        return []

    async def end(self, all_taken: bool) -> None:
        """Leave nothing of a reader without a name behind. all_taken: the caller has worked on all that was given."""
        s = self._stream
        if self._pull is None:
            return
        try:
            if all_taken:
                await self._acknowledge()
            await self._pull.unsubscribe()
            if self._durable is None:
                await s._js.delete_consumer(s.address.stream, self._name)
            else:
                await s._nc.flush(int(ACK_S))
        except (s._errors.Error, s._nats.Error, TimeoutError) as error:
            log.debug("the reader %s was not ended (%s); the servers forget it by themselves", self._name, _word(error))

    def _in_order(self, messages: list[Any]) -> list[Incoming]:
        """What of `messages` follows without a gap; behind a gap the consumer is made again."""
        found = []
        for message in messages:
            about = message.metadata
            if about.sequence.consumer != self._consumed + 1:
                self._pull = None
                break
            self._consumed += 1
            self._after = about.sequence.stream
            self._ended = about.num_pending == 0
            self._given.append(message)
            found.append(Incoming(self._after, message.subject, message.data, message.headers or {}))
        return found

    async def _acknowledge(self) -> None:
        if self._durable is not None:
            for message in self._taken:
                await message.ack()

    async def _begin(self) -> bool:
        """Make the consumer behind `after` and bind to it; False = there is nothing to read."""
        s = self._stream
        api, name, js = s._api, s.address.stream, s._js
        durable = self._durable is not None
        self._name = self._durable or f"reader-{uuid.uuid4().hex}"
        if durable:
            await self._take_over()
        info = await js.add_consumer(
            name,
            api.ConsumerConfig(
                name=self._name,
                durable_name=self._durable,
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._after + 1,
                ack_policy=api.AckPolicy.EXPLICIT if durable else api.AckPolicy.NONE,
                ack_wait=ACK_WAIT_S if durable else None,
                max_ack_pending=UNACKED if durable else None,
                inactive_threshold=None if durable else 60.0,
                filter_subjects=self._subjects,
                headers_only=self._headers_only,
                mem_storage=not durable,
                num_replicas=None if durable else 1,
                metadata={"owner": self._owner},
            ),
        )
        self._consumed = 0
        self._ended = info.num_pending == 0
        if self._ended:
            return False
        self._pull = await js.pull_subscribe_bind(consumer=self._name, stream=name)
        return True

    async def _take_over(self) -> None:
        """Clear away what a reader of this name has left. StorageError where one has taken it over from us."""
        s = self._stream
        try:
            info = await s._js.consumer_info(s.address.stream, self._name)
        except s._errors.NotFoundError:
            self._owned = True
            return
        if self._owned and (info.config.metadata or {}).get("owner") != self._owner:
            raise StorageError(f"another worker reads as {self._name} from {s.address} now; this one stops")
        self._owned = True
        await s._js.delete_consumer(s.address.stream, self._name)


class _Refused(Exception):
    """The servers' answer to a message that they do not keep."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(said.get("description", "no reason given"))
        self.err_code = said.get("err_code")


def _word(error: BaseException | None) -> str:
    """An error of the servers or the client in few words."""
    said = getattr(error, "description", None) or str(error or "") or type(error).__name__
    return "no answer" if isinstance(error, TimeoutError) else str(said).removeprefix("nats: ")


async def _nothing(error: Exception) -> None:
    """The client's own log of lost connections: whoever waits for an answer says it once, in a sentence."""
    log.debug("nats: %s", json.dumps(str(error)))
