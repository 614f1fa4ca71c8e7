"""The listener on real sockets: every frame is journalled, however it is cut; nothing is confirmed before the journal holds it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from openami.cosem.wrapper import WrapperReader
from openami.errors import DataError, OpenAMIError, StorageError
from openami.headend import listener as module
from openami.headend.listener import PushListener
from openami.store.journal import Journal

from .meters import AUTHENTICATED, ENCRYPTED, METERS, OTHER, admission, notify, push, sealed, simulated

GUARD_S = 30
"""Only to end a test that hangs; no result depends on it."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.db", create=True)
    yield opened
    opened.close()


class Gated(Journal):
    """A journal whose `append` waits at a gate, and may be told to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, create=True)
        self.entered, self.gate = threading.Event(), threading.Event()
        self.failure: OpenAMIError | None = None

    def append(self, frames: Sequence[bytes], received_us: int) -> int:
        self.entered.set()
        assert self.gate.wait(GUARD_S)
        if self.failure:
            raise self.failure
        return super().append(frames, received_us)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    opened = Gated(tmp_path / "gated.db")
    yield opened
    opened.gate.set()
    opened.close()


class Peer:
    """A meter's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = WrapperReader()

    def send(self, *octets: bytes) -> None:
        self.writer.write(b"".join(octets))

    async def answers(self, count: int) -> list[bytes]:
        """The APDUs of so many frames from the head-end, fewer if it closes or aborts before."""
        found: list[bytes] = []
        with suppress(ConnectionError):
            while len(found) < count and (chunk := await self.reader.read(4096)):
                found += [f.apdu for f in self._frames.feed(chunk)]
        return found


@asynccontextmanager
async def listening(journal: Journal, counters: dict[str, int] | None = None, **start: Any) -> AsyncIterator[tuple[PushListener, int]]:
    listener = PushListener(journal, admission(counters))
    port = await listener.start("127.0.0.1", 0, **start)
    try:
        yield listener, port
    finally:
        if isinstance(journal, Gated):
            journal.gate.set()
        await listener.stop()


