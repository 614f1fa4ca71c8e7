"""Pushes of registers, counts and states: every shipped layout, both ways; what the tables say of push objects and status bits."""

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem.axdr import NULL, Data, Tag, decode_all, encode
from openami.cosem.clock import CosemDateTime
from openami.cosem.is15959 import event_of, status_changes
from openami.cosem.push import Column, PushLayout, obis_bytes
from openami.cosem.register_push import (
    RegisterRow,
    push_kind,
    push_object_of,
    push_objects,
    read_registers,
    register_body,
    register_layout_for,
    register_layouts,
)
from openami.errors import MeterError, RequestError

NOW = 1_790_000_100
CLOCK = CosemDateTime.from_stamp(NOW)
OWN_STAMP = {"0.0.1.0.0.255", "0.0.0.1.2.255"}


def values_of(layout, draw):
    """A row that the layout's types hold exactly."""
    values = {}
    for column in layout.columns:
        if column.obis in OWN_STAMP or draw(st.booleans()):
            continue
        if column.tag is Tag.BIT_STRING:
            value = draw(st.text("01", min_size=128, max_size=128))
        elif column.tag in (Tag.OCTET_STRING, Tag.DATE_TIME):
            value = draw(st.integers(1_700_000_000, 1_900_000_000))
        elif column.tag is Tag.FLOAT32:
            value = Decimal(draw(st.integers(0, 99_999))).scaleb(column.scaler - 2)
        else:
            value = Decimal(draw(st.integers(0, 127))).scaleb(column.scaler)
        values[column.obis, column.attribute] = value
    return values


@given(st.sampled_from(register_layouts()), st.data())
@settings(max_examples=150)
def test_rows_survive_the_push(layout, data):
    count = data.draw(st.integers(0, 3)) if layout.row_shape == "rows" else 1
    stamped = any(column.obis in OWN_STAMP for column in layout.columns)
    rows = [RegisterRow(NOW - 1800 * k if stamped else NOW, values_of(layout, data.draw)) for k in range(count)]
    push = read_registers(layout, decode_all(encode(register_body(layout, b"XMA0001", CLOCK, rows))))
    assert (push.device_id, push.push_object, push.clock_stamp_s) == (b"XMA0001", layout.push_object, NOW)
    assert push.rows == rows
    assert push.kind == push_kind(layout.push_object)


def test_each_model_has_a_layout_for_each_kind_of_push():
    kinds = {}
    for layout in register_layouts():
        kinds.setdefault((layout.maker, layout.model), set()).add(push_kind(layout.push_object))
    assert kinds[("OAM", "SIM-1P")] == {"instantaneous", "events", "block_load", "daily", "billing"}
    assert kinds[("XMA", "XMA-1P")] == kinds[("XMB", "XMB-1P")] == {"instantaneous", "events", "daily", "billing"}
    assert register_layout_for("XMA", "XMA-1P", "0.6.25.9.0.255").columns[1].tag is Tag.DOUBLE_LONG_UNSIGNED
    assert register_layout_for("XMA", "XMA-9P", "0.6.25.9.0.255") is None


def test_push_objects_name_their_kind():
    assert push_objects()["0.4.25.9.0.255"] == "events"
    assert push_kind("0.0.99.99.0.255") is None


def body(*tail, push_object="0.6.25.9.0.255"):
    head = (Data(Tag.OCTET_STRING, b"D"), Data(Tag.OCTET_STRING, obis_bytes(push_object)), Data(Tag.OCTET_STRING, CLOCK.encode()))
    return Data(Tag.STRUCTURE, head + tail)


def flat(tag, scaler, value):
    layout = PushLayout("T", "T", "0.6.25.9.0.255", (Column("1.0.1.8.0.255", 2, tag, scaler, "Wh"),), "flat")
    return read_registers(layout, body(Data(tag, value))).rows[0].values.get(("1.0.1.8.0.255", 2))


def test_numbers_come_exact_in_their_unit():
    assert flat(Tag.LONG_UNSIGNED, -2, 23_010) == Decimal("230.10")
    assert flat(Tag.FLOAT32, 3, 0.1) == Decimal(100)  # kilo: the shortest decimal of the float, not 100.00000149
    assert flat(Tag.FLOAT32, 0, 16_777_216.0) == Decimal(16_777_216)
    assert flat(Tag.FLOAT32, 0, float("nan")) is None


def test_a_null_is_absent_and_shifts_nothing():
    layout = register_layout_for("XMA", "XMA-1P", "0.6.25.9.0.255")
    row = (Data(Tag.OCTET_STRING, CLOCK.encode()), NULL, *(Data(Tag.DOUBLE_LONG_UNSIGNED, k) for k in (2, 3, 4)))
    (found,) = read_registers(layout, body(Data(Tag.ARRAY, (Data(Tag.STRUCTURE, row),)))).rows
    assert found == (NOW, {("1.0.9.8.0.255", 2): 2, ("1.0.2.8.0.255", 2): 3, ("1.0.10.8.0.255", 2): 4})


@pytest.mark.parametrize(
    "tail",
    [(), (Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (NULL,)),)),), (Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (Data(Tag.BOOLEAN, True),) * 5),)),)],
)
def test_another_shape_is_a_layout_error(tail):
    with pytest.raises(MeterError) as caught:
        read_registers(register_layout_for("XMA", "XMA-1P", "0.6.25.9.0.255"), body(*tail))
    assert caught.value.cause == "layout"


def test_the_push_object_is_known_before_the_layout():
    assert push_object_of(body(push_object="0.4.25.9.0.255")) == "0.4.25.9.0.255"
    for wrong in (NULL, Data(Tag.STRUCTURE, (NULL, NULL, NULL)), Data(Tag.STRUCTURE, ())):
        with pytest.raises(MeterError):
            push_object_of(wrong)


def test_what_a_column_cannot_hold_is_our_own_mistake():
    layout = register_layout_for("XMA", "XMA-1P", "0.6.25.9.0.255")
    with pytest.raises(RequestError, match="no whole number"):
        register_body(layout, b"D", CLOCK, [RegisterRow(NOW, {("1.0.1.8.0.255", 2): Decimal("0.5")})])
    with pytest.raises(RequestError, match="one row"):
        register_body(dataclasses.replace(layout, row_shape="row"), b"D", CLOCK, [])


def test_the_status_word_is_found_by_name():
    layout = register_layout_for("XMB", "XMB-LTCT", "0.4.25.9.0.255")
    word = "0" * 85 + "1" + "0" * 42
    push = read_registers(layout, body(Data(Tag.BIT_STRING, word), push_object="0.4.25.9.0.255"))
    assert push.status_word == word
    assert push.rows[0].stamp_s == NOW


def test_changes_of_the_status_word_are_events():
    before, after = "0" * 128, "0" * 81 + "1" + "0" * 3 + "1" + "0" * 42
    assert status_changes(before, after) == ((81, True), (85, True))
    assert status_changes("", after) == ((81, True), (85, True))
    assert status_changes(after, before) == ((81, False), (85, False))
    assert [event_of(81, True), event_of(81, False), event_of(85, True), event_of(84, True), event_of(83, True), event_of(83, False)] == [
        201, 202, None, None, 251, None,
    ]  # fmt: skip
    assert event_of(127, True) is None
