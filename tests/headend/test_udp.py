"""Conversations over UDP: a served meter, a network that loses and repeats datagrams, and peers that are none."""

import asyncio
import socket

import numpy as np
import pytest

from openami.cosem.acse import Mechanism
from openami.cosem.apdu import Item, Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.links import MAX_DATAGRAM_APDU_BYTES, WrapperLink
from openami.cosem.server import Ended, Served, ServerSession, Violation
from openami.errors import InputError
from openami.fleet.device import build_device, new_identity
from openami.fleet.serve_udp import PEERS_MAX, serve_datagrams
from openami.headend.reader import Profile, parse_object, read_object
from openami.headend.session import DATAGRAM_PDU_BYTES, UTILITY, Credentials, Denied, MeterAddress, Patience, SilentMeter, open_session
from served import NOON_S

NAME = Item(Ref(1, "0.0.42.0.0.255", 2))
RELAY_OFF = Ref(70, "0.0.96.3.10.255", 1)
PATIENT, HASTY = Patience(answer_s=60.0), Patience(answer_s=0.6)


@pytest.fixture(scope="module")
def identity():
    return new_identity("XMA0000007", np.random.default_rng(7), Mechanism.HLS)


@pytest.fixture
def device(identity):
    return build_device(identity, NOON_S, days=3, months=1)


def utility(identity, **more):
    return Credentials(UTILITY, identity.hls, identity.hls_secret, identity.keys, **more)


def talk(device, work, **how):
    """Serves `device` over UDP and runs work(address, events, server)."""

    async def run():
        events = []
        async with await serve_datagrams(device, clock=lambda: NOON_S, told=events.append, **how) as server:
            return await work(MeterAddress("127.0.0.1", server.port, udp=True), events, server)

    return asyncio.run(run())


class Network(asyncio.DatagramProtocol):
    """Stands between client and meter. lose, repeat: numbers of the datagrams of either way (from 0) that are lost, or come twice."""

    def __init__(self, meter, lose=(), repeat=()):
        self.meter, self.lose, self.repeat, self.count, self.client = meter, lose, repeat, 0, None

    def connection_made(self, transport):
        self.transport = transport

    @property
    def address(self):
        return MeterAddress(*self.transport.get_extra_info("sockname"), udp=True)

    def datagram_received(self, data, addr):
        number, self.count = self.count, self.count + 1
        to = self.meter
        if addr == self.meter:
            to = self.client
        else:
            self.client = addr
        for _ in range(0 if number in self.lose else 2 if number in self.repeat else 1):
            self.transport.sendto(data, to)


async def network(meter, **how):
    loop = asyncio.get_running_loop()
    return (await loop.create_datagram_endpoint(lambda: Network((meter.host, meter.port), **how), local_addr=("127.0.0.1", 0)))[1]


def test_a_profile_comes_in_blocks_that_fit_a_packet(device, identity):
    async def work(address, events, server):
        sizes = []
        async with await open_session(
            address, utility(identity), PATIENT, lambda way, octets: sizes.append(len(octets.split()))
        ) as session:
            return await read_object(session, parse_object("block_load")), sizes

    found, sizes = talk(device, work)
    assert isinstance(found, Profile)
    assert len(found.rows) > 140
    assert max(sizes) <= DATAGRAM_PDU_BYTES + 8


@pytest.mark.parametrize("lost", [0, 1], ids=["the question", "the answer"])
def test_a_read_whose_datagram_was_lost_is_asked_again(device, identity, lost, monkeypatch):
    monkeypatch.setattr("openami.headend.session.RETRIES", 119)  # twice a second, for a minute

    async def work(address, events, server):
        between = await network(address)
        async with await open_session(between.address, utility(identity, counter=9), PATIENT) as session:
            between.lose, before = (between.count + lost,), session.round_trips
            return (await session.get(NAME)).value, session.round_trips - before

    value, asked = talk(device, work)
    assert value == b"XMA0000007"
    assert asked >= 2


