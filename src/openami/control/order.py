"""The life of one order to a meter, as a state table: relay, load limit, clock, calendar, keys, firmware image. No clock and no meter here,
only events that somebody saw.

What always holds:
- an order whose answer was lost is `unknown`: it is neither sent again nor given up, it is resolved by reading the meter;
- what stands as asked already is not sent at all;
- a pair (state, event) that is not in the table is refused, never ignored;
- a disconnection is sent only on a guard's decision that allows it and has not expired (some minutes, and never past the legal hours);
  later the guard is asked again, with the facts as they are then;
- done means that the relay was read back as asked for (control_state and output_state agree), never just a successful ACTION;
- of a reconnection the consumer is told how the supply comes back: at once, after the meter's own delay, or at the button.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import RequestError
from .guard import Decision


class What(StrEnum):
    DISCONNECT = "disconnect"
    CONNECT = "connect"
    LOAD_LIMIT = "load_limit"
    CLOCK = "clock"
    CALENDAR = "calendar"
    KEYS = "keys"
    IMAGE = "image"
    READ = "read"


RELAY = frozenset({What.DISCONNECT, What.CONNECT})


class State(StrEnum):
    REQUESTED = "requested"  # somebody, or the prepaid run, wants it
    ALLOWED = "allowed"  # the guard has agreed (only a disconnection needs one)
    SENT = "sent"  # on its way to the meter; written down before it leaves
    UNKNOWN = "unknown"  # no answer came, or we were restarted: the meter may have done it or not, and must be read
    ACCEPTED = "accepted"  # the meter answered with success
    TRANSFERRED = "transferred"  # image: every block is in the meter
    VERIFIED = "verified"  # image: the meter has checked it, and it is the one that was ordered
    ACTIVATING = "activating"  # image: the activation is on its way
    READY = "ready"  # reconnection: the meter waits for its own delay or for the button
    CONFIRMED = "confirmed"  # it was read back as asked for
    SUPPLIED = "supplied"  # reconnection: voltage was seen behind the relay
    REFUSED = "refused"  # the guard said no
    CANCELLED = "cancelled"  # paid, disputed or withdrawn before it was done
    FAILED = "failed"  # given up, with its cause


class Event(StrEnum):
    ALLOW = "allow"
    REFUSE = "refuse"
    SEND = "send"
    ACTION_OK = "action_ok"
    ACTION_FAILED = "action_failed"
    NO_ANSWER = "no_answer"
    READ_AS_ASKED = "read_as_asked"
    READ_READY = "read_ready"
    READ_OTHERWISE = "read_otherwise"
    READ_PART = "read_part"
    READ_WHOLE = "read_whole"
    READ_VERIFIED = "read_verified"
    ACTIVATE = "activate"
    VOLTAGE_SEEN = "voltage_seen"
    WITHDRAW = "withdraw"
    GIVE_UP = "give_up"


END = frozenset({State.REFUSED, State.CANCELLED, State.FAILED, State.SUPPLIED})

_ALL: dict[tuple[State, Event], State] = {
    (State.REQUESTED, Event.ALLOW): State.ALLOWED,
    (State.REQUESTED, Event.WITHDRAW): State.CANCELLED,
    (State.ALLOWED, Event.READ_AS_ASKED): State.CONFIRMED,  # it stands so already: nothing is sent
    (State.ALLOWED, Event.SEND): State.SENT,
    (State.ALLOWED, Event.WITHDRAW): State.CANCELLED,
    (State.ALLOWED, Event.GIVE_UP): State.FAILED,
    (State.SENT, Event.ACTION_OK): State.ACCEPTED,
    (State.SENT, Event.ACTION_FAILED): State.ALLOWED,
    (State.SENT, Event.NO_ANSWER): State.UNKNOWN,
    (State.UNKNOWN, Event.READ_AS_ASKED): State.CONFIRMED,  # the answer was lost, it was done all the same
    (State.UNKNOWN, Event.READ_OTHERWISE): State.ALLOWED,
    (State.ACCEPTED, Event.READ_AS_ASKED): State.CONFIRMED,
    (State.ACCEPTED, Event.READ_OTHERWISE): State.ALLOWED,
    (State.ACCEPTED, Event.GIVE_UP): State.FAILED,
}
_IMAGE: dict[tuple[State, Event], State] = {
    (State.ALLOWED, Event.READ_WHOLE): State.TRANSFERRED,
    (State.ALLOWED, Event.READ_VERIFIED): State.VERIFIED,
    (State.SENT, Event.ACTION_OK): State.TRANSFERRED,
    (State.UNKNOWN, Event.READ_PART): State.ALLOWED,  # goes on with the first block that is missing
    (State.UNKNOWN, Event.READ_WHOLE): State.TRANSFERRED,
    (State.UNKNOWN, Event.READ_VERIFIED): State.VERIFIED,
    (State.UNKNOWN, Event.GIVE_UP): State.FAILED,  # the meter says itself that the image is bad
    (State.TRANSFERRED, Event.READ_VERIFIED): State.VERIFIED,
    (State.TRANSFERRED, Event.READ_AS_ASKED): State.CONFIRMED,
    (State.TRANSFERRED, Event.READ_PART): State.ALLOWED,
    (State.TRANSFERRED, Event.READ_OTHERWISE): State.ALLOWED,
    (State.TRANSFERRED, Event.WITHDRAW): State.CANCELLED,
    (State.TRANSFERRED, Event.GIVE_UP): State.FAILED,
    (State.VERIFIED, Event.ACTIVATE): State.ACTIVATING,
    (State.VERIFIED, Event.READ_AS_ASKED): State.CONFIRMED,
    (State.VERIFIED, Event.READ_OTHERWISE): State.ALLOWED,  # somebody has put another image in its place
    (State.VERIFIED, Event.WITHDRAW): State.CANCELLED,
    (State.VERIFIED, Event.GIVE_UP): State.FAILED,
    (State.ACTIVATING, Event.ACTION_OK): State.ACCEPTED,
    (State.ACTIVATING, Event.ACTION_FAILED): State.VERIFIED,
    (State.ACTIVATING, Event.NO_ANSWER): State.UNKNOWN,
    (State.ACCEPTED, Event.READ_VERIFIED): State.VERIFIED,
}
TABLE: dict[What, dict[tuple[State, Event], State]] = {
    What.DISCONNECT: _ALL
    | {
        (State.REQUESTED, Event.REFUSE): State.REFUSED,
        (State.ALLOWED, Event.REFUSE): State.REFUSED,  # asked again just before sending
    },
    What.CONNECT: _ALL
    | {
        (State.ALLOWED, Event.READ_READY): State.READY,  # a meter in "ready" refuses the order; it needs none
        (State.UNKNOWN, Event.READ_READY): State.READY,
        (State.ACCEPTED, Event.READ_READY): State.READY,
        (State.READY, Event.READ_READY): State.READY,
        (State.READY, Event.READ_AS_ASKED): State.CONFIRMED,
        (State.READY, Event.READ_OTHERWISE): State.ALLOWED,
        (State.READY, Event.GIVE_UP): State.FAILED,
        (State.UNKNOWN, Event.VOLTAGE_SEEN): State.SUPPLIED,
        (State.ACCEPTED, Event.VOLTAGE_SEEN): State.SUPPLIED,  # seen before the relay was read
        (State.READY, Event.VOLTAGE_SEEN): State.SUPPLIED,
        (State.CONFIRMED, Event.VOLTAGE_SEEN): State.SUPPLIED,
        (State.CONFIRMED, Event.GIVE_UP): State.FAILED,
    },
    What.LOAD_LIMIT: _ALL,
    What.CLOCK: _ALL,
    What.CALENDAR: _ALL,
    What.KEYS: _ALL,
    What.IMAGE: _ALL | _IMAGE,
    What.READ: {  # nothing is sent: the answer is the note of its last step
        key: _ALL[key]
        for key in (
            (State.REQUESTED, Event.ALLOW),
            (State.REQUESTED, Event.WITHDRAW),
            (State.ALLOWED, Event.READ_AS_ASKED),
            (State.ALLOWED, Event.WITHDRAW),
            (State.ALLOWED, Event.GIVE_UP),
        )
    },
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to an order: UTC seconds, the event, the state after it, and a cause or reference in words."""

    at_s: int
    event: Event
    state: State
    note: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order and all that has happened to it. `decision`: the guard's last answer, kept with its reasons; `decided_s`: when.

    wish: what exactly is asked for, as JSON (a load limit, an image's name); who, why: the person or process that ordered it, and the reason.
    account: "" where the order concerns the meter alone."""

    order_id: str
    what: What
    account: str
    meter: str
    requested_s: int
    state: State = State.REQUESTED
    decision: Decision | None = None
    decided_s: int = 0
    steps: tuple[Step, ...] = ()
    wish: str = "{}"
    who: str = ""
    why: str = ""

    @property
    def done(self) -> bool:
        """Nothing more can happen: it was read back as asked for (a reconnection: voltage was seen), or it ended otherwise."""
        return self.state in END or (self.what is not What.CONNECT and self.state is State.CONFIRMED)

    @property
    def on_its_way(self) -> bool:
        """Something was sent and no answer is known: after a restart its outcome is unknown."""
        return self.state in (State.SENT, State.ACTIVATING)

    @property
    def sent_before(self) -> bool:
        """Something of it has left for the meter at some time."""
        return any(step.event is Event.SEND for step in self.steps)


def advance(order: Order, event: Event, now_s: int, note: str = "") -> Order:
    """The order after `event`. ALLOW and REFUSE of a disconnection come through `decided`; SEND of one needs a fresh decision that allows it.

    Raises RequestError for an event that the table does not have in this state, or that comes before the last one.
    """
    after = TABLE[order.what].get((order.state, event))
    if after is None:
        known = ", ".join(possible(order)) or "none"
        raise RequestError(f"order {order.order_id} ({order.what}) is {order.state}: {event} is not possible there; possible are {known}")
    if now_s < (order.steps[-1].at_s if order.steps else order.requested_s):
        raise RequestError(
            f"order {order.order_id}: {event} at {now_s} is before its last step; give events in the order in which they were seen"
        )
    if (
        order.what is What.DISCONNECT
        and event is Event.ALLOW
        and (order.decision is None or not order.decision.allowed or order.decided_s != now_s)
    ):
        raise RequestError(f"order {order.order_id}: a disconnection is allowed by the guard alone; use `decided` with its decision")
    if order.what is What.DISCONNECT and event is Event.SEND and not _fresh(order, now_s):
        raise RequestError(f"order {order.order_id}: the guard's decision is not at hand or has expired; ask it again before sending")
    return replace(order, state=after, steps=(*order.steps, Step(now_s, event, after, note)))


def decided(order: Order, decision: Decision, now_s: int) -> Order:
    """A disconnection after the guard was asked (also asked again, just before sending): allowed or refused, with its reasons kept.

    An order that is allowed already and is allowed again stays where it is, with the newer decision.
    """
    if order.what is not What.DISCONNECT:
        raise RequestError(f"order {order.order_id} ({order.what}) cuts no supply: nothing has to be asked before it is sent")
    if int(decision.now_local.timestamp()) != now_s:
        raise RequestError(
            f"order {order.order_id}: the decision is for {decision.now_local}, not for now; a decision is used at its own time"
        )
    asked = replace(order, decision=decision, decided_s=now_s)
    if not decision.allowed:
        return advance(asked, Event.REFUSE, now_s, " ".join(reason.code for reason in decision.against))
    return asked if order.state is State.ALLOWED else advance(asked, Event.ALLOW, now_s)


def possible(order: Order) -> tuple[Event, ...]:
    """The events that the table has for the order's state."""
    return tuple(event for event in Event if (order.state, event) in TABLE[order.what])


def _fresh(order: Order, now_s: int) -> bool:
    return order.decision is not None and order.decision.allowed and order.decided_s <= now_s < order.decision.expires_local.timestamp()


def reading(what: What, control_state: int, output_state: bool) -> Event:
    """What a read of the disconnect control object (class 70: control_state 0 disconnected, 1 connected, 2 ready; output_state) says of an
    order. The two must agree: a control state of 1 with an open output is not a reconnection."""
    if control_state == 2 and not output_state and what is What.CONNECT:
        return Event.READ_READY
    wanted = (1, True) if what is What.CONNECT else (0, False)
    return Event.READ_AS_ASKED if (control_state, output_state) == wanted else Event.READ_OTHERWISE


class Closing(StrEnum):
    """How supply comes back after a remote reconnection."""

    AT_ONCE = "at_once"
    METER_DELAY = "meter_delay"
    BUTTON = "button"
    UNKNOWN = "unknown"


CLOSING = {1: Closing.BUTTON, 2: Closing.AT_ONCE, 3: Closing.BUTTON, 4: Closing.AT_ONCE, 6: Closing.METER_DELAY}
"""By control_mode, as read in reference firmware of IS 15959 meters (mode 6 closes by itself after some 30 s, a meter's own delay)."""

TOLD = {
    Closing.AT_ONCE: ("Your supply is being switched on now.", "आपकी बिजली अभी चालू की जा रही है।"),
    Closing.METER_DELAY: ("Your meter switches on by itself in about half a minute.", "आपका मीटर लगभग आधे मिनट में अपने आप चालू हो जाएगा।"),
    Closing.BUTTON: ("Please hold the button on your meter to switch on.", "कृपया बिजली चालू करने के लिए मीटर का बटन दबाकर रखें।"),
    Closing.UNKNOWN: (
        "Your supply is released; if it does not come back, please hold the button on your meter.",
        "आपकी बिजली बहाल करने का आदेश भेज दिया गया है; यदि बिजली न आए तो कृपया मीटर का बटन दबाकर रखें।",
    ),
}


def closing(control_mode: int | None) -> Closing:
    """How a meter of this control mode closes; unknown for a mode that is not known to us."""
    return CLOSING.get(control_mode, Closing.UNKNOWN) if control_mode is not None else Closing.UNKNOWN
