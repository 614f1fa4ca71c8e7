"""A-XDR: round trips of every type, bounds, and canonical lengths."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem.axdr import MAX_DEPTH, CompactArray, Data, Tag, decode, decode_all, encode, read_length, write_length
from openami.errors import MeterError, RequestError


def _ints(bits: int, signed: bool):
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


SIMPLE = {
    Tag.NULL: st.none(),
    Tag.BOOLEAN: st.booleans(),
    Tag.BIT_STRING: st.text("01", max_size=40),
    Tag.DOUBLE_LONG: _ints(32, True),
    Tag.DOUBLE_LONG_UNSIGNED: _ints(32, False),
    Tag.OCTET_STRING: st.binary(max_size=200),
    Tag.VISIBLE_STRING: st.text(st.characters(max_codepoint=255), max_size=40),
    Tag.UTF8_STRING: st.text(max_size=40),
    Tag.BCD: _ints(8, False),
    Tag.INTEGER: _ints(8, True),
    Tag.LONG: _ints(16, True),
    Tag.UNSIGNED: _ints(8, False),
    Tag.LONG_UNSIGNED: _ints(16, False),
    Tag.LONG64: _ints(64, True),
    Tag.LONG64_UNSIGNED: _ints(64, False),
    Tag.ENUM: _ints(8, False),
    Tag.FLOAT32: st.floats(width=32, allow_nan=False),
    Tag.FLOAT64: st.floats(allow_nan=False),
    Tag.DATE_TIME: st.binary(min_size=12, max_size=12),
    Tag.DATE: st.binary(min_size=5, max_size=5),
    Tag.TIME: st.binary(min_size=4, max_size=4),
    Tag.DELTA_INTEGER: _ints(8, True),
    Tag.DELTA_LONG: _ints(16, True),
    Tag.DELTA_DOUBLE_LONG: _ints(32, True),
    Tag.DELTA_UNSIGNED: _ints(8, False),
    Tag.DELTA_LONG_UNSIGNED: _ints(16, False),
    Tag.DELTA_DOUBLE_LONG_UNSIGNED: _ints(32, False),
    Tag.DONT_CARE: st.none(),
}


def _simple():
    return st.one_of([values.map(lambda value, tag=tag: Data(tag, value)) for tag, values in SIMPLE.items()])


def _nested(inner):
    members = st.lists(inner, max_size=5).map(tuple)
    return st.builds(Data, st.sampled_from([Tag.ARRAY, Tag.STRUCTURE]), members)


def _kinds():
    leaf = st.sampled_from([tag for tag in SIMPLE if tag not in (Tag.NULL, Tag.DONT_CARE)]).map(lambda tag: (tag, None))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map(lambda m: (Tag.STRUCTURE, tuple(m))),
            st.tuples(st.integers(1, 3), inner).map(lambda d: (Tag.ARRAY, d)),
        ),
        max_leaves=6,
    )


def _of_kind(kind):
    tag, detail = kind
    if tag is Tag.STRUCTURE:
        return st.tuples(*map(_of_kind, detail)).map(lambda m: Data(tag, m))
    if tag is Tag.ARRAY:
        return st.tuples(*[_of_kind(detail[1])] * detail[0]).map(lambda m: Data(tag, m))
    return SIMPLE[tag].map(lambda value: Data(tag, value))


COMPACT = _kinds().flatmap(
    lambda kind: st.lists(_of_kind(kind), max_size=4).map(lambda rows: Data(Tag.COMPACT_ARRAY, CompactArray(kind, tuple(rows))))
)
ANY = st.recursive(st.one_of(_simple(), COMPACT), _nested, max_leaves=12)


@given(ANY)
@settings(max_examples=300)
def test_what_was_encoded_is_decoded(data):
    assert decode_all(encode(data)) == data


@given(st.binary(max_size=80))
@settings(max_examples=500)
def test_any_bytes_decode_or_raise_meter_error(octets):
    try:
        data, end = decode(octets)
    except MeterError:
        return
    assert 0 < end <= len(octets)
    assert decode_all(encode(data)) == data or "nan" in repr(data)


def test_every_tag_is_in_the_round_trip():
    assert set(SIMPLE) | {Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY} == set(Tag)


@given(st.integers(0, 2**32 - 1))
def test_lengths_round_trip(length):
    assert read_length(write_length(length), 0) == (length, len(write_length(length)))


def test_a_length_in_a_long_form_is_accepted_and_written_short():
    assert encode(decode_all(bytes.fromhex("0982000161"))) == bytes.fromhex("090161")


@pytest.mark.parametrize("octets", ["", "06000000", "0905abcd", "0203", "01840fffffff00", "0980", "0985ffffffffff", "0b", "fe", "12"])
def test_short_or_unknown_is_refused(octets):
    with pytest.raises(MeterError):
        decode_all(bytes.fromhex(octets))


def test_left_over_bytes_are_refused():
    with pytest.raises(MeterError, match="1 bytes are left over"):
        decode_all(b"\x00\x00")


def test_depth_is_bounded():
    assert decode_all(b"\x02\x01" * MAX_DEPTH + b"\x00")
    with pytest.raises(MeterError, match="deeper"):
        decode_all(b"\x02\x01" * (MAX_DEPTH + 1) + b"\x00")
    with pytest.raises(MeterError):
        decode_all(b"\x01\x01" * 100_000)


def test_a_compact_array_that_unfolds_without_end_is_refused():
    bomb = bytes.fromhex("13 02 02 01ffff 01ffff 00 11 01 05")
    with pytest.raises(MeterError, match="unfolds"):
        decode_all(bomb)


def test_a_compact_array_of_nothing_is_refused():
    with pytest.raises(MeterError, match="without width"):
        decode_all(bytes.fromhex("1300 01 05"))


def test_compact_array_of_the_profile_shape():
    data = decode_all(bytes.fromhex("13 02 03 12 06 09 0f 0001 00000002 01aa 0003 00000004 00"))
    first, second = data.value.elements
    assert [member.value for member in first.value] == [1, 2, b"\xaa"]
    assert [member.value for member in second.value] == [3, 4, b""]


@pytest.mark.parametrize(
    "data", [Data(Tag.UNSIGNED, 256), Data(Tag.DATE_TIME, b"x"), Data(Tag.NULL, 1), Data(Tag.VISIBLE_STRING, "€"), Data(Tag.ARRAY, None)]
)
def test_a_value_that_does_not_fit_is_our_fault(data):
    with pytest.raises(RequestError):
        encode(data)


def test_memoryview_and_offset():
    buffer = memoryview(b"\xff\xff" + bytes((6,)) + struct.pack(">I", 7))
    assert decode(buffer, 2) == (Data(Tag.DOUBLE_LONG_UNSIGNED, 7), 7)
