"""Makers' own ways of sending, as public descriptions tell them: frames made here in their shape, with nobody's keys or numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from field.commands import Commands
from openami.cosem.apdu import GeneralBlock
from openami.cosem.apdu_octets import encode_apdu
from openami.cosem.axdr import Data, Tag, encode
from openami.cosem.ciphering import GENERAL_GLO, Keys, seal
from openami.cosem.hdlc import LLC_RESPONSE, UI, Address, Frame
from openami.cosem.notification import DataNotification
from openami.cosem.objects import obis_bytes
from openami.field.apdus import Secrets
from openami.field.decode import decode
from openami.field.framing import mbus_frames

KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
TITLE = b"SAG\0\0\0\0\7"


def all_of(nodes):
    for node in nodes:
        yield node
        yield from all_of(node.inside)


def faults(nodes):
    return [problem for node in nodes for problem in node.problems()]


def column(class_id, obis):
    parts = (
        Data(Tag.LONG_UNSIGNED, class_id),
        Data(Tag.OCTET_STRING, obis_bytes(obis)),
        Data(Tag.INTEGER, 2),
        Data(Tag.LONG_UNSIGNED, 0),
    )
    return Data(Tag.STRUCTURE, parts)


def push_with_its_columns():
    """A push whose first part is its push object list: Landis+Gyr E450."""
    columns = (column(40, "0.9.25.9.0.255"), column(3, "1.0.1.8.1.255"), column(1, "0.0.96.1.1.255"))
    values = (Data(Tag.ARRAY, columns), Data(Tag.DOUBLE_LONG_UNSIGNED, 3546968), Data(Tag.OCTET_STRING, b"1299652"))
    return DataNotification(7, False, False, bytes.fromhex("07ea071206103a00ff800000"), Data(Tag.STRUCTURE, values)).encode()


def hdlc(information, segmented=False):
    return Frame(Address(103, 127, 2), Address(1), UI | 0x10, information, segmented).encode()


def test_blocks_without_an_llc_header_behind_the_first_are_joined():
    octets = push_with_its_columns()
    pieces = [octets[k : k + 40] for k in range(0, len(octets), 40)]
    blocks = [encode_apdu(GeneralBlock(k == len(pieces), True, 0, k, 0, piece)) for k, piece in enumerate(pieces, 1)]
    nodes = decode(b"".join(hdlc((LLC_RESPONSE if k == 0 else b"") + block) for k, block in enumerate(blocks)), [], Secrets())
    assert not faults(nodes)
    assert nodes[-1].fields["note"] == "no LLC header"
    assert [node.value for node in all_of(nodes) if "active import, energy register, zone 1" in node.means][-1] == 3546968


def test_a_push_that_brings_its_columns_along_is_named_by_them():
    nodes = decode(push_with_its_columns(), [], Secrets())
    parts = next(node for node in all_of(nodes) if node.what == "body: structure").inside
    assert parts[0].means == "what is pushed, 3 elements"
    assert parts[1].means == "register 1.0.1.8.1.255 active import, energy register, zone 1, attribute 2"
    assert parts[2].means == '"1299652"  data 0.0.96.1.1.255 maker, attribute 2'


def test_columns_that_do_not_fit_the_body_name_nothing():
    values = (Data(Tag.ARRAY, (column(3, "1.0.1.8.0.255"),)), Data(Tag.UNSIGNED, 1))
    push = DataNotification(7, False, False, b"", Data(Tag.STRUCTURE, values)).encode()
    assert next(node for node in all_of(decode(push, [], Secrets())) if node.what == "unsigned").means == ""


TELEGRAM = b"/Lux5\\253000000_D\r\n\r\n0-0:1.0.0(180130102122W)\r\n1-0:1.8.0(000006.695*kWh)\r\n0-1:24.2.1(101209112500W)(12785.123*m3)\r\n!CFDE\r\n"


@pytest.mark.parametrize("control", [0x20, 0x30])
def test_a_text_telegram_inside_ciphering_is_read_line_by_line(control):
    nodes = decode(seal(GENERAL_GLO, TITLE, control, 9, KEYS, TELEGRAM), [], Secrets(KEYS.ek, KEYS.ak))
    lines = next(node for node in all_of(nodes) if node.what == "text telegram").inside
    assert not faults(nodes)
    assert [(line.what, line.value, line.means) for line in lines] == [
        ("identification", "/Lux5\\253000000_D", ""),
        ("0.0.1.0.0.255", "(180130102122W)", "clock"),
        ("1.0.1.8.0.255", "(000006.695*kWh)", "active import, energy register"),
        ("0.1.24.2.1.255", "(101209112500W)(12785.123*m3)", ""),
        ("end", "!CFDE", ""),
    ]


def long_frame(user_data, length):
    """A wired M-Bus long frame around DLMS whose two length bytes say `length`."""
    body = b"\x53\xff\x10\x01\x67" + user_data
    return bytes((0x68, length, length, 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))


@given(st.integers(1, 250))
def test_an_mbus_frame_of_256_bytes_and_more_has_the_low_byte_of_its_length(over):
    user_data = encode(Data(Tag.OCTET_STRING, bytes(k % 200 for k in range(247 + over))))
    size = len(user_data) + 5
    frame = long_frame(user_data, size & 0xFF)
    assert mbus_frames(frame + long_frame(b"\x00\x11", 7)) == [(frame, ""), (long_frame(b"\x00\x11", 7), "")]


def test_a_short_mbus_frame_is_not_taken_for_a_long_one():
    whole = long_frame(b"\x00\x11", 7)
    broken = whole[:-2] + bytes((whole[-2] ^ 1, 0x16))
    assert mbus_frames(broken) == [(broken, "the checksum does not hold")]


def test_a_date_of_five_bytes_is_read():
    assert decode(bytes.fromhex("090507e5030707"), [], Secrets())[0].means == "2021-03-07 Sunday"


def test_hex_digits_longer_than_a_file_name_are_read_from_the_command_line(monkeypatch, capsys):
    """A frame of 130 bytes and more has more digits than a file's name may have."""
    code, out, err = Commands(monkeypatch, capsys)("decode", hdlc(LLC_RESPONSE + push_with_its_columns() + bytes(0)).hex())
    assert (code, err) == (0, "")
    assert "active import, energy register, zone 1" in out
