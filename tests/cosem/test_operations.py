"""A meter's objects: the relay's modes, image transfer with a break, key transfer, scripts, clock, calendar; one by one and over a session."""

import pytest
from peers import CLIENT_TITLE, NOW, SECRET, SERVER_TITLE, STOC, device, links, pair, pump, setup

from openami.cosem.acse import Mechanism
from openami.cosem.apdu import AccessResult, ActionOutcome, EventNotification, Item, Outcome, Ref
from openami.cosem.axdr import NULL, Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.client import ClientSession, ClientSettings, Notified
from openami.cosem.clock import CosemDateTime
from openami.cosem.notification import DataNotification
from openami.cosem.objects import Clock, DemandRegister, ExtendedRegister, Register, read_scaler_unit, scaler_unit
from openami.cosem.operations import (
    CONTROL_MODES,
    ActivityCalendar,
    ControlState,
    DisconnectControl,
    ImageStatus,
    ImageTransfer,
    KeyId,
    Limiter,
    PushSetup,
    ScriptTable,
    SecuritySetup,
    key_transfer,
)
from openami.cosem.protection import Protection
from openami.cosem.server import Confirmed, ServerSession

OFF, ON = Ref(70, "0.0.96.3.10.255", 1), Ref(70, "0.0.96.3.10.255", 2)
ZERO = Data(Tag.INTEGER, 0)

# mode: state after a remote disconnect, after a remote reconnect, at once after the button, 40 s after the reconnect
RELAY = """
0: 1 1 1 1
1: 0 2 1 2
2: 0 1 1 1
3: 0 2 1 2
4: 0 1 1 1
5: 0 2 1 1
6: 0 2 1 1
"""


@pytest.mark.parametrize("line", RELAY.split("\n")[1:-1])
def test_the_relay_follows_its_control_mode(line):
    mode, states = line.split(":")
    after_off, after_on, after_button, later = map(int, states.split())
    relay = DisconnectControl(mode=int(mode))
    refused = int(mode) == 0
    assert (relay.act(1, ZERO, NOW).code == ActionOutcome.SUCCESS) is not refused
    assert relay.stands(NOW) == after_off
    assert (relay.act(2, ZERO, NOW).code == ActionOutcome.SUCCESS) is not refused
    assert relay.stands(NOW) == after_on
    assert relay.get(2, None, NOW).value is (after_on == 1)
    assert relay.stands(NOW + 40) == later
    if after_on == 2 and later == 2:
        assert relay.press_button(NOW + 41)
        assert relay.stands(NOW + 41) == after_button


def test_a_relay_in_ready_refuses_another_reconnect():
    relay = DisconnectControl(mode=6)
    relay.act(1, ZERO, NOW)
    relay.act(2, ZERO, NOW)
    assert relay.act(2, ZERO, NOW + 1).code is ActionOutcome.TEMPORARY_FAILURE
    assert relay.act(1, ZERO, NOW + 1).code is ActionOutcome.SUCCESS


def test_a_relay_that_is_off_cannot_be_switched_off_by_hand_or_limiter():
    relay = DisconnectControl(mode=5)
    assert relay.disconnect_locally(NOW)
    assert relay.stands(NOW) is ControlState.READY_FOR_RECONNECTION
    assert not relay.disconnect_locally(NOW)
    relay.act(1, ZERO, NOW)
    assert not relay.press_button(NOW)
    assert relay.set(4, Data(Tag.ENUM, 7), NOW) is AccessResult.OTHER_REASON
    assert relay.set(4, Data(Tag.ENUM, 0), NOW) is AccessResult.SUCCESS
    assert len(CONTROL_MODES) == 7


IMAGE = bytes(k & 0xFF for k in range(1000))


def block(number, size=64):
    return Data(Tag.STRUCTURE, (Data(Tag.DOUBLE_LONG_UNSIGNED, number), Data(Tag.OCTET_STRING, IMAGE[number * size : (number + 1) * size])))


def image_transfer(good=True):
    transfer = ImageTransfer("0.0.44.0.0.255", 64, lambda identifier, image: good and image == IMAGE)
    start = Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, b"FW2"), Data(Tag.DOUBLE_LONG_UNSIGNED, 1000)))
    assert transfer.act(2, block(0), NOW).code is ActionOutcome.TEMPORARY_FAILURE
    assert transfer.act(1, start, NOW).code is ActionOutcome.SUCCESS
    return transfer


