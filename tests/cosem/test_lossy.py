"""Both sides over a pipe that loses, damages, doubles, delays and cuts: what is answered is right, and in time everything is answered.

HDLC must bring each request through by itself (the standard's own recovery); over the datagram wrapper a shell gives up and asks again,
and no answer may ever be taken for another request's.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from peers import ALL, BLOCK_LOAD, DAY_START, NOW, device, pair, pump, setup

from openami.cosem.acse import DEFAULT_CONFORMANCE, Conformance
from openami.cosem.apdu import AccessResult, Item, Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.client import Answer, ServiceRefused, State
from openami.cosem.profile import by_range
from openami.errors import MeterError

NAME = Item(Ref(1, "0.0.42.0.0.255", 2))
TEXT = Item(Ref(1, "0.0.96.1.0.255", 2))


def rows_of(first, last):
    return Item(Ref(7, BLOCK_LOAD, 2), by_range(DAY_START + 1800 * first, DAY_START + 1800 * last))


class Lossy(RuleBasedStateMachine):
    """One request at a time; `expected` says what a right answer to it looks like."""

    kind = "hdlc"

    @initialize(policy=st.sampled_from([0, 0x30]), pdu=st.sampled_from([160, 400, 0xFFFF]), window=st.integers(1, 7), general=st.booleans())
    def connect(self, policy, pdu, window, general):
        self.meter = device(setup(policy=policy, conformance=ALL))
        offer = (60, 90, window, window)
        fields = {"conformance": ALL & ~Conformance.BLOCK_GET if general else DEFAULT_CONFORMANCE, "max_pdu": pdu, "general_window": window}
        self.client, self.server = pair(self.kind, policy=policy, meter=self.meter, offer=offer, settings=fields)
        self.client.open()
        pump(self.client, self.server)
        assert self.client.state is State.READY
        self.up, self.down, self.expected = [], [], None

    def ready(self):
        return self.client.state is State.READY

    @precondition(ready)
    @rule(first=st.integers(1, 48), count=st.integers(0, 30))
    def ask_rows(self, first, count):
        last = min(48, first + count)
        self.client.get(rows_of(first, last))
        self.expected = [100 + k for k in range(first - 1, last)]

    @precondition(ready)
    @rule(length=st.integers(0, 500))
    def write(self, length):
        value = Data(Tag.OCTET_STRING, bytes(k & 0xFF for k in range(length)))
        self.client.set((TEXT, value))
        self.expected = value

    def collect(self):
        self.up += self.client.take_out()
        self.down += self.server.take_out()

    def carried(self, frames, fate, at, bit):
        """Takes one frame off the wire and gives what arrives of it."""
        frame = frames.pop(0)
        if fate == "lost":
            return []
        if fate == "doubled":
            return [frame, frame]
        if fate == "damaged":
            out = bytearray(frame)
            out[at % len(out)] ^= 1 << bit
            return [bytes(out)]
        cut = at % len(frame)
        return [frame[:cut], frame[cut:]] if cut else [frame]

    fates = st.sampled_from(["whole", "whole", "whole", "lost", "damaged", "doubled"])

    @rule(fate=fates, at=st.integers(0, 5000), bit=st.integers(0, 7))
    def carry_up(self, fate, at, bit):
        self.collect()
        if self.up:
            for piece in self.carried(self.up, fate, at, bit):
                self.server.feed(piece, NOW)

    @rule(fate=fates, at=st.integers(0, 5000), bit=st.integers(0, 7))
    def carry_down(self, fate, at, bit):
        self.collect()
        if self.down:
            for piece in self.carried(self.down, fate, at, bit):
                self.answered(piece)

    def answered(self, piece):
        try:
            events = self.client.feed(piece)
        except MeterError:
            return
        for event in events:
            self.check(event)

    def check(self, event):
        assert isinstance(event, Answer), event
        if isinstance(self.expected, Data):
            assert event.results == (AccessResult.SUCCESS,)
            assert self.meter.objects[1, TEXT.ref.obis].attributes[2] == self.expected
        else:
            assert [row.value[3].value for row in event.results[0].value] == self.expected
        self.expected = None

    @invariant()
    def a_request_is_out_exactly_while_one_is_expected(self):
        if hasattr(self, "client"):
            assert (self.client.state is State.WAITING) == (self.expected is not None)

    def teardown(self):
        """On a good wire at last, whatever is out is answered."""
        if not hasattr(self, "client"):
            return
        for _ in range(200):
            self.collect()
            while self.up or self.down:
                if self.up:
                    self.server.feed(self.up.pop(0), NOW)
                if self.down:
                    self.answered(self.down.pop(0))
                self.collect()
            if self.expected is None:
                break
            self.client.timed_out()
        assert self.expected is None


class LossyHdlc(Lossy):
    @precondition(lambda self: self.client.state is State.WAITING and not self.up and not self.down)
    @rule()
    def time_out(self):
        self.collect()
        if not self.up and not self.down:
            self.client.timed_out()


class LossyDatagrams(Lossy):
    """UDP: frames arrive in any order; damage is caught by UDP's checksum, so it means loss."""

    kind = "wrapper"

    def carried(self, frames, fate, at, bit):
        return [frames.pop(at % len(frames))] * {"whole": 1, "lost": 0, "damaged": 0, "doubled": 2}[fate]

    @precondition(lambda self: self.client.state is State.WAITING)
    @rule()
    def give_up(self):
        self.client.give_up()
        self.expected = None

    def check(self, event):
        """Out of order a transfer may break off; it never answers with other data."""
        broken = isinstance(event, ServiceRefused) or (isinstance(event.results[0], AccessResult) and event.results[0] != 0)
        if broken:
            self.expected = None
        elif isinstance(self.expected, Data):
            # A write that was given up may arrive behind this one and win: only counters (a ciphered association) rule that out.
            assert event.results == (AccessResult.SUCCESS,)
            self.expected = None
        else:
            super().check(event)

    def teardown(self):
        return


limits = settings(max_examples=25, stateful_step_count=50, deadline=None)
TestLossyHdlc = LossyHdlc.TestCase
TestLossyHdlc.settings = limits
TestLossyDatagrams = LossyDatagrams.TestCase
TestLossyDatagrams.settings = limits