async def dial(port: int) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", port))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await scenario()

    asyncio.run(guarded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def stored(journal: Journal) -> list[bytes]:
    return [frame for batch in journal.batches() for frame in batch.frames]


# Framing


def test_several_frames_in_one_segment_are_all_confirmed(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            frames = [push(AUTHENTICATED, 1), push(ENCRYPTED, 2), push(AUTHENTICATED, 3)]
            peer.send(*frames)
            answers = await peer.answers(3)
        assert [
            simulated(m).confirms(a, k) for m, a, k in zip((AUTHENTICATED, ENCRYPTED, AUTHENTICATED), answers, (1, 2, 3), strict=True)
        ] == [True] * 3
        assert stored(journal) == frames

    run(scenario)


def test_a_frame_that_comes_byte_by_byte_is_one_frame(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            frame = push(AUTHENTICATED, 1)
            for k in range(len(frame)):
                peer.send(frame[k : k + 1])
                await peer.writer.drain()
                await asyncio.sleep(0)
            assert len(await peer.answers(1)) == 1
        assert stored(journal) == [frame]

    run(scenario)


@pytest.mark.parametrize("garbage", [b"\xff" * 50, b"\x00", b"\x00\x01\x00\x01\x00\x40\xff\xff" + b"x" * 20, b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_between_frames_is_kept_and_costs_no_neighbour(journal: Journal, garbage: bytes) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            first, second = push(AUTHENTICATED, 1), push(AUTHENTICATED, 2)
            peer.send(first, garbage, second)
            assert len(await peer.answers(2)) == 2
        refused = journal.quarantine()
        assert {r.cause for r in refused} == {"malformed"}
        assert b"".join(r.octets for r in refused) == garbage
        assert [f for f in stored(journal) if f in (first, second)] == [first, second]

    run(scenario)


def test_a_frame_that_was_begun_and_never_finished_is_kept(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 1)[:20])
            peer.writer.write_eof()
            assert await peer.answers(1) == []
        assert [(r.cause, r.octets) for r in journal.quarantine()] == [("malformed", push(AUTHENTICATED, 1)[:20])]

    run(scenario)


def test_a_half_closed_peer_gets_its_confirmations_then_the_end(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            peer.send(*(push(AUTHENTICATED, k) for k in range(5)))
            peer.writer.write_eof()
            assert len(await peer.answers(6)) == 5
            assert len(stored(journal)) == 5

    run(scenario)


def test_a_peer_that_hangs_up_at_once_loses_nothing(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (listener, port):
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 1), push(AUTHENTICATED, 2))
            await peer.writer.drain()
            peer.writer.close()
            await until(lambda: listener.tally.frames == 2)
        assert len(stored(journal)) == 2

    run(scenario)


def test_every_refusal_is_counted_and_kept_with_its_bytes(journal: Journal) -> None:
    frames = [
        push(AUTHENTICATED, 5),
        push(AUTHENTICATED, 5),
        sealed(ENCRYPTED, notify(), title=b"STRANGER"),
        b"\x00\x01\x00\x01\x00\x40\x00\x03abc",
    ]

    async def scenario() -> None:
        async with listening(journal) as (listener, port):
            peer = await dial(port)
            peer.send(*frames)
            peer.writer.write_eof()
            await peer.answers(9)
            assert listener.tally.refused == {"replayed_counter": 1, "unknown_meter": 1, "malformed": 1}
        assert [(r.cause, r.octets) for r in journal.quarantine()] == [
            ("replayed_counter", frames[1]),
            ("unknown_meter", frames[2]),
            ("malformed", frames[3]),
        ]

    run(scenario)


def test_a_datagram_is_one_frame(journal: Journal) -> None:
    async def scenario() -> None:
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        class Sender(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                answers.put_nowait(data)

        async with listening(journal, udp=True) as (_, port):
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Sender, remote_addr=("127.0.0.1", port))
            transport.sendto(push(AUTHENTICATED, 1))
            (frame,) = WrapperReader().feed(await answers.get())
            assert simulated(AUTHENTICATED).confirms(frame.apdu, 1)
            assert stored(journal) == [push(AUTHENTICATED, 1)]
            transport.close()

    run(scenario)


# Journal first


def test_nothing_is_confirmed_while_the_journal_is_still_writing(gated: Gated) -> None:
    async def scenario() -> None:
        async with listening(gated) as (listener, port):
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 1))
            await until(gated.entered.is_set)
            answer = asyncio.create_task(peer.answers(1))
            for _ in range(100):
                await asyncio.sleep(0)
            assert (listener.tally.confirmed, answer.done()) == (0, False)
            gated.gate.set()
            assert simulated(AUTHENTICATED).confirms((await answer)[0], 1)

    run(scenario)


def test_what_gathers_during_a_sync_is_one_batch(gated: Gated) -> None:
    async def scenario() -> None:
        async with listening(gated) as (_, port):
            peers = [await dial(port) for _ in range(3)]
            peers[0].send(push(METERS[0], 1))
            await until(gated.entered.is_set)
            peers[1].send(push(METERS[1], 1))
            peers[2].send(push(METERS[2], 1))
            gated.gate.set()
            for peer in peers:
                assert len(await peer.answers(1)) == 1
        assert sum(len(b.frames) for b in gated.batches()) == 3

    run(scenario)


@pytest.mark.parametrize("failure", [StorageError("the disk is full"), DataError("the journal is corrupt")])
def test_a_journal_that_fails_stops_the_listener_and_confirms_nothing(gated: Gated, failure: OpenAMIError) -> None:
    async def scenario() -> None:
        gated.failure = failure
        listener = PushListener(gated, admission())
        port = await listener.start("127.0.0.1", 0)
        peer = await dial(port)
        peer.send(push(AUTHENTICATED, 1))
        gated.gate.set()
        assert await peer.answers(1) == []
        await listener.finished()
        assert listener.failed is failure
        with pytest.raises(ConnectionRefusedError):
            await dial(port)
        await listener.stop()
        assert stored(gated) == []

    run(scenario)


# Catching up


def test_batches_that_a_killed_predecessor_left_unjudged_are_judged_first(journal: Journal) -> None:
    journal.append([push(AUTHENTICATED, 7), b"rubbish"], 1)
    journal.settle(1, [(AUTHENTICATED.serial, 7)], [])
    journal.append([push(AUTHENTICATED, 8), push(AUTHENTICATED, 7), push(OTHER, 1)], 2)

    async def scenario() -> None:
        async with listening(journal, journal.counters()) as (_, port):
            assert journal.settled() == 2
            assert journal.counters() == {AUTHENTICATED.serial: 8, OTHER.serial: 1}
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 7), push(AUTHENTICATED, 9))
            assert simulated(AUTHENTICATED).confirms((await peer.answers(1))[0], 9)
        assert [(r.seq, r.position, r.cause) for r in journal.quarantine()] == [(2, 1, "replayed_counter"), (3, 0, "replayed_counter")]

    run(scenario)


def test_stopping_remembers_how_far_frames_are_judged(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 1))
            await peer.answers(1)
        assert journal.settled() == max(b.seq for b in journal.batches())
        assert journal.counters() == {AUTHENTICATED.serial: 1}

    run(scenario)


# Flow control