def test_an_image_goes_on_where_it_broke_off():
    transfer = image_transfer()
    for number in (0, 1, 3):
        transfer.act(2, block(number), NOW)
    assert transfer.get(4, None, NOW).value == 2
    assert transfer.get(3, None, NOW).value == "1101" + "0" * 12
    assert transfer.act(3, ZERO, NOW).code is ActionOutcome.OTHER_REASON
    assert transfer.act(4, ZERO, NOW).code is ActionOutcome.OTHER_REASON
    for number in range(2, 16):
        transfer.act(2, block(number), NOW)
    assert transfer.act(3, ZERO, NOW).code is ActionOutcome.SUCCESS
    assert transfer.act(4, ZERO, NOW).code is ActionOutcome.SUCCESS
    assert (transfer.status, transfer.activated) == (ImageStatus.ACTIVATION_SUCCESSFUL, b"FW2")


def test_an_image_that_is_not_verified_is_not_activated():
    transfer = image_transfer(good=False)
    for number in range(16):
        assert transfer.act(2, block(number), NOW).code is ActionOutcome.SUCCESS
    assert transfer.act(2, block(16), NOW).code is ActionOutcome.OTHER_REASON
    assert transfer.act(3, ZERO, NOW).code is ActionOutcome.OTHER_REASON
    assert transfer.get(6, None, NOW).value == ImageStatus.VERIFICATION_FAILED
    assert transfer.act(4, ZERO, NOW).code is ActionOutcome.OTHER_REASON


def test_new_keys_hold_for_the_next_association():
    master, new = bytes(range(64, 80)), Keys(bytes(range(32, 48)), bytes(range(48, 64)))
    meter = device(setup(mechanism=Mechanism.HLS, policy=0x30))
    state = meter.setups[48].security

    def transferred(keys):
        state.keys = Keys(keys.get(KeyId.GLOBAL_ENCRYPTION, state.keys.ek), keys.get(KeyId.AUTHENTICATION, state.keys.ak))

    meter.add(SecuritySetup("0.0.43.0.3.255", 3, 0, SERVER_TITLE, master, transferred))
    client, server = pair("wrapper", Mechanism.HLS, 0x30, meter=meter)
    client.open()
    pump(client, server)
    wrong = key_transfer(bytes(16), {KeyId.GLOBAL_ENCRYPTION: new.ek})
    right = key_transfer(master, {KeyId.GLOBAL_ENCRYPTION: new.ek, KeyId.AUTHENTICATION: new.ak})
    for parameters, code in ((wrong, ActionOutcome.OTHER_REASON), (right, ActionOutcome.SUCCESS)):
        client.action((Ref(64, "0.0.43.0.3.255", 2), parameters))
        assert pump(client, server)[0][0].results[0].code is code
    client.get(Item(Ref(8, "0.0.1.0.0.255", 2)))
    assert isinstance(pump(client, server)[0][0].results[0], Data)
    ours, theirs = links("wrapper")
    settings = ClientSettings(Mechanism.HLS, SECRET, STOC, Protection(new, CLIENT_TITLE, SERVER_TITLE, 0x30, 1000))
    again, server = ClientSession(settings, ours), ServerSession(meter, theirs, lambda: STOC)
    again.open()
    assert again.link is ours
    assert type(pump(again, server)[0][0]).__name__ == "Associated"


def test_a_security_policy_is_only_made_stronger():
    one = SecuritySetup("0.0.43.0.3.255", 2, 0, SERVER_TITLE, bytes(16), lambda keys: None)
    long = key_transfer(bytes(16), {KeyId.GLOBAL_ENCRYPTION: bytes(32)})
    assert one.act(2, long, NOW).code == ActionOutcome.TYPE_UNMATCHED
    assert one.act(1, Data(Tag.ENUM, 1), NOW).code is ActionOutcome.READ_WRITE_DENIED
    assert one.act(1, Data(Tag.ENUM, 3), NOW).code is ActionOutcome.SUCCESS
    assert one.get(2, None, NOW).value == 3


