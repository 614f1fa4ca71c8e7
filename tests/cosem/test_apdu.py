"""Service APDUs: every variant round trips; cut or long ones are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem import apdu, apdu_octets
from openami.cosem.acse import (
    AARQ,
    RLRE,
    RLRQ,
    AssociationRequest,
    AssociationResponse,
    Conformance,
    InitiateRequest,
    InitiateResponse,
    Release,
)
from openami.cosem.apdu import AccessResult, ActionOutcome, Block, Item, Outcome, Ref, Selection
from openami.cosem.apdu_octets import decode_apdu, encode_apdu
from openami.cosem.axdr import NULL, Data, Tag
from openami.errors import MeterError, RequestError


def make(kind, *fields):
    """Like st.builds, but without its guesses for fields that have a default."""
    return st.tuples(*fields).map(lambda values: kind(*values))


BYTE = st.integers(0, 255)
NUMBER = st.integers(0, 2**32 - 1)
DATA = st.sampled_from([NULL, Data(Tag.UNSIGNED, 7), Data(Tag.OCTET_STRING, b"x" * 200), Data(Tag.ARRAY, (NULL, NULL))])
REF = make(Ref, st.integers(0, 65535), st.tuples(*[BYTE] * 6).map(lambda t: ".".join(map(str, t))), BYTE)
SELECTION = st.none() | make(Selection, BYTE, DATA)
ITEM = make(Item, REF, SELECTION)
BLOCK = make(Block, st.booleans(), NUMBER, st.binary(max_size=300))
ACCESS = st.sampled_from(list(AccessResult))
OUTCOME = make(Outcome, st.sampled_from(list(ActionOutcome)), st.none() | DATA | ACCESS)


def many(one):
    return st.lists(one, max_size=4).map(tuple)


SERVICES = {
    apdu.GetNormal: (BYTE, ITEM),
    apdu.GetNext: (BYTE, NUMBER),
    apdu.GetList: (BYTE, many(ITEM)),
    apdu.GetResult: (BYTE, DATA | ACCESS),
    apdu.GetBlock: (BYTE, BLOCK),
    apdu.GetResults: (BYTE, many(DATA | ACCESS)),
    apdu.SetNormal: (BYTE, ITEM, DATA),
    apdu.SetFirst: (BYTE, ITEM, BLOCK),
    apdu.SetBlock: (BYTE, BLOCK),
    apdu.SetList: (BYTE, many(ITEM), many(DATA)),
    apdu.SetListFirst: (BYTE, many(ITEM), BLOCK),
    apdu.SetResult: (BYTE, ACCESS),
    apdu.SetBlockAck: (BYTE, NUMBER),
    apdu.SetLastAck: (BYTE, ACCESS, NUMBER),
    apdu.SetListLastAck: (BYTE, many(ACCESS), NUMBER),
    apdu.SetResults: (BYTE, many(ACCESS)),
    apdu.ActionNormal: (BYTE, REF, st.none() | DATA),
    apdu.ActionNext: (BYTE, NUMBER),
    apdu.ActionList: (BYTE, many(REF), many(DATA)),
    apdu.ActionFirst: (BYTE, REF, BLOCK),
    apdu.ActionListFirst: (BYTE, many(REF), BLOCK),
    apdu.ActionBlock: (BYTE, BLOCK),
    apdu.ActionResult: (BYTE, OUTCOME),
    apdu.ActionResultBlock: (BYTE, BLOCK),
    apdu.ActionResults: (BYTE, many(OUTCOME)),
    apdu.ActionBlockAck: (BYTE, NUMBER),
    apdu.EventNotification: (st.sampled_from([b"", bytes(12)]), REF, DATA),
    apdu.ExceptionResponse: (BYTE, st.integers(0, 5)),
    apdu.ServiceError: (BYTE, BYTE, BYTE),
    apdu.GeneralBlock: (
        st.booleans(),
        st.booleans(),
        st.integers(0, 63),
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.binary(max_size=200),
    ),
}
SERVICE = st.one_of([make(kind, *fields) for kind, fields in SERVICES.items()])


@given(SERVICE)
@settings(max_examples=400)
def test_services_round_trip(service):
    assert decode_apdu(encode_apdu(service)) == service


@given(SERVICE, st.data())
def test_a_cut_service_is_refused(service, data):
    octets = encode_apdu(service)
    with pytest.raises(MeterError):
        decode_apdu(octets[: data.draw(st.integers(0, len(octets) - 1))])


@given(SERVICE)
def test_a_service_with_more_behind_it_is_refused(service):
    with pytest.raises(MeterError):
        decode_apdu(encode_apdu(service) + b"\0")


def test_every_service_is_in_the_round_trip():
    import typing

    assert set(SERVICES) == set(typing.get_args(apdu.Service))


def test_exception_with_the_counter_that_is_due():
    assert decode_apdu(bytes.fromhex("d8010600000010")) == apdu.ExceptionResponse(1, 6, 16)
    assert decode_apdu(bytes.fromhex("d80106")) == apdu.ExceptionResponse(1, 6)


def test_a_block_that_ends_a_get_with_a_code():
    service = apdu.GetBlock(0xC1, Block(True, 3, b""), AccessResult.LONG_GET_ABORTED)
    assert decode_apdu(encode_apdu(service)) == service


def test_unknown_codes_stay_numbers():
    assert decode_apdu(bytes.fromhex("c401c10163")).result == 0x63


def test_a_list_without_end_is_refused():
    with pytest.raises(MeterError, match="more than"):
        decode_apdu(bytes.fromhex("c403c1 82ffff 00"))


@pytest.mark.parametrize("head", ["000100", "00", "0100", ""])
def test_joined_blocks_of_an_action_in_every_form(head):
    value = Data(Tag.OCTET_STRING, b"hello")
    assert apdu_octets.decode_outcomes(bytes.fromhex(head) + b"\x09\x05hello", listed=False) == (Outcome(ActionOutcome.SUCCESS, value),)


def test_our_own_mistakes():
    with pytest.raises(RequestError):
        encode_apdu(apdu.GetNext(0xC1, 2**32))
    with pytest.raises(RequestError, match="OBIS"):
        encode_apdu(apdu.GetNormal(0xC1, Item(Ref(1, "1.2.3", 2))))


TITLE = st.sampled_from([b"", b"ABC12345"])
VALUE = st.none() | st.binary(min_size=1, max_size=64)
MECHANISM = st.none() | st.integers(0, 7)
CONFORMANCE = st.integers(0, 2**24 - 1).map(Conformance)


@given(make(InitiateRequest, CONFORMANCE, st.integers(0, 65535), st.binary(max_size=32), st.booleans(), st.none() | st.integers(0, 127)))
def test_initiate_requests_round_trip(initiate):
    assert InitiateRequest.decode(initiate.encode()) == initiate


@given(make(InitiateResponse, CONFORMANCE, st.integers(0, 65535), st.none() | st.integers(0, 127)))
def test_initiate_responses_round_trip(initiate):
    assert InitiateResponse.decode(initiate.encode()) == initiate


@given(st.integers(1, 4), st.binary(min_size=1, max_size=300), TITLE, MECHANISM, VALUE, st.none() | st.integers(0, 127))
def test_association_requests_round_trip(context, inside, title, mechanism, value, user):
    request = AssociationRequest(context, inside, title, mechanism, value, user, mechanism is not None)
    assert AssociationRequest.decode(request.encode()) == request


@given(
    make(
        AssociationResponse,
        *(st.integers(1, 4), st.integers(0, 2), st.integers(0, 14), st.binary(max_size=300), TITLE, MECHANISM, VALUE, st.booleans()),
    )
)
def test_association_responses_round_trip(response):
    assert AssociationResponse.decode(response.encode()) == response


@given(make(Release, st.sampled_from([RLRQ, RLRE]), st.none() | st.integers(0, 30), st.binary(max_size=100)))
def test_releases_round_trip(release):
    assert Release.decode(release.encode()) == release


def test_unknown_fields_are_passed_over():
    request = AssociationRequest(1, b"\x01")
    octets = request.encode()
    more = bytes((AARQ, octets[1] + 6)) + octets[2:] + bytes.fromhex("bd0404020001")
    assert AssociationRequest.decode(more) == request


def test_an_authentication_value_as_a_bit_string():
    octets = bytes.fromhex("6017a109060760857404050801018b0760857405080201ac03810100")
    with pytest.raises(MeterError):
        AssociationRequest.decode(octets)
    good = (
        AssociationRequest(1, b"", mechanism=1, authentication=b"\x80")
        .encode()
        .replace(b"\xac\x03\x80\x01\x80", b"\xac\x04\x81\x02\x00\x80")
    )
    good = bytes((AARQ, good[1] + 1)) + good[2:]
    assert AssociationRequest.decode(good).authentication == b"\x80"


def test_an_authentication_value_whose_outer_length_is_short():
    octets = AssociationResponse(1, 0, 14, b"\x08" + bytes(13), b"", 2, b"challenge-server").encode()
    assert AssociationResponse.decode(octets.replace(b"\xaa\x12\x80\x10", b"\xaa\x10\x80\x10")) == AssociationResponse.decode(octets)