@pytest.mark.parametrize(("frames", "octets"), [(5, 10**9), (10**9, 700)])
def test_a_full_inbox_stops_reading_and_an_emptied_one_resumes(
    gated: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, frames: int, octets: int
) -> None:
    monkeypatch.setattr(module, "INBOX_FRAMES", frames)
    monkeypatch.setattr(module, "INBOX_BYTES", octets)

    async def scenario() -> None:
        async with listening(gated) as (listener, port):
            peer = await dial(port)
            peer.send(push(AUTHENTICATED, 1))
            await until(gated.entered.is_set)
            peer.send(*(push(AUTHENTICATED, k) for k in range(2, 30)))
            await until(lambda: listener.crowded)
            late = await dial(port)
            await until(lambda: len(listener._connections) == 2)
            assert [c.transport.is_reading() for c in listener._connections] == [False, False]
            gated.gate.set()
            late.send(push(OTHER, 1))
            assert len(await peer.answers(29)) == 29
            assert len(await late.answers(1)) == 1
        assert len(stored(gated)) == 30

    run(scenario)
    said = [record.getMessage() for record in caplog.records if "wait for the journal" in record.getMessage()]
    assert len(said) == 1, "once a minute, however often the inbox fills"
    assert "senders are slowed until it has them, none is lost" in said[0]


def test_what_was_confirmed_until_the_stop_is_stored(journal: Journal) -> None:
    async def scenario() -> None:
        listener = PushListener(journal, admission())
        port = await listener.start("127.0.0.1", 0)
        peers = [await dial(port) for _ in METERS]
        confirmed: set[tuple[str, int]] = set()

        async def pushing(peer: Peer, meter: Any) -> None:
            device = simulated(meter, 0)
            for counter in range(100_000):
                peer.send(device.push(0, 900, {}))
                answers = await peer.answers(1)
                if not answers:
                    return
                assert device.confirms(answers[0], counter)
                confirmed.add((meter.serial, counter))

        work = [asyncio.create_task(pushing(p, m)) for p, m in zip(peers, METERS, strict=True)]
        await until(lambda: len(confirmed) > 30)
        await listener.stop()
        await asyncio.gather(*work)
        again = admission()
        held = [again.judge(f) for f in stored(journal)]
        assert confirmed <= {(v.serial, v.notification.long_invoke_id) for v in held if v.notification}

    run(scenario)


def test_a_steady_drip_does_not_keep_the_headend_from_stopping(tmp_path: Path) -> None:
    """The disk is so slow that whenever a batch is written the next one has gathered: only not reading any more brings the end."""

    class Slow(Journal):
        listener: PushListener

        def append(self, frames: Sequence[bytes], received_us: int) -> int:
            while not self.listener._inbox and not self.listener._stopping:
                time.sleep(0)
            at_most = time.monotonic() + 0.2
            while not self.listener._inbox and time.monotonic() < at_most:
                time.sleep(0)
            return super().append(frames, received_us)

    async def scenario() -> None:
        journal = Slow(tmp_path / "journal.db", create=True)
        journal.listener = listener = PushListener(journal, admission())
        port = await listener.start("127.0.0.1", 0)
        peer = await dial(port)

        counter = itertools.count(1)

        async def dripping() -> None:
            while not peer.writer.is_closing():
                if not listener._inbox:
                    peer.send(sealed(AUTHENTICATED, notify(), next(counter)))
                await asyncio.sleep(0)

        work = asyncio.create_task(dripping())
        await until(lambda: listener.tally.batches > 1)
        try:
            await listener.stop()
        finally:
            work.cancel()
        assert listener.tally.frames == journal.frames()
        journal.close()

    run(scenario)


# A frame that comes again


def test_the_last_frame_again_gets_the_same_confirmation_and_is_stored_once(journal: Journal) -> None:
    async def scenario() -> None:
        async with listening(journal) as (listener, port):
            peer = await dial(port)
            frame = push(AUTHENTICATED, 5)
            peer.send(frame)
            (first,) = await peer.answers(1)
            peer.send(frame)
            (second,) = await peer.answers(1)
            assert first == second
            assert (listener.tally.frames, listener.tally.again) == (1, 1)
        assert stored(journal) == [frame]
        assert journal.quarantine() == []

    run(scenario)


@pytest.mark.parametrize("meter", [ENCRYPTED, AUTHENTICATED])
def test_another_frame_with_the_last_counter_is_a_replay(journal: Journal, meter: Any) -> None:
    """Also where only one bit differs: nothing but the very same bytes is confirmed again."""

    async def scenario() -> None:
        async with listening(journal) as (listener, port):
            peer = await dial(port)
            frame = push(meter, 5)
            peer.send(frame)
            await peer.answers(1)
            peer.send(sealed(meter, notify(77), 5), push(meter, 6))
            (answer,) = await peer.answers(1)
            assert simulated(meter).confirms(answer, 6)
            assert (dict(listener.tally.refused), listener.tally.again) == ({"replayed_counter": 1}, 0)

    run(scenario)


def test_after_a_restart_the_last_frame_is_known_again(journal: Journal) -> None:
    frame = push(AUTHENTICATED, 5)

    async def scenario() -> None:
        async with listening(journal) as (_, port):
            peer = await dial(port)
            peer.send(frame)
            (first,) = await peer.answers(1)
        async with listening(journal, journal.counters()) as (listener, port):
            peer = await dial(port)
            peer.send(frame)
            assert await peer.answers(1) == [first]
            assert listener.tally.frames == 0

    run(scenario)