def test_a_script_moves_the_relay():
    meter = device()
    meter.add(ScriptTable("0.0.10.0.106.255", {1: ((OFF, ZERO),), 2: ((ON, ZERO),)}, meter.run))
    table = meter.objects[9, "0.0.10.0.106.255"]
    assert table.act(1, Data(Tag.LONG_UNSIGNED, 1), NOW) == Outcome(ActionOutcome.SUCCESS)
    assert meter.objects[70, OFF.obis].stands(NOW) is ControlState.DISCONNECTED
    assert table.act(1, Data(Tag.LONG_UNSIGNED, 1), NOW).code is ActionOutcome.TEMPORARY_FAILURE
    assert table.act(1, Data(Tag.LONG_UNSIGNED, 9), NOW).code is ActionOutcome.OBJECT_UNDEFINED


def test_the_clock_is_set_and_shifted():
    clock = Clock(offset_s=-100)
    assert clock.reading(NOW).to_stamp(330) == NOW - 100
    assert clock.set(2, Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(NOW).encode()), NOW) is AccessResult.SUCCESS
    assert clock.reading(NOW + 5).to_stamp(330) == NOW + 5
    assert clock.act(6, Data(Tag.LONG, -30), NOW).code is ActionOutcome.SUCCESS
    assert clock.offset_s == -30
    assert clock.set(2, Data(Tag.OCTET_STRING, b"now"), NOW) is AccessResult.TYPE_UNMATCHED
    assert clock.act(6, Data(Tag.LONG, 901), NOW).code is ActionOutcome.TYPE_UNMATCHED


def test_a_calendar_waits_until_it_is_made_active():
    tables = tuple(Data(Tag.OCTET_STRING, name) for name in (b"old", b"s", b"w", b"d"))
    calendar = ActivityCalendar("0.0.13.0.0.255", tables)
    assert calendar.set(6, Data(Tag.OCTET_STRING, b"new"), NOW) is AccessResult.SUCCESS
    assert calendar.set(2, Data(Tag.OCTET_STRING, b"new"), NOW) is AccessResult.READ_WRITE_DENIED
    assert calendar.get(2, None, NOW).value == b"old"
    calendar.act(1, ZERO, NOW)
    assert calendar.get(2, None, NOW).value == b"new"


def test_registers():
    register = Register("1.0.1.8.0.255", Data(Tag.DOUBLE_LONG_UNSIGNED, 5), 3, "Wh")
    assert read_scaler_unit(register.get(3, None, NOW)) == (3, "Wh")
    register.act(1, ZERO, NOW)
    assert register.get(2, None, NOW) == Data(Tag.DOUBLE_LONG_UNSIGNED, 0)
    demand = DemandRegister("1.0.1.4.0.255", Data(Tag.UNSIGNED, 7), Data(Tag.UNSIGNED, 3), 0, "W", 900, bytes(12))
    demand.act(2, ZERO, NOW)
    assert (demand.get(2, None, NOW).value, demand.get(3, None, NOW).value) == (0, 7)
    extended = ExtendedRegister("1.0.1.6.0.255", Data(Tag.UNSIGNED, 7), 0, "W", bytes(12))
    assert extended.get(5, None, NOW).value == bytes(12)
    assert register.get(9, None, NOW) is AccessResult.OBJECT_UNAVAILABLE
    assert read_scaler_unit(NULL) is None
    assert scaler_unit(0, "furlong").value[1].value == 255


def test_limiter_and_push_setup():
    limiter = Limiter("0.0.17.0.0.255", Ref(3, "1.0.1.7.0.255", 2), Data(Tag.DOUBLE_LONG_UNSIGNED, 5000), 120, 120)
    limiter.set(4, Data(Tag.DOUBLE_LONG_UNSIGNED, 3000), NOW)
    assert limiter.get(3, None, NOW).value == 3000
    push = PushSetup("0.0.25.9.0.255", (), "10.0.0.1:4059")
    push.act(1, ZERO, NOW)
    assert push.asked == 1


@pytest.mark.parametrize("policy", [0, 0x30])
def test_notifications_over_an_association(policy):
    client, server = pair("wrapper", policy=policy)
    client.open()
    pump(client, server)
    push = DataNotification(5, True, False, b"", NULL)
    event = EventNotification(b"", Ref(1, "0.0.96.11.0.255", 2), Data(Tag.LONG_UNSIGNED, 101))
    server.notify(push)
    server.notify(event)
    seen = [one for frame in server.take_out() for one in client.feed(frame)]
    assert seen == [Notified(push), Notified(event)]
    client.confirm(push)
    assert pump(client, server)[1] == [Confirmed(48, 5)]
