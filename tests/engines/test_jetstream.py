"""The journal on a real NATS server: what is stored is read by everybody in the same order, once, and only what is proven kept is stored at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openami.bench.servers import NatsServers
from openami.errors import DataError, InputError, StorageError
from openami.store.jetstream import BATCH_BYTES, JetStreamJournal, Routes
from openami.store.journal import Journal, Refusal
from openami.store.nats_address import NatsAddress
from openami.store.nats_stream import NatsStream, Outgoing

from .conftest import Start
from .frames import SHARDS, frame, many, meters, title

Open = Callable[..., JetStreamJournal]


@pytest.fixture
def open_journal(nats_one: NatsServers, tmp_path: Path) -> Iterator[Open]:
    """Opens a journal on a stream of the test's own; the same stream again for the same test."""
    stream = f"t{uuid.uuid4().hex[:12]}"
    opened: list[JetStreamJournal] = []

    def open_one(memory: str = "headend", **more: Any) -> JetStreamJournal:
        address = NatsAddress.parse(nats_one.address(stream))
        more.setdefault("receive", "worker" not in more and "shards" not in more)
        opened.append(JetStreamJournal(address, tmp_path / memory / "derived.db", Routes(meters()), **more))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_every_frame_is_kept_once_in_batches_of_one_shard(open_journal: Open) -> None:
    journal = open_journal()
    frames = many(3000)
    stored = journal.store(frames, 77)
    batches = {batch.seq: batch for batch in journal.batches()}
    assert sorted(k for one in stored for k in one.frames) == list(range(3000))
    assert [one.seq for one in stored] == sorted(batches)
    for one in stored:
        batch = batches[one.seq]
        assert batch.frames == tuple(frames[k] for k in one.frames)
        assert batch.received_us == 77
        assert len(batch.packed) + 8 <= BATCH_BYTES
        assert len({int.from_bytes(octets[13:18], "big") % SHARDS for octets in batch.frames}) == 1
    assert journal.frames() == 3000