def test_an_order_whose_answer_was_lost_is_not_sent_twice(device, identity):
    async def work(address, events, server):
        between = await network(address)
        session = await open_session(between.address, utility(identity, counter=9), PATIENT)
        between.lose, before = range(between.count + 1, between.count + 9), between.count
        session._patience = HASTY
        with pytest.raises(SilentMeter, match=r"no answer from udp://.* while invoking 0\.0\.96\.3\.10\.255"):
            await session.action(RELAY_OFF, Data(Tag.INTEGER, 0))
        async with asyncio.timeout(60.0):
            while device.relay.stands(NOON_S) != 0:
                await asyncio.sleep(0.01)
        return between.count - before, [event for event in events if isinstance(event, Served)]

    count, served = talk(device, work)
    assert count <= 2
    assert [event.refs for event in served] == [(RELAY_OFF,)]


def test_a_datagram_that_comes_twice_is_refused_as_a_replay_and_changes_nothing(device, identity):
    async def work(address, events, server):
        between = await network(address)
        async with await open_session(between.address, utility(identity, counter=9), PATIENT) as session:
            between.repeat = (between.count,)
            values = [(await session.get(NAME)).value]
            between.repeat = ()
            values.append((await session.get(NAME)).value)
        return values, [event.cause for event in events if isinstance(event, Violation)]

    assert talk(device, work) == ([b"XMA0000007"] * 2, ["replay"])


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1", b"\0\1\0\x30\0\1\0\x20\xc0", b"\0"], ids=["text", "cut short", "one byte"])
def test_a_datagram_that_is_no_whole_frame_costs_only_itself(device, identity, octets):
    async def work(address, events, server):
        server.datagram_received(octets, ("127.0.0.1", 9))
        server.datagram_received(octets, ("127.0.0.1", 9))
        async with await open_session(address, utility(identity, counter=9), PATIENT) as session:
            return (await session.get(NAME)).value, [event.cause for event in events if isinstance(event, Violation)]

    assert talk(device, work) == (b"XMA0000007", ["malformed"] * 2)


def test_a_peer_that_was_silent_for_too_long_has_lost_its_association(device):
    async def work(address, events, server):
        session = await open_session(address, Credentials(), PATIENT)
        with pytest.raises(Denied, match="answers with an exception while reading"):
            await session.get(NAME)
        return [type(event) for event in events if isinstance(event, Ended)]

    assert talk(device, work, idle_s=-1.0) == [Ended]


def test_strangers_do_not_fill_the_memory(device):
    async def work(address, events, server):
        for port in range(1, PEERS_MAX + 50):
            server.datagram_received(b"\0\1\0\x10\0\1\0\1\xc0", ("127.0.0.1", port))
        return len(server._sessions)

    assert talk(device, work) == PEERS_MAX


def test_a_meter_in_the_dark_answers_nobody(device, identity):
    async def work(address, events, server):
        server.go_dark()
        with pytest.raises(SilentMeter, match=r"within 0\.6 s while opening the association"):
            await open_session(address, utility(identity, counter=9), HASTY)
        server.go_light()
        async with await open_session(address, utility(identity, counter=99), PATIENT) as session:
            return (await session.get(NAME)).value

    assert talk(device, work) == b"XMA0000007"


def test_nobody_there_is_said_at_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SilentMeter, match=rf"udp://127\.0\.0\.1:{port} broke the connection|no answer from udp"):
        asyncio.run(open_session(MeterAddress("127.0.0.1", port, udp=True), Credentials(), PATIENT))


def test_hdlc_does_not_go_over_udp():
    with pytest.raises(InputError, match="HDLC goes over tcp://"):
        MeterAddress.parse("udp://192.0.2.7:4059", hdlc=True)


def test_an_answer_is_never_longer_than_a_datagram(device):
    """A client that takes any length gets what UDP can carry."""
    session = ServerSession(device, WrapperLink(1, 0, datagrams=True), lambda: bytes(16))
    session.feed(bytes.fromhex("000100100001001f601da109060760857405080101be10040e01000000065f1f0400005e1fffff"), NOON_S)
    assert session.take_out()
    assert session.peer_pdu == MAX_DATAGRAM_APDU_BYTES
