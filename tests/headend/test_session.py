"""One conversation with one meter over real sockets: who is let in, what a refusal says, which counters are used, and that nothing hangs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from openami.cosem.acse import Mechanism
from openami.cosem.apdu import Item, Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.protection import Form
from openami.errors import InputError, MeterError
from openami.headend.sentences import blanked
from openami.headend.session import (
    COUNTERS_AT_ONCE,
    PUBLIC,
    READER,
    UTILITY,
    Credentials,
    Denied,
    KeptCounters,
    MeterAddress,
    Patience,
    SilentMeter,
    open_session,
)
from openami.registry import Meter
from openami.store.contacts import Contacts
from openami.store.rows import Rows
from served import FIRMWARE, SHORT, ServedMeter

SERIAL = Item(Ref(1, "0.0.96.1.0.255", 2))
RELAY_OFF = Ref(70, "0.0.96.3.10.255", 1)
HASTY = Patience(connect_s=2.0, answer_s=0.2)
TITLE = b"OAM\x00\x00TST"
SUITES = [Mechanism.HLS, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256]


@pytest.fixture(scope="module", params=[False, True], ids=["wrapper", "hdlc"])
def meter(request):
    with ServedMeter(hdlc=request.param, days=1, months=0) as served:
        yield served


@pytest.fixture
def book(tmp_path: Path):
    rows = Rows(tmp_path / "registry.db", create=True)
    rows.add_registry([], [], [Meter("XMA0000007", b"XMA\0\0\0\0\7", "XMA", "XMA-1P", 0, 0, 0x20, 1)], [], [], [])
    yield Contacts(rows)
    rows.close()


def ask(address, credentials, item=SERIAL, **how):
    async def work():
        async with await open_session(address, credentials, how.pop("patience", SHORT), **how) as session:
            return (await session.get(item)).value

    return asyncio.run(work())


@pytest.mark.parametrize("form", [Form.GLO, Form.GENERAL_GLO])
@pytest.mark.parametrize("client", [PUBLIC, READER, UTILITY, FIRMWARE])
def test_every_client_in_both_forms(meter, client, form):
    assert ask(meter.address, meter.credentials(client, form)) == b"XMA0000007"


@pytest.mark.parametrize("hls", SUITES)
def test_every_mechanism_of_high_level_security(hls):
    with ServedMeter(hls=hls, days=1, months=0) as meter:
        assert ask(meter.address, meter.credentials(UTILITY)) == b"XMA0000007"


WRONG = Keys(b"\x01" * 16, b"\x02" * 16)


@pytest.mark.parametrize(
    ("client", "changes", "words"),
    [
        (READER, {"secret": b"00000000"}, "refuses client 32 in association: authentication failed .wrong password or secret"),
        (UTILITY, {"secret": b"0" * 16}, "refuses client 48 in authentication: the secret is another one"),
        (READER, {"keys": WRONG}, "a wrong encryption key or a used invocation counter"),
        (UTILITY, {"keys": WRONG}, "the encryption or authentication key is another one"),
        (UTILITY, {"mechanism": Mechanism.LLS}, "refuses client 48 in association: authentication mechanism"),
        (UTILITY, {"keys": None}, "refuses client 48 in association"),
        (17, {"keys": None, "mechanism": Mechanism.NONE}, "refuses client 17"),
    ],
)
def test_a_refusal_names_the_client_and_the_step_but_no_secret(meter, client, changes, words):
    credentials = replace(
        meter.credentials(client if client != 17 else UTILITY), client=client, counter=5 if client == 17 else None, **changes
    )
    with pytest.raises(Denied, match=words) as refused:
        ask(meter.address, credentials)
    assert credentials.secret.decode("latin-1") not in str(refused.value) or not credentials.secret
    assert credentials.secret.hex() not in str(refused.value) or not credentials.secret


def test_a_client_without_rights_is_told_what_it_may_not_do(meter):
    async def work():
        async with await open_session(meter.address, meter.credentials(READER), SHORT) as session:
            await session.action(RELAY_OFF, Data(Tag.INTEGER, 0))

    with pytest.raises(Denied, match=r"0\.0\.96\.3\.10\.255 \(class 70, 1\) for client 32: read write denied"):
        asyncio.run(work())


def test_a_closed_port_and_a_name_that_is_none():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SilentMeter, match=rf"cannot connect to tcp://127\.0\.0\.1:{port}"):
        ask(MeterAddress("127.0.0.1", port), Credentials())
    with pytest.raises(SilentMeter, match="cannot connect to"):
        ask(MeterAddress("no-such-meter.invalid", 4059), Credentials())


@pytest.mark.parametrize("url", ["", "127.0.0.1:4059", "http://a:1", "tcp://a", "tcp://a:99999", "tcp://a:x", "tcp://[::1:5"])
def test_a_wrong_address_says_how_to_write_one(url):
    with pytest.raises(InputError, match="write tcp://HOST:PORT"):
        MeterAddress.parse(url)


@asynccontextmanager
async def peer(behave):
    async def connected(reader, writer):
        try:
            await behave(reader, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield MeterAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def says_nothing(reader, writer):
    await reader.read()


async def hangs_up(reader, writer):
    await reader.read(10)


async def talks_garbage(reader, writer):
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    await writer.drain()
    await reader.read()


async def dribbles(reader, writer):
    """A frame that never ends, a byte at a time."""
    writer.write(b"\x00\x01\x00\x01\x00\x10\xff\xff")
    while not reader.at_eof():
        writer.write(b"\x00")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("behave", "kind", "words"),
    [
        (says_nothing, SilentMeter, "no answer from .* within 0.2 s while opening the {link}"),
        (hangs_up, SilentMeter, "closed the connection while opening the {link}"),
        (talks_garbage, MeterError, "breaks the protocol while opening the {link}|no answer from"),
        (dribbles, SilentMeter, "no answer from .* while opening the {link}"),
    ],
)
@pytest.mark.parametrize("hdlc", [False, True])
def test_a_peer_that_is_no_meter_ends_with_the_step_named(behave, kind, words, hdlc):
    async def work():
        async with peer(behave) as address:
            await open_session(MeterAddress(address.host, address.port, hdlc), Credentials(), HASTY)

    with pytest.raises(kind, match=words.format(link="HDLC link" if hdlc else "association")):
        asyncio.run(work())


def test_a_meter_that_falls_silent_in_the_middle_names_what_was_asked(meter):
    async def work():
        async with await open_session(meter.address, meter.credentials(UTILITY), HASTY) as session:
            session._wire._writer.transport.pause_reading()
            session._wire._reader._transport.pause_reading()
            await session.get(SERIAL)

    with pytest.raises(SilentMeter, match=r"no answer from .* within 0.2 s while reading 0\.0\.96\.1\.0\.255"):
        asyncio.run(work())


def test_a_trace_shows_the_bytes_without_the_password(meter):
    shown: list[str] = []
    ask(meter.address, meter.credentials(READER), trace=lambda direction, octets: shown.append(octets))
    everything = " ".join(shown)
    assert "**" in everything
    assert meter.identity.password.hex(" ") not in everything
    assert meter.identity.keys.ek.hex(" ") not in everything


def test_a_secret_is_blanked_where_a_frame_ends_inside_it():
    assert blanked(b"ab123", b"12345678") == "61 62 ** ** **"
    assert blanked(b"78ab", b"12345678") == "** ** 61 62"
    assert blanked(b"ab", b"") == "61 62"


def test_counters_go_on_over_restarts_and_are_never_used_twice(meter, book):
    kept = KeptCounters(book, "XMA0000007")
    own = meter.credentials(UTILITY, own_title=TITLE)
    ask(meter.address, own, kept=kept)
    after_one = book.next_counter("XMA0000007", TITLE)
    assert after_one == meter.device.counter(UTILITY) + 1
    before = len(meter.told)
    ask(meter.address, own, kept=kept)
    assert book.next_counter("XMA0000007", TITLE) == meter.device.counter(UTILITY) + 1
    assert all(getattr(event, "client", UTILITY) == UTILITY for event in meter.told[before:]), "the meter was asked for the counter again"


def test_a_conversation_that_was_killed_leaves_its_counters_unused(meter, book):
    kept = KeptCounters(book, "XMA0000007")
    own = meter.credentials(UTILITY, own_title=TITLE)

    async def killed():
        session = await open_session(meter.address, own, SHORT, kept=kept)
        first = session.counter
        session._wire._writer.close()
        return first

    first = asyncio.run(killed())
    assert book.next_counter("XMA0000007", TITLE) >= first + COUNTERS_AT_ONCE - 16
    assert ask(meter.address, own, kept=kept) == b"XMA0000007"


def test_clients_of_one_key_share_its_counters(meter, book):
    kept = KeptCounters(book, "XMA0000007")
    for client in (READER, UTILITY, READER):
        before = book.next_counter("XMA0000007", TITLE) or 0
        ask(meter.address, meter.credentials(client, own_title=TITLE), kept=kept)
        assert meter.device.counter(client) >= before
    assert book.next_counter("XMA0000007", TITLE) > max(meter.device.counter(READER), meter.device.counter(UTILITY))


def test_a_meter_that_has_seen_higher_counters_is_asked_and_tried_once_more(meter, book):
    kept = KeptCounters(book, "XMA0000007")
    ask(meter.address, meter.credentials(UTILITY), item=SERIAL)
    book.reserve_counters("XMA0000007", TITLE, 1, 0)
    security = meter.device.setups[UTILITY].security
    security.last_client_counter += 5_000
    assert ask(meter.address, meter.credentials(UTILITY, own_title=TITLE), kept=kept) == b"XMA0000007"
    assert book.next_counter("XMA0000007", TITLE) == security.last_client_counter + 1


def test_a_counter_that_jumps_too_far_is_not_believed(meter, book):
    security = meter.device.setups[UTILITY].security
    held = security.last_client_counter
    book.reserve_counters("XMA0000007", TITLE, 1, 0)
    security.last_client_counter = 0xF0000000
    try:
        with pytest.raises(MeterError, match="that jump is not believed"):
            ask(meter.address, meter.credentials(UTILITY, own_title=TITLE), kept=KeptCounters(book, "XMA0000007"))
    finally:
        security.last_client_counter = held
    assert book.next_counter("XMA0000007", TITLE) < 0xF0000000


def test_a_replayed_counter_is_refused(meter):
    ask(meter.address, meter.credentials(UTILITY))
    with pytest.raises(Denied, match="it has seen higher invocation counters than ours"):
        ask(meter.address, meter.credentials(UTILITY, counter=meter.device.counter(UTILITY)))
    assert "replay" in meter.violations