def test_frames_are_counted_on_from_where_the_folder_has_counted_to(open_journal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message's head is read once, whoever asks, and what one shard has is counted apart."""
    heads: list[int] = []
    read = NatsStream.read

    def watched(self: NatsStream, subjects: Any, after: int = 0, durable: str | None = None, headers_only: bool = False) -> Iterator[Any]:
        for message in read(self, subjects, after, durable, headers_only):
            heads.append(message.seq)
            yield message

    monkeypatch.setattr(NatsStream, "read", watched)
    journal = open_journal()
    journal.store(many(3000), 0)
    counts = [journal.frames(), open_journal(receive=False).frames()]
    journal.store(many(300, seed=1), 0)
    counts.append(open_journal(receive=False).frames())
    assert counts == [3000, 3000, 3300]
    assert len(heads) == len(set(heads))
    own = sum(len(batch) for batch in open_journal(shards=[0], memory="headend").batches())
    assert open_journal(shards=[0], memory="headend").frames() == own < 3300


def test_a_count_of_another_stream_is_not_believed(open_journal: Open, tmp_path: Path) -> None:
    journal = open_journal()
    journal.store(many(30), 0)
    assert journal.frames() == 30
    counted = tmp_path / "headend" / "counted.json"
    counted.write_text(counted.read_text().replace(", 30]", "000, 30000]"))
    assert journal.frames() == 30
    counted.write_text("{")
    assert journal.frames() == 30


def test_batches_are_filled(open_journal: Open) -> None:
    stored = open_journal().store(many(3000), 0)
    assert len(stored) == SHARDS * 2, "1,000 frames of 110 bytes a shard fit in two batches"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(
        st.lists(st.tuples(st.integers(0, 29), st.binary(max_size=40)) | st.binary(max_size=60), max_size=40), min_size=1, max_size=4
    )
)
def test_the_embedded_journal_holds_the_same_frames_of_each_meter_in_the_same_order(
    sent: list[list[tuple[int, bytes] | bytes]], nats_one: NatsServers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any octets may come; what is nobody's goes the same way."""
    address, folder = NatsAddress.parse(nats_one.address(f"t{uuid.uuid4().hex[:12]}")), tmp_path_factory.mktemp("both")
    replicated, embedded = (
        JetStreamJournal(address, folder / "derived.db", Routes(meters()), receive=True),
        Journal(folder / "j.db", create=True),
    )
    try:
        for each in sent:
            frames = [one if isinstance(one, bytes) else frame(*one) for one in each]
            replicated.store(frames, 5)
            embedded.store(frames, 5)
        assert _by_meter(replicated.batches()) == _by_meter(embedded.batches())
        assert replicated.frames() == embedded.frames()
    finally:
        replicated.close()
        embedded.close()


def _by_meter(batches: Any) -> dict[bytes, list[bytes]]:
    known = {title(k) for k in range(30)}
    found: dict[bytes, list[bytes]] = {}
    for batch in batches:
        for octets in batch.frames:
            own = octets[10:18] if octets[10:18] in known else b""
            found.setdefault(own, []).append(octets)
    return found


def test_a_title_whose_length_takes_two_bytes_leads_to_the_same_shard(open_journal: Open) -> None:
    journal = open_journal()
    plain = frame(4, b"12345678")
    apdu = b"\xdb\x81\x08" + plain[10:]
    odd = plain[:6] + len(apdu).to_bytes(2, "big") + apdu
    assert len(journal.store([plain, odd], 0)) == 1


def test_a_worker_reads_its_own_shards_and_what_is_nobodys(open_journal: Open) -> None:
    frames = [frame(k, b"x") for k in range(9)] + [b"rubbish", frame(999, b"unknown meter")]
    open_journal().store(frames, 0)
    worker = open_journal("w1", shards=[1], worker="w1")
    read = sorted(octets for batch in worker.batches() for octets in batch.frames)
    assert read == sorted([frames[1], frames[4], frames[7], frames[9], frames[10]])


def test_reading_goes_on_behind_a_position(open_journal: Open) -> None:
    journal = open_journal()
    first = journal.append(many(20, seed=1), 0)
    journal.store(many(20, seed=2), 0)
    assert sum(len(batch) for batch in journal.batches(after=first)) == 20
    assert list(journal.batches(after=journal.append([b"last"], 0))) == []


def test_one_batch_by_its_seq(open_journal: Open) -> None:
    journal = open_journal()
    stored = journal.store(many(50), 3)
    assert journal.batch(stored[1].seq).frames == tuple(many(50)[k] for k in stored[1].frames)
    with pytest.raises(DataError, match="has no message 999"):
        journal.batch(999)


def test_what_was_pulled_is_kept_beside_the_frames(open_journal: Open) -> None:
    journal = open_journal()
    journal.store(many(5), 0)
    seq = journal.pull("M0004", "1.0.99.1.0.255", 100, 200, b"rows", 9)
    journal.pull("nobody's", "1.0.99.2.0.255", -1, 2, b"", 10)
    first, second = journal.pulled()
    assert (first.seq, first.serial, first.profile, first.first_s, first.last_s, first.octets) == (
        seq,
        "M0004",
        "1.0.99.1.0.255",
        100,
        200,
        b"rows",
    )
    assert (second.serial, second.received_us, second.octets) == ("nobody's", 10, b"")
    assert journal.answered("1.0.99.1.0.255") == [("M0004", 100, 200)]
    journal.pull("M0005", "1.0.99.1.0.255", 300, 400, b"", 11)
    assert journal.answered("1.0.99.1.0.255") == [("M0004", 100, 200), ("M0005", 300, 400)]


def test_the_same_message_again_is_kept_once(nats_one: NatsServers) -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    stream = NatsStream(NatsAddress.parse(nats_one.address(name)), create=True)
    messages = [Outgoing(f"{name}.frames.0", f"same-{k}", bytes(10), {}) for k in range(5)]
    assert stream.publish(messages) == stream.publish(messages)
    assert stream.last_seq() == 5
    stream.close()


def test_several_headends_write_one_stream(open_journal: Open) -> None:
    first, second = open_journal("a"), open_journal("b")
    for seed in range(5):
        first.store(many(200, seed=2 * seed), 0)
        second.store(many(200, seed=2 * seed + 1), 0)
    read = [octets for batch in first.batches() for octets in batch.frames]
    assert sorted(read) == sorted(octets for seed in range(10) for octets in many(200, seed=seed))


def test_what_is_derived_is_remembered_locally(open_journal: Open) -> None:
    journal = open_journal("kept")
    seq = journal.append(many(5), 0)
    journal.settle(seq, [("M0001", 7)], [Refusal(seq, 0, "malformed", "why", None, 0, b"x")])
    journal.close()
    again = open_journal("kept")
    assert (again.settled(), again.counters(), again.causes()) == (seq, {"M0001": 7}, {"malformed": 1})


def test_a_headend_without_memory_begins_at_the_streams_end(open_journal: Open) -> None:
    seq = open_journal("first").append(many(500), 0)
    assert open_journal("second").settled() == seq


def test_a_later_worker_of_the_same_name_takes_over(open_journal: Open) -> None:
    headend = open_journal()
    for seed in range(120):
        headend.store(many(30, seed), 0)
    older, later = open_journal("a", shards=[0, 1, 2], worker="w"), open_journal("b", shards=[0, 1, 2], worker="w")
    reading = older.batches()
    next(reading)
    assert sum(len(batch) for batch in later.batches()) == 3600
    with pytest.raises(StorageError, match="another worker reads as w"):
        list(reading)


def test_the_servers_say_how_far_a_worker_is(open_journal: Open, nats_one: NatsServers) -> None:
    journal = open_journal()
    journal.store(many(3000), 0)
    worker = open_journal("w", shards=[0, 1, 2], worker="w7")
    done = [batch.seq for batch in worker.batches()]
    stream = journal._stream
    info = stream._run(stream._js.consumer_info(stream.address.stream, "w7"))
    assert (info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq) == (0, 0, max(done))


def test_a_server_that_syncs_later_is_refused(start_nats: Start, tmp_path: Path) -> None:
    servers = start_nats(1, "")
    with pytest.raises(InputError, match=r"acknowledges before it syncs.*sync_interval: always"):
        _open(servers.address("lazy"), tmp_path)
    _open(servers.address("lazy"), tmp_path, receive=False).close()


def test_a_server_whose_monitoring_is_closed_is_refused(nats_one: NatsServers, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be seen at http://127\.0\.0\.1:1/varz"):
        _open(f"nats://127.0.0.1:{nats_one.each[0].port}/t?monitor=http://127.0.0.1:1", tmp_path)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be reached .*start NATS"):
        JetStreamJournal(NatsAddress.parse("nats://127.0.0.1:1/x"), tmp_path / "derived.db", receive=True, patience_s=1)


def test_a_reader_makes_no_stream(nats_one: NatsServers, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no stream nothere"):
        _open(nats_one.address("nothere"), tmp_path, receive=False)


def test_a_full_stream_refuses_and_drops_nothing(start_nats: Start, tmp_path: Path) -> None:
    journal = _open(start_nats().address("full"), tmp_path)
    stream = journal._stream
    config = stream._run(stream._js.stream_info("full")).config
    config.max_bytes = 300_000
    stream._run(stream._js.update_stream(config))
    kept = many(1000)
    journal.store(kept, 0)
    with pytest.raises(StorageError, match=r"refuses .*maximum bytes exceeded"):
        journal.store(many(5000, seed=1), 0)
    read = [octets for batch in journal.batches() for octets in batch.frames]
    assert set(kept) <= set(read)
    journal.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka://h:9092/x", "not an address like nats://"),
        ("nats://user:secret@h/x", "passwords come from OPENAMI_NATS_USER"),
        ("nats://h/x?replicas=2", "replicas are 1, 3 or 5"),
        ("nats://h/a.b", "letters, digits"),
        ("nats://h/x?acks=0", "no setting 'acks'"),
        ("nats:///x", "not an address"),
    ],
)
def test_an_address_that_does_not_fit_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        NatsAddress.parse(text)


def test_an_address_in_short() -> None:
    one, three = NatsAddress.parse("nats://h"), NatsAddress.parse("tls://a,b:99,c/town")
    assert one == NatsAddress(("nats://h:4222",), "openami", 1, ("http://h:8222",))
    assert three == NatsAddress(
        ("tls://a:4222", "tls://b:99", "tls://c:4222"), "town", 3, ("http://a:8222", "http://b:8222", "http://c:8222")
    )


def _open(text: str, folder: Path, *, receive: bool = True) -> JetStreamJournal:
    return JetStreamJournal(NatsAddress.parse(text), folder / "derived.db", Routes(meters()), receive=receive)
