"""`openami decode`: every recorded frame is explained as its source says; broken input is said in a sentence, and nothing raises."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from field.commands import Commands
from openami import cli
from openami.cosem.apdu import Block, GeneralBlock, GetBlock
from openami.cosem.apdu_octets import encode_apdu
from openami.cosem.axdr import Data, Tag, encode
from openami.cosem.ciphering import GENERAL_GLO, Keys, seal
from openami.cosem.clock import CosemDateTime
from openami.cosem.hdlc import LLC_RESPONSE, Address, Frame
from openami.cosem.notification import DataNotification
from openami.cosem.push import layout_for, push_body
from openami.cosem.wrapper import wrap
from openami.errors import InputError
from openami.field.apdus import NAMES as TAG_NAMES
from openami.field.apdus import Secrets
from openami.field.decode import complaint, decode, parse_text, read_input
from openami.field.framing import mbus_frames
from openami.field.obis import named, obis_name
from openami.field.values import date_time

CASES = Path(__file__).parents[1] / "cases" / "cosem"  # MIT and public numbers; sources and licences stand beside them
SHARED = Path(__file__).parents[3] / "shared" / "vectors" / "dlms"
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
TITLE = b"XMA\0\0\0\0\7"


def frames(name, folder=CASES):
    return json.loads((folder / f"{name}.json").read_text())["frames"]


EVERY = [f for name in ("amshan_kaifa_kamstrup_hdlc", "dlms_cosem_tests", "green_book_examples") for f in frames(name)]
WITHOUT_END = ("test_decode_long", "GetResponseLastBlock", "GetResponseWithBlock")
NAMES = {
    "A-XDR structure": "structure", "LLC + data-notification": "LLC", "LLC + AARQ": "LLC", "LLC + AARE": "LLC", "HDLC frame(s)": "HDLC frame",
    "AARQ": "association request (AARQ)", "AARE": "association response (AARE)", "RLRQ": "release request (RLRQ)",
    "RLRE": "release response (RLRE)", "get-request": "get-request", "get-response": "get-response", "set-request": "set-request",
    "set-response": "set-response", "action-request": "action-request", "action-response": "action-response",
    "general-glo-ciphering": "general-glo-ciphering", "data-notification": "data-notification", "initiate-response": "initiate-response",
    "glo-initiate-request": "glo-initiate-request", "wrapper + general-glo-ciphering": "wrapper",
}  # fmt: skip


def secrets(frame):
    keys = frame.get("keys") or {}
    return Secrets(*(bytes.fromhex(keys.get(name) or "") for name in ("ek", "ak", "system_title")))


def explained(octets, given=None, lines=()):
    return decode(octets, list(lines), given or Secrets())


def all_of(nodes):
    for node in nodes:
        yield node
        yield from all_of(node.inside)


def find(nodes, what):
    return next(node for node in all_of(nodes) if what in node.what)


# -- recorded frames --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", EVERY, ids=lambda f: f["hex"][:24])
def test_every_recorded_frame_is_what_its_source_says(frame):
    nodes = explained(bytes.fromhex(frame["hex"]), secrets(frame))
    problems = [problem for node in nodes for problem in node.problems()]
    if "test_start_read_in_frame" in frame["name"]:  # garbage in front of a frame, whatever it looks like
        assert [node.what for node in nodes] == ["bytes", "HDLC frame"]
    elif "raises" in frame["name"]:  # made wrong on purpose: it is still named by its tag
        assert nodes[0].what == TAG_NAMES[int(frame["hex"][:2], 16)]
    else:
        assert NAMES.get(frame["what_it_is"], nodes[0].what) in [node.what for node in nodes]
        whole = not any(word in frame["name"] for word in WITHOUT_END) and "abort" not in frame["name"]
        assert not (whole and problems)


XML_NUMBERS = {"UInt8": 0, "UInt16": 0, "UInt32": 0, "UInt64": 0, "Int8": 8, "Int16": 16, "Int32": 32, "Enum": 0}


def said_leaves(text):
    """The values that the independent decoder names, in order."""
    for element in ElementTree.fromstring("<all>" + text.replace("\r\n", "") + "</all>").iter():
        value = element.get("Value") or ""
        if element.tag in XML_NUMBERS:
            number, width = int(value, 16), XML_NUMBERS[element.tag]
            yield number - (1 << width) if width and number >> (width - 1) else number
        elif element.tag == "OctetString":
            yield value.lower()
        elif element.tag in ("String", "BitString"):
            yield value
        elif element.tag == "None":
            yield None


@pytest.mark.parametrize("frame", [f for f in EVERY if f["what_it_is"] == "A-XDR structure"], ids=lambda f: f["hex"][:24])
def test_values_are_those_of_the_independent_decoder(frame):
    leaves = [n.value for n in all_of(explained(bytes.fromhex(frame["hex"]))) if n.what not in ("structure", "array")]
    assert leaves == list(said_leaves(frame["gurux_xml"]))


@pytest.mark.skipif(not SHARED.exists(), reason="the capture has no licence to be shipped with")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_kaifa_ma309_over_wired_mbus(number):
    frame = frames("kaifa_ma309_tinetz", SHARED)[number]
    nodes = explained(bytes.fromhex(frame["hex"]), secrets(frame))
    assert not [problem for node in nodes for problem in node.problems()]
    means = [node.means for node in all_of(nodes)]
    assert "1.0.32.7.0.255 voltage, phase R, now: 230.8 V" in means
    assert "1.0.1.8.0.255 active import, energy register: 9108 Wh" in means
    assert '"1KFM0100000035"' in means
    assert find(nodes, "data-notification").fields["time"] == "2021-07-19 Monday 15:46:35, UTC+02:00, daylight saving"


def test_a_get_request_by_range_names_what_it_asks_for():
    frame = next(f for f in EVERY if f["hex"].startswith("c001c100070100630100ff0201010204020412000809060000010000ff0f"))
    nodes = explained(bytes.fromhex(frame["hex"]))
    assert find(nodes, "attribute").means == "profile generic 1.0.99.1.0.255 block load profile, 2"
    assert find(nodes, "selection").means == "by range"
    assert "clock 0.0.1.0.0.255 clock, attribute 2" in [node.means for node in all_of(nodes)]


# -- ciphering ----------------------------------------------------------------------------------------------------------------------


def block_load_push(control=0x30):
    layout = layout_for("XMA", "XMA-1P", "0.5.25.9.0.255")
    rows = [(1_790_000_100, {"import_wh": 123, "voltage_v": 23150, "current_a": 1230})]
    body = push_body(layout, b"XMA0000007", CosemDateTime.from_stamp(1_790_000_105), rows)
    plain = DataNotification(7, True, False, b"", body).encode()
    return wrap(1, 64, seal(GENERAL_GLO, TITLE, control, 41, KEYS, plain))


@pytest.mark.parametrize("control", [0x20, 0x30])
@pytest.mark.parametrize("auth_key", [KEYS.ak, b""])
def test_a_ciphered_push_is_opened_down_to_its_columns(control, auth_key):
    nodes = explained(block_load_push(control), Secrets(KEYS.ek, auth_key))
    assert find(nodes, "general-glo-ciphering").fields["invocation counter"] == 41
    means = [node.means for node in all_of(nodes)]
    assert "1.0.12.27.0.255 voltage, average of the interval: 231.5 V" in means
    assert "1.0.1.29.0.255 active import, energy of the interval: 123 Wh" in means
    assert find(nodes, "device id").means == '"XMA0000007"'


def test_whether_the_tag_was_checked_is_said():
    assert find(explained(block_load_push(), Secrets(KEYS.ek, KEYS.ak)), "glo").fields["tag checked"] == "yes, it holds"
    assert find(explained(block_load_push(), Secrets(KEYS.ek)), "glo").fields["tag checked"] == "no: give --auth-key"


def test_without_a_key_the_header_is_shown_and_the_way_to_more():
    node = find(explained(block_load_push()), "general-glo-ciphering")
    assert node.fields["plain APDU"] == "give --key to see it"
    assert not node.problem


@pytest.mark.parametrize(("control", "word"), [(0x30, "tag does not hold"), (0x20, "wrong key")])
def test_a_wrong_key_is_said(control, word):
    nodes = explained(block_load_push(control), Secrets(bytes(16), KEYS.ak))
    assert word in complaint(nodes)


def test_no_key_is_shown():
    shown = json.dumps([node.as_json() for node in explained(block_load_push(), Secrets(KEYS.ek, KEYS.ak))])
    assert KEYS.ek.hex() not in shown
    assert KEYS.ak.hex() not in shown


# -- pieces -------------------------------------------------------------------------------------------------------------------------


LONG = encode(Data(Tag.ARRAY, tuple(Data(Tag.STRUCTURE, (Data(Tag.LONG_UNSIGNED, k), Data(Tag.NULL, None))) for k in range(40))))
NOTIFICATION = DataNotification(9, False, False, b"", Data(Tag.OCTET_STRING, bytes(300))).encode()


def test_hdlc_segments_are_put_together_also_with_another_stations_between():
    client, server = Address(16), Address(1, 17, 2)
    whole = LLC_RESPONSE + NOTIFICATION
    cut = [Frame(client, server, 0x10 | 2 * k, whole[k * 110 : k * 110 + 110], k < 2).encode() for k in range(3)]
    other = Frame(Address(32), server, 0x73, b"").encode()
    nodes = explained(b"".join((cut[0], other, cut[1], b"\x00\x11", cut[2])))
    assert [node.what for node in nodes] == ["HDLC frame", "HDLC frame", "HDLC frame", "bytes", "HDLC frame"]
    assert find(nodes, "octet-string").value == bytes(300).hex()


def test_blocks_of_an_answer_are_put_together_line_by_line():
    lines = [encode_apdu(GetBlock(0xC1, Block(k == 2, k + 1, LONG[k * 90 : k * 90 + 90]))) for k in range(3)]
    nodes = explained(b"".join(lines), lines=lines)
    assert [node.what for node in nodes] == ["get-response"] * 3
    assert not [problem for node in nodes for problem in node.problems()]
    assert [len(node.inside[0].inside) for node in nodes][2] == 40


def test_general_blocks_are_put_together():
    lines = [encode_apdu(GeneralBlock(k == 3, False, 1, k + 1, 0, NOTIFICATION[k * 100 : k * 100 + 100])) for k in range(4)]
    nodes = explained(b"".join(lines), lines=lines)
    assert find(nodes, "octet-string").value == bytes(300).hex()


def test_a_last_block_alone_says_that_its_beginning_is_missing():
    node = explained(encode_apdu(GetBlock(0xC1, Block(True, 3, LONG[:50]))))[0]
    assert node.fields["note"] == "the blocks in front of this one were not given"


def test_a_value_that_is_cut_short_is_shown_as_far_as_it_goes():
    nodes = explained(LONG[:100])
    assert [n.value for n in all_of(nodes) if n.what == "long-unsigned"][:4] == [0, 1, 2, 3]
    assert "element" in complaint(nodes)


def test_mbus_checks_are_made():
    body = b"\x53\xff\x11\x01\x67" + NOTIFICATION[:100]
    frame = bytes((0x68, len(body), len(body), 0x68)) + body + bytes((sum(body) & 0xFF, 0x16))
    assert mbus_frames(frame) == [(frame, "")]
    assert mbus_frames(frame[:-2] + b"\x00\x16")[0][1] == "the checksum does not hold"
    assert "missing" in mbus_frames(frame[:-4])[0][1]


# -- words --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obis", "name"),
    [
        ("1.0.1.8.2.255", "active import, energy register, zone 2"),
        ("0.0.99.98.4.255", "event log, other"),
        ("0.5.25.9.0.255", "push setup"),
        ("1.1.1.7.0.255", "active import, now"),
        ("0.1.1.0.0.255", "clock"),
        ("1.0.250.1.0.255", ""),
        ("7.0.3.0.0.255", ""),
    ],
)
def test_codes_have_names_where_they_are_known(obis, name):
    assert obis_name(obis) == name
    assert named(obis).startswith(obis)


def test_what_a_date_time_leaves_open_is_shown_open():
    assert (
        date_time(CosemDateTime(2026, 3, None, None, 12, None, None, None, -330, 1).encode()) == "2026-03--- 12:--:--, UTC+05:30, invalid"
    )


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"\x0a\x05\x1b[2Jx", "\\x1b[2Jx"),
        (b"\x0c\x02\xffa", "\\udcffa"),
        (b"\x17\x7f\x80\x00\x00", "inf"),
        (b"\x17\x7f\xc0\x00\x00", "nan"),
    ],
)
def test_values_that_would_harm_a_terminal_or_json_are_written_out(octets, shown):
    assert explained(octets)[0].value == shown


# -- input --------------------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=40), st.sampled_from(["", " ", ":", ", ", "\n", " 0x", "\\x", "-"]), st.booleans())
def test_hex_may_be_written_in_many_ways(octets, between, upper):
    text = between.join(f"{octet:02X}" if upper else f"{octet:02x}" for octet in octets)
    assert parse_text(f"# a comment\n{text}\n")[0] == octets


@pytest.mark.parametrize(("text", "words"), [("7e a", "odd"), ("7e\nxyz", "line 2"), ("\n\n", "empty"), ("# only this", "empty")])
def test_text_that_is_no_hex_is_refused_in_a_sentence(text, words):
    with pytest.raises(InputError, match=words):
        parse_text(text)


def test_raw_bytes_are_read_as_they_are(tmp_path):
    path = tmp_path / "capture.bin"
    path.write_bytes(block_load_push())
    assert read_input(str(path)) == (block_load_push(), [block_load_push()])


@given(st.one_of(st.binary(max_size=300), st.tuples(st.sampled_from([bytes.fromhex(f["hex"])[:400] for f in EVERY]), st.data())))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_it_fall(case):
    octets = case
    if isinstance(case, tuple):
        base, data = case
        at = data.draw(st.integers(0, len(base) - 1))
        octets = base[:at] + bytes((data.draw(st.integers(0, 255)),)) + base[at + 1 : data.draw(st.integers(at, len(base)))]
    try:
        nodes = explained(octets, Secrets(KEYS.ek, b"", TITLE))
    except InputError:
        return
    assert nodes, "something is said of any bytes"
    assert complaint(nodes).isprintable()
    text = json.dumps([node.as_json() for node in nodes], ensure_ascii=False, allow_nan=False)
    assert text.encode("utf-8").decode().isprintable()


def command(monkeypatch, capsys, *words):
    """(exit code, standard output, standard error) of `openami decode ...`."""
    monkeypatch.setattr(sys, "argv", ["openami", "decode", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_the_command_prints_a_tree_or_json(monkeypatch, capsys):
    push = block_load_push().hex()
    code, out, _ = command(monkeypatch, capsys, push, "--key", KEYS.ek.hex(), "--auth-key", KEYS.ak.hex())
    assert code == 0
    assert "└── " in out
    assert "231.5 V" in out
    code, out, _ = command(monkeypatch, capsys, push, "--json")
    assert (code, json.loads(out)[0]["what"]) == (0, "wrapper")


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-file",),
        ("",),
        ("7e",),
        ("0x7e7e",),
        ("7ea",),
        ("deadbeef",),
        ("6036a109",),
        (block_load_push().hex(), "--key", "zz"),
        (block_load_push().hex(), "--key", "00"),
        (block_load_push().hex(), "--key", bytes(16).hex(), "--auth-key", bytes(16).hex()),
        (block_load_push().hex(), "--system-title", "0011"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(monkeypatch, capsys, words):
    code, _, err = command(monkeypatch, capsys, *words)
    assert code == 2
    assert err.startswith("openami: ")
    assert len(err.strip().splitlines()) == 1


def test_general_ciphering_is_explained_and_opened(monkeypatch, capsys):
    openami = Commands(monkeypatch, capsys)
    octets = (
        "dd080000000000000001084f414d000000000108584d41000000000700000100001e30000000053a228d635908264f4b2eda6cb1e82c87b2aedc5f358dcb7f29"
    )
    keys = ("--key", "000102030405060708090a0b0c0d0e0f", "--auth-key", "101112131415161718191a1b1c1d1e1f")
    code, out, err = openami("decode", octets, *keys)
    assert (code, err) == (0, "")
    assert "transaction id: 0000000000000001" in out
    assert "recipient: 584d410000000007" in out
    assert "tag checked: yes, it holds" in out
    assert "0.0.42.0.0.255" in out
    assert "does not hold" in openami("decode", octets, *keys[:3], "00" * 16)[2]
