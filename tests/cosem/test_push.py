"""Push bodies: every shipped layout, both ways."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem.axdr import NULL, Data, Tag, decode_all, encode
from openami.cosem.clock import CosemDateTime
from openami.cosem.push import Column, PushLayout, layout_for, layouts, obis_bytes, obis_text, push_body, read_push
from openami.errors import DataError, MeterError, RequestError

PUSH_OBJECT = "0.5.25.9.0.255"
XMA = layout_for("XMA", "XMA-1P", PUSH_OBJECT)
CLOCK = CosemDateTime.from_stamp(1_790_000_100)


def test_the_shipped_layouts():
    assert [(one.maker, one.model) for one in layouts()] == [("XMA", "XMA-1P"), ("XMB", "XMB-1P"), ("XMB", "XMB-LTCT")]


@given(st.sampled_from(layouts()), st.data())
@settings(max_examples=60)
def test_readings_survive_the_push(layout, data):
    energy, small = st.integers(0, 99_999), st.integers(0, 6_000).map(lambda v: v * 10)
    per_channel = {"import_wh": energy, "import_vah": energy, "voltage_v": small, "current_a": small}
    if layout.model == "XMB-LTCT":
        per_channel = dict.fromkeys(("import_wh", "import_vah", "export_wh", "export_vah"), energy)
    row = st.tuples(st.integers(1_700_000_000, 1_900_000_000), st.fixed_dictionaries({}, optional=per_channel))
    rows = data.draw(st.lists(row, max_size=4))
    body = decode_all(encode(push_body(layout, b"XMA0001", CLOCK, rows)))
    push = read_push(layout, body)
    assert (push.device_id, push.push_object, push.clock_stamp_s) == (b"XMA0001", PUSH_OBJECT, 1_790_000_100)
    assert push.rows == rows


def test_scalers_round_half_up():
    row = (
        Data(Tag.OCTET_STRING, CLOCK.encode()),
        Data(Tag.LONG_UNSIGNED, 2301),
        Data(Tag.DOUBLE_LONG, -5),
        NULL,
        Data(Tag.LONG_UNSIGNED, 175),
    )
    body = _body(Data(Tag.ARRAY, (Data(Tag.STRUCTURE, row),)))
    assert read_push(XMA, body).rows == [(1_790_000_100, {"voltage_v": 23010, "import_wh": -5, "current_a": 1750})]
    fine = PushLayout("T", "T", PUSH_OBJECT, (Column("1.0.1.29.0.255", 2, Tag.DOUBLE_LONG, -1, "Wh"),), "flat")
    for number, stored in ((15, 2), (14, 1), (-15, -1), (-16, -2)):
        assert read_push(fine, _body(Data(Tag.DOUBLE_LONG, number))).rows == [(None, {"import_wh": stored})]


def _body(*tail):
    head = (Data(Tag.OCTET_STRING, b"D"), Data(Tag.OCTET_STRING, obis_bytes(PUSH_OBJECT)), Data(Tag.OCTET_STRING, CLOCK.encode()))
    return Data(Tag.STRUCTURE, head + tail)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e12])
def test_a_value_that_is_no_int32_is_absent(number):
    layout = PushLayout("T", "T", PUSH_OBJECT, (Column("1.0.1.29.0.255", 2, Tag.FLOAT64, 3, "Wh"),), "row")
    assert read_push(layout, _body(Data(Tag.STRUCTURE, (Data(Tag.FLOAT64, number),)))).rows == [(None, {})]


def test_an_unknown_column_shifts_nothing():
    columns = (Column("1.0.99.99.0.255", 2, Tag.UNSIGNED, 0, ""), *XMA.columns[1:3])
    layout = PushLayout("T", "T", PUSH_OBJECT, columns, "flat")
    body = _body(Data(Tag.UNSIGNED, 9), Data(Tag.LONG_UNSIGNED, 2300), Data(Tag.DOUBLE_LONG, 42))
    assert read_push(layout, body).rows == [(None, {"voltage_v": 23000, "import_wh": 42})]


@pytest.mark.parametrize(
    "body",
    [
        NULL,
        _body(),
        _body(NULL),
        _body(Data(Tag.ARRAY, (NULL,))),
        _body(Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (NULL,) * 4),))),
        _body(Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (NULL, Data(Tag.LONG, 1), NULL, NULL, NULL)),))),
        _body(Data(Tag.ARRAY, (Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, b"short"), NULL, NULL, NULL, NULL)),))),
        Data(Tag.STRUCTURE, (Data(Tag.OCTET_STRING, b"D"), Data(Tag.OCTET_STRING, bytes(6)), Data(Tag.OCTET_STRING, bytes(12)), NULL)),
    ],
)
def test_another_layout_is_refused_by_name(body):
    with pytest.raises(MeterError) as caught:
        read_push(XMA, body)
    assert caught.value.cause == "layout"


def test_unknown_model_names_the_known_ones():
    with pytest.raises(DataError, match="XMA XMA-1P"):
        layout_for("X", "Y", PUSH_OBJECT)


def test_obis_text_and_bytes():
    assert obis_text(obis_bytes("1.0.99.1.0.255")) == "1.0.99.1.0.255"
    for wrong in ("1.0.99.1.0", "1.0.99.1.0.256", "a.b"):
        with pytest.raises(RequestError, match="OBIS"):
            obis_bytes(wrong)
