"""Client and meter against each other: every framing, mechanism and form; services whole, in blocks, in lists."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import (
    ALL,
    BLOCK_LOAD,
    CLIENT_TITLE,
    COLUMNS,
    DAY_START,
    KEYS,
    NOW,
    SECRET,
    SERVER_TITLE,
    allow_reading,
    block_load,
    device,
    pair,
    protection,
    pump,
    setup,
)

from openami.cosem import client as client_side
from openami.cosem import server as server_side
from openami.cosem.acse import DEFAULT_CONFORMANCE, AssociationRequest, AssociationResponse, Conformance, Mechanism
from openami.cosem.apdu import AccessResult, ActionOutcome, GetNormal, GetResult, Item, Outcome, Ref
from openami.cosem.apdu_octets import encode_apdu
from openami.cosem.axdr import NULL, Data, Tag
from openami.cosem.ciphering import Keys
from openami.cosem.client import Answer, Associated, Closed, Refused, Released, ServiceRefused
from openami.cosem.hls import Challenge, answer
from openami.cosem.objects import DataObject
from openami.cosem.profile import by_entry, by_range, read_buffer
from openami.cosem.protection import Form, Protection
from openami.cosem.server import Ended, Opened, Served, Violation
from openami.cosem.wrapper import wrap
from openami.errors import MeterError, RequestError

NAME = Item(Ref(1, "0.0.42.0.0.255", 2))
WRITABLE = Item(Ref(1, "0.0.96.1.0.255", 2))
PROFILE = Ref(7, BLOCK_LOAD, 2)
RELAY = "0.0.96.3.10.255"
MECHANISMS = [Mechanism.NONE, Mechanism.LLS, Mechanism.HLS, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256]


def opened(*arguments, **more):
    client, server = pair(*arguments, **more)
    client.open()
    events, seen, _ = pump(client, server)
    assert [type(one) for one in events] == [Associated], events
    assert seen == [Opened(client.link.own if isinstance(client.link.own, int) else client.link.own.upper)]
    return client, server


@pytest.mark.parametrize("kind", ["wrapper", "hdlc"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("policy", [0, 0x10, 0x20, 0x30])
def test_an_association_from_beginning_to_end(kind, mechanism, policy):
    client, server = opened(kind, mechanism, policy)
    client.get(NAME)
    events, seen, _ = pump(client, server)
    assert events[0].results == (Data(Tag.OCTET_STRING, b"XMA0000007"),)
    assert seen == [Served(48, "get", (NAME.ref,), (0,))]
    client.release()
    events, seen, _ = pump(client, server)
    assert events == [Released(""), Closed()]
    assert seen == [Ended(48)]


@pytest.mark.parametrize("form", list(Form))
def test_the_meter_answers_in_the_form_that_it_is_asked_in(form):
    client, server = opened("wrapper", Mechanism.HLS_GMAC, 0x30, form)
    client.get(NAME)
    for frame in client.take_out():
        server.feed(frame, NOW)
    (answer,) = server.take_out()
    assert answer[8] == {Form.GLO: 0xCC, Form.DED: 0xD4, Form.GENERAL_GLO: 0xDB, Form.GENERAL_DED: 0xDC, Form.GENERAL_CIPHERING: 0xDD}[form]
    assert client.feed(answer)[0].results == (Data(Tag.OCTET_STRING, b"XMA0000007"),)
    assert bool(client.conformance & Conformance.GENERAL_PROTECTION) is ("general" in form)


LONG_KEYS = Keys(bytes(range(32)), bytes(range(32, 64)))


@pytest.mark.parametrize(("control", "keys"), [(0x31, KEYS), (0x21, KEYS), (0x32, LONG_KEYS), (0x12, LONG_KEYS)])
@pytest.mark.parametrize("form", list(Form))
def test_suites_1_and_2_protect_whole_conversations(control, keys, form):
    meter = device(setup(policy=control, mechanism=Mechanism.HLS_GMAC))
    meter.setups[48].security.keys = keys
    dedicated = bytes(len(keys.ek)) if "ded" in form else b""
    how = {"protection": protection(control, form, keys=keys), "dedicated_key": dedicated}
    client, server = pair("wrapper", Mechanism.HLS_GMAC, control, form, meter=meter, settings=how)
    client.open()
    assert isinstance(pump(client, server)[0][0], Associated)
    client.get(Item(PROFILE))
    assert len(pump(client, server)[0][0].results[0].value) == 48


@pytest.mark.parametrize("control", [0x30, 0x31])
def test_the_proof_of_gmac_names_its_suite(control):
    meter = device(setup(policy=control, mechanism=Mechanism.HLS_GMAC))
    client, server = pair("wrapper", Mechanism.HLS_GMAC, control, meter=meter)
    client.open()
    for _ in range(2):
        for frame in client.take_out():
            server.feed(frame, NOW)
        said = server.take_out()
        events = [event for frame in said for event in client.feed(frame)]
    assert isinstance(events[0], Associated)
    plain, _ = Protection(KEYS, SERVER_TITLE, SERVER_TITLE, control).open(said[0][8:])
    assert plain[-17] == 0x10 | control & 0x0F


def test_another_suite_than_the_meters_is_refused():
    client, server = pair("wrapper", Mechanism.LLS, 0x31, meter=device(setup(policy=0x30, mechanism=Mechanism.LLS)))
    client.open()
    events, seen, _ = pump(client, server)
    assert isinstance(events[0], Refused)
    assert [event.cause for event in seen if isinstance(event, Violation)] == ["security"]


@pytest.mark.parametrize("kind", ["wrapper", "hdlc"])
@pytest.mark.parametrize("pdu", [200, 512, 0xFFFF])
@pytest.mark.parametrize("policy", [0, 0x30])
@pytest.mark.parametrize("general", [False, True])
def test_a_day_of_block_load_in_blocks_of_any_size(kind, pdu, policy, general):
    conformance = ALL & ~Conformance.BLOCK_GET if general else DEFAULT_CONFORMANCE
    client, server = opened(kind, policy=policy, settings={"conformance": conformance, "max_pdu": pdu})
    client.get(Item(PROFILE))
    events, _, _ = pump(client, server)
    rows = read_buffer(COLUMNS, events[0].results[0])
    assert [row.stamp_s for row in rows] == [DAY_START + 1800 * (k + 1) for k in range(48)]
    assert [row.values[3].value for row in rows] == [100 + k for k in range(48)]


def test_a_day_takes_one_association_and_four_round_trips():
    client, server = pair("wrapper", Mechanism.HLS, 0x30)
    client.open()
    _, _, first = pump(client, server)
    client.get(Item(PROFILE, by_range(DAY_START + 1800, DAY_START + 86_400)))
    events, _, second = pump(client, server)
    assert len(events[0].results[0].value) == 48
    client.release()
    _, _, third = pump(client, server)
    assert first + second + third <= 4


@pytest.mark.parametrize(
    ("offer", "trips"), [((128, 128, 1, 1), 25), ((128, 128, 7, 7), 8), ((1024, 1024, 7, 7), 6), ((2030, 2030, 7, 7), 6)]
)
def test_a_day_over_hdlc_takes_as_few_round_trips_as_was_negotiated(offer, trips):
    client, server = pair("hdlc", Mechanism.HLS, 0x30, offer=offer)
    client.open()
    _, _, first = pump(client, server)
    client.get(Item(PROFILE, by_range(DAY_START + 1800, DAY_START + 86_400)))
    events, _, second = pump(client, server)
    assert len(events[0].results[0].value) == 48
    client.release()
    assert first + second + pump(client, server)[2] == trips


def test_by_range_by_entry_and_by_column():
    client, server = opened()
    answers = []
    for selection in (
        by_range(DAY_START + 3600, DAY_START + 7200),
        by_entry(2, 4),
        by_range(DAY_START + 3600, DAY_START + 7200, (COLUMNS[3], COLUMNS[0])),
        by_entry(2, 4, 4, 4),
        by_entry(47),
    ):
        client.get(Item(PROFILE, selection))
        answers.append(pump(client, server)[0][0].results[0].value)
    assert answers[0] == answers[1]
    assert [row.value[3].value for row in answers[0]] == [101, 102, 103]
    assert [[one.value for one in row.value] for row in answers[3]] == [[101], [102], [103]]
    assert [row.value[1].value for row in answers[2]] == [101, 102, 103]
    assert len(answers[2][0].value) == 2
    assert len(answers[4]) == 2


def test_a_list_is_answered_item_by_item_and_in_blocks():
    client, server = opened(settings={"max_pdu": 300})
    unknown = Item(Ref(1, "0.0.1.2.3.255", 2))
    wrong_class = Item(Ref(3, "0.0.42.0.0.255", 2))
    client.get(NAME, unknown, Item(PROFILE, by_entry(1, 20)), wrong_class)
    (answer,) = pump(client, server)[0]
    assert answer.results[0] == Data(Tag.OCTET_STRING, b"XMA0000007")
    assert answer.results[1] is AccessResult.OBJECT_UNDEFINED
    assert len(answer.results[2].value) == 20
    assert answer.results[3] is AccessResult.OBJECT_CLASS_INCONSISTENT


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("policy", [0, 0x30])
@pytest.mark.parametrize("length", [5, 400, 3000])
def test_long_values_are_written(general, policy, length):
    blocks = Conformance.BLOCK_SET | Conformance.BLOCK_ACTION | Conformance.BLOCK_GET
    conformance = (ALL & ~blocks) if general else DEFAULT_CONFORMANCE
    client, server = opened(policy=policy, max_pdu=256, settings={"conformance": conformance, "max_pdu": 256})
    value = Data(Tag.OCTET_STRING, bytes(k & 0xFF for k in range(length)))
    client.set((WRITABLE, value))
    (answer,) = pump(client, server)[0]
    assert answer == Answer("set", answer.invoke, (AccessResult.SUCCESS,))
    client.get(WRITABLE)
    assert pump(client, server)[0][0].results == (value,)


@pytest.mark.parametrize("length", [5, 3000])
def test_several_values_are_written(length):
    client, server = opened(max_pdu=256)
    value = Data(Tag.OCTET_STRING, bytes(length))
    client.set((WRITABLE, value), (NAME, value))
    (answer,) = pump(client, server)[0]
    assert answer.results == (AccessResult.SUCCESS, AccessResult.READ_WRITE_DENIED)


class Echo(DataObject):
    """Returns what its method is given."""

    def act(self, member, parameters, now_s):
        return Outcome(ActionOutcome.SUCCESS, parameters)


@pytest.mark.parametrize("policy", [0, 0x30])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("length", [5, 3000])
def test_actions_with_long_parameters_and_long_results(policy, count, length):
    meter = device(setup(policy=policy, max_pdu=256), objects=(Echo("1.1.1.1.1.255"),))
    client, server = opened(policy=policy, meter=meter, settings={"max_pdu": 300})
    value = Data(Tag.OCTET_STRING, bytes(k & 0x7F for k in range(length)))
    client.action(*[(Ref(1, "1.1.1.1.1.255", 1), value)] * count)
    (answer,) = pump(client, server)[0]
    assert [outcome.returned for outcome in answer.results] == [value] * count


@given(st.sampled_from(["wrapper", "hdlc"]), st.integers(100, 700), st.integers(1, 7), st.sampled_from([0, 0x20, 0x30]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_sizes_and_windows(kind, pdu, window, policy, general):
    offer = (max(20, pdu // 2), max(20, pdu // 3), window, window)
    conformance = ALL if general else DEFAULT_CONFORMANCE
    client, server = opened(
        kind, policy=policy, offer=offer, settings={"conformance": conformance, "max_pdu": pdu, "general_window": window}
    )
    client.get(Item(PROFILE))
    (answer,) = pump(client, server)[0]
    assert len(answer.results[0].value) == 48
    assert not client.stale_answers


def test_deltas_are_filled_in():
    profile = block_load(deltas=True)
    raw = profile.get(2, None, NOW)
    assert any(value is NULL for row in raw.value for value in row.value)
    assert read_buffer(COLUMNS, raw) == read_buffer(COLUMNS, block_load().get(2, None, NOW))


def test_a_null_clock_is_one_period_later():
    clock = block_load(1).get(2, None, NOW).value[0].value[0]
    rows = [Data(Tag.STRUCTURE, row) for row in ((clock, Data(Tag.UNSIGNED, 1)), (NULL, NULL), (NULL, Data(Tag.UNSIGNED, 2)))]
    read = read_buffer(COLUMNS[:2], Data(Tag.ARRAY, tuple(rows)), 1800)
    assert [row.stamp_s for row in read] == [DAY_START + 1800 * k for k in (1, 2, 3)]
    assert [row.values[1].value for row in read] == [1, 1, 2]
    assert [row.stamp_s for row in read_buffer(COLUMNS[:2], Data(Tag.ARRAY, tuple(rows)), 0)][1:] == [None, None]


def test_a_row_with_a_missing_column_is_refused():
    with pytest.raises(MeterError) as caught:
        read_buffer(COLUMNS, Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (NULL,)),)))
    assert caught.value.cause == "layout"


# -- what must be refused -------------------------------------------------------------------------------------------------------


def refused(due=Mechanism.LLS, policy=0, meter=None, **changes):
    meter = meter or device(setup(mechanism=due, policy=policy))
    client, server = pair("wrapper", due, policy, meter=meter, settings=changes)
    client.open()
    return pump(client, server)


@pytest.mark.parametrize(
    ("mechanism", "changes", "diagnostic"),
    [
        (Mechanism.LLS, {"secret": b"wrong"}, 13),
        (Mechanism.LLS, {"mechanism": Mechanism.NONE}, 12),
        (Mechanism.HLS, {"mechanism": Mechanism.LLS}, 11),
        (Mechanism.LLS, {"protection": protection(0x30)}, 2),
        (Mechanism.LLS, {"conformance": Conformance.READ}, 1),
        (Mechanism.LLS, {"max_pdu": 5}, 1),
    ],
)
def test_an_association_is_refused_with_its_reason(mechanism, changes, diagnostic):
    events, seen, _ = refused(mechanism, **changes)
    assert isinstance(events[0], Refused)
    assert events[0].diagnostic == diagnostic
    assert events[1:] == [Closed()]
    assert [one.cause for one in seen] in (["association"], ["authentication"])


@pytest.mark.parametrize("mechanism", [Mechanism.HLS, Mechanism.HLS_SHA256])
def test_a_wrong_secret_is_refused_in_the_last_step(mechanism):
    events, seen, _ = refused(mechanism, secret=b"fedcba9876543210")
    assert isinstance(events[0], Refused)
    assert events[0].step == "authentication"
    assert seen[0].cause == "authentication"


def test_a_meter_that_does_not_know_the_secret_is_not_trusted():
    meter = device(setup(mechanism=Mechanism.HLS))
    client, server = pair("wrapper", Mechanism.HLS, meter=meter)
    client.open()
    for frame in client.take_out():
        server.feed(frame, NOW)
    for frame in server.take_out():
        client.feed(frame)
    for frame in client.take_out():
        server.feed(frame, NOW)
    (frame,) = server.take_out()
    forged = frame[:-1] + bytes((frame[-1] ^ 1,))
    (event, closed) = client.feed(forged)
    assert (event.step, closed) == ("authentication", Closed())


def test_a_wrong_key_is_refused_and_recorded():
    other = protection(0x30, keys=Keys(bytes(16), KEYS.ak))
    events, seen, _ = refused(Mechanism.HLS, 0x30, protection=other)
    assert isinstance(events[0], Refused)
    assert [one.cause for one in seen] == ["bad_tag"]


def test_a_replayed_request_is_refused_and_never_answered_with_data():
    client, server = opened("wrapper", Mechanism.HLS, 0x30)
    client.get(NAME)
    (frame,) = client.take_out()
    server.feed(frame, NOW)
    server.take_out()
    (event,) = server.feed(frame, NOW)
    assert (type(event), event.cause) == (Violation, "replay")
    (answer,) = server.take_out()
    assert answer[8:11].hex() == "d80106"


def test_a_counter_from_before_a_restart_is_refused():
    meter = device(setup(mechanism=Mechanism.HLS, policy=0x30))
    client, server = opened("wrapper", Mechanism.HLS, 0x30, meter=meter)
    client.close()
    again, server = pair("wrapper", Mechanism.HLS, 0x30, meter=meter)
    again.open()
    events, seen, _ = pump(again, server)
    assert isinstance(events[0], Refused)
    assert seen[0].cause == "replay"


@pytest.mark.parametrize("change", ["clear", "flip", "cut"])
def test_a_damaged_or_clear_request_gets_an_exception(change):
    client, server = opened("wrapper", Mechanism.HLS, 0x30)
    client.get(NAME)
    (frame,) = client.take_out()
    sealed = frame[8:]
    bad = {
        "clear": encode_apdu(GetNormal(0xC1, NAME)),
        "flip": sealed[:-1] + bytes((sealed[-1] ^ 1,)),
        "cut": sealed[:1] + b"\x0a" + sealed[2:12],
    }[change]
    events = server.feed(wrap(48, 1, bad), NOW)
    assert [one.cause for one in events] == [{"clear": "security", "flip": "bad_tag", "cut": "bad_tag"}[change]]
    assert server.take_out()[0][8] == 0xD8


def test_another_client_has_other_rights():
    meter = device(setup(), setup(16, rights=allow_reading()))
    client, server = opened(meter=meter, client=16)
    client.action((Ref(70, RELAY, 1), Data(Tag.INTEGER, 0)))
    events, seen, _ = pump(client, server)
    assert events[0].results[0].code is ActionOutcome.READ_WRITE_DENIED
    assert [type(one) for one in seen] == [Served, Violation]
    assert meter.objects[70, RELAY].stands(NOW) == 1


def test_a_request_without_association_is_refused():
    _, server = pair()
    events = server.feed(wrap(48, 1, encode_apdu(GetNormal(0xC1, NAME))), NOW)
    assert events[0].cause == "association"
    assert server.take_out()[0][8:].hex() == "d80101"


def test_a_pre_established_association_needs_no_opening():
    meter = device(setup(64, policy=0x20, pre_established=True, client_title=b"OAM\0\0\0\0\1"))
    client, server = pair("wrapper", policy=0x20, meter=meter, client=64, settings={"pre_established": True})
    events = client.open()
    assert isinstance(events[0], Associated)
    client.get(NAME)
    events, seen, _ = pump(client, server)
    assert events[0].results == (Data(Tag.OCTET_STRING, b"XMA0000007"),)
    assert seen[0] == Opened(64)


@pytest.mark.parametrize("octets", ["d80102", "0e010601", "6303800100", "6300"])
def test_a_release_answered_oddly_is_still_a_release(octets):
    client, _ = opened("wrapper", Mechanism.HLS, 0x30)
    client.release()
    client.take_out()
    events = client.feed(wrap(1, 48, bytes.fromhex(octets)))
    assert [type(one) for one in events] == [Released, Closed]


def test_a_clear_answer_in_a_ciphered_association_is_not_given_out():
    client, _ = opened("wrapper", Mechanism.HLS, 0x30)
    invoke = client.get(NAME)
    client.take_out()
    with pytest.raises(MeterError) as caught:
        client.feed(wrap(1, 48, encode_apdu(GetResult(0xC0 | invoke, Data(Tag.UNSIGNED, 1)))))
    assert caught.value.cause == "security"


def test_a_late_answer_is_passed_over():
    client, server = opened()
    client.get(NAME)
    for frame in client.take_out():
        server.feed(frame, NOW)
    client.give_up()
    client.get(WRITABLE)
    events, _, _ = pump(client, server)
    assert client.stale_answers == 1
    assert events[0].results == (Data(Tag.OCTET_STRING, b"7"),)


def test_an_exception_answers_the_request():
    client, _ = opened()
    invoke = client.get(NAME)
    client.take_out()
    (event,) = client.feed(wrap(1, 48, bytes.fromhex("d80202")))
    assert (type(event), event.invoke) == (ServiceRefused, invoke)


@pytest.mark.parametrize("side", [client_side, server_side])
def test_every_pair_of_state_and_event_is_in_the_table_or_refused_by_name(side):
    names = {event for _, event in side.TRANSITIONS}
    for state in side.State:
        for event in names:
            session = pair()[0 if side is client_side else 1]
            session.state = state
            if (state, event) in side.TRANSITIONS:
                session._move(event)
                assert session.state is side.TRANSITIONS[state, event]
            else:
                with pytest.raises((RequestError, MeterError), match=state.value):
                    session._move(event)
                assert session.state is state


def test_weak_mechanisms_are_used_with_a_warning():
    for mechanism, length in ((Mechanism.HLS_MD5, 16), (Mechanism.HLS_SHA1, 20)):
        assert len(answer(mechanism, Challenge(b"12345678", b"", b"", b""), SECRET, None, 0)) == length
        meter = device(setup(mechanism=mechanism))
        client, server = pair("wrapper", mechanism, meter=meter)
        client.open()
        events, _, _ = pump(client, server)
        assert "broken hash" in events[0].warnings[0]


def test_our_own_requests_out_of_turn():
    client, _ = pair()
    with pytest.raises(RequestError, match="idle"):
        client.get(NAME)
    client, _ = opened()
    client.get(NAME)
    with pytest.raises(RequestError, match="waiting"):
        client.get(NAME)


@pytest.mark.parametrize("form", [Form.GLO, Form.GENERAL_GLO])
def test_a_client_that_leaves_its_title_out_is_known_by_its_ciphered_initiate_or_not_at_all(form):
    client, server = pair("wrapper", Mechanism.HLS, 0x30, form)
    client.open()
    (frame,) = client.take_out()
    request = AssociationRequest.decode(frame[8:])
    assert request.system_title == CLIENT_TITLE
    seen = server.feed(wrap(48, 1, request._replace(system_title=b"").encode()), NOW)
    (answer,) = server.take_out()
    if form is Form.GLO:
        assert [event.cause for event in seen] == ["association"]
        assert AssociationResponse.decode(answer[8:]).diagnostic == 3
        return
    client.feed(answer)
    events, _, _ = pump(client, server)
    assert isinstance(events[0], Associated)


@pytest.mark.parametrize("form", [Form.GLO, Form.GENERAL_GLO])
def test_a_server_that_leaves_its_title_out_is_known_by_its_answers_or_beforehand(form):
    ours = Protection(KEYS, CLIENT_TITLE, SERVER_TITLE if form is Form.GLO else b"", 0x30, 1, form=form)
    client, server = pair("wrapper", Mechanism.HLS, 0x30, form, settings={"protection": ours})
    client.open()
    for frame in client.take_out():
        server.feed(frame, NOW)
    (answer,) = server.take_out()
    response = AssociationResponse.decode(answer[8:])
    client.feed(wrap(1, 48, response._replace(system_title=b"").encode()))
    events, _, _ = pump(client, server)
    assert isinstance(events[0], Associated)
    assert "left out its system title" in events[0].warnings[0]
    assert ours.peer_title == SERVER_TITLE


def test_a_counter_that_was_used_is_told_which_one_is_due():
    client, server = pair("wrapper", Mechanism.HLS, 0x30)
    server.device.setups[48].security.last_client_counter = 41
    client.open()
    events, seen, _ = pump(client, server)
    assert [event.cause for event in seen] == ["replay"]
    assert "ExceptionResponse(state=1, service=6, counter=42)" in events[0].reason
