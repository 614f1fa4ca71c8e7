"""`openami listen` as the process that it is: one line for each push over TCP and UDP, decoded or refused with its cause; never a key."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from field.commands import Commands
from headend.meters import AUTHENTICATED, ENCRYPTED, KEYS, OTHER, push
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys, open_sealed, parse_sealed
from openami.cosem.clock import CosemDateTime
from openami.cosem.hdlc import Address, Frame, HdlcReader
from openami.cosem.notification import DataNotificationConfirm
from openami.cosem.push import obis_bytes
from openami.cosem.wrapper import unwrap
from openami.field.listen import UNPROTECTED, load_meters, meaning
from openami.registry import Meter


def as_row(meter):
    keys = KEYS[meter.serial]
    return {"serial": meter.serial, "system_title": meter.system_title.hex(), "ek": keys.ek.hex(), "ak": keys.ak.hex()}


ROWS = [as_row(ENCRYPTED), as_row(AUTHENTICATED)]


def as_json(path):
    path.write_text(json.dumps(ROWS))


def as_csv(path):
    path.write_text("\n".join([",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]))


class Listener:
    def __init__(self, meters, *words):
        command = [sys.executable, "-m", "openami", "listen", "--port", "0", "--meters", str(meters), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.unread = b""
        self.port = json.loads(self.process.stderr.readline())["port"]

    def line(self):
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], 60)
            assert ready, "no line came"
            self.unread += os.read(self.process.stdout.fileno(), 65_536)
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def send(self, *frames):
        """Over TCP; gives what came back for the last."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(b"".join(frames))
            return connection.recv(4096)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=[as_json, as_csv], ids=["json", "csv"])
def meters(request, tmp_path):
    path = tmp_path / "meters"
    request.param(path)
    return path


def test_pushes_over_tcp_and_udp_are_a_line_each(meters):
    with Listener(meters, "--json") as listener:
        confirmation = listener.send(push(ENCRYPTED, 100))
        said = json.loads(listener.line())
        assert len(unwrap(confirmation)) == 1
        assert (said["serial"], said["confirmed"]) == ("XMA0000001", True)
        assert said["body"][0] == "XMA0000001"
        assert 250 in said["body"][3][0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(push(AUTHENTICATED, 100), ("127.0.0.1", listener.port))
            assert json.loads(listener.line())["serial"] == "XMB0000002"


def test_refused_pushes_are_told_with_their_cause_and_no_key(meters):
    wrong = Keys(b"\x09" * 16, b"\x08" * 16)
    frames = {"bad_tag": push(AUTHENTICATED, 200, wrong), "undecipherable": push(ENCRYPTED, 200, wrong), "unknown_meter": push(OTHER)}
    with Listener(meters, "--json") as listener:
        listener.send(push(AUTHENTICATED, 100))
        lines = [listener.line()]
        for cause, octets in (*frames.items(), ("replayed_counter", push(AUTHENTICATED, 100))):
            with socket.create_connection(("127.0.0.1", listener.port), timeout=60) as connection:
                connection.sendall(octets)
                lines.append(listener.line())
            said = json.loads(lines[-1])
            assert said["refused"] == cause
            assert said["octets"] == octets.hex()
        everything = "\n".join(lines)
    assert all(key.hex() not in everything for keys in KEYS.values() for key in (keys.ek, keys.ak))


KAIFA_I = bytes.fromhex("7ea027010201105a87e6e7000f40000000090c07e4020f06011922ff8000000201060000157eea5e7e")
"""A recorded push in an I frame, with a flag's byte inside (tests/cases/cosem, amshan_kaifa_kamstrup_hdlc.json: MIT)."""


def in_hdlc(octets, size=2030, control=0x13):
    """A wrapper push as a meter at station 1/17 sends it over HDLC, in segments of `size` bytes."""
    information = b"\xe6\xe7\x00" + unwrap(octets)[0].apdu
    pieces = [information[at : at + size] for at in range(0, len(information), size)]
    return b"".join(Frame(Address(64), Address(1, 17, 2), control, piece, k < len(pieces) - 1).encode() for k, piece in enumerate(pieces))


@pytest.mark.parametrize(("size", "control"), [(2030, 0x13), (40, 0x13), (40, 0x10)], ids=["UI", "UI in segments", "I in segments"])
def test_pushes_in_hdlc_frames_are_told_and_confirmed(meters, size, control):
    with Listener(meters, "--json") as listener:
        (frame,) = HdlcReader().feed(listener.send(b"\x7e\x7e" + in_hdlc(push(AUTHENTICATED, 100), size, control)))
        said = json.loads(listener.line())
        assert (said["serial"], said["confirmed"]) == ("XMB0000002", True)
        assert (frame.destination, frame.source, frame.control) == (Address(1, 17, 2), Address(64), 0x13)
        sealed = parse_sealed(frame.information[3:])
        assert DataNotificationConfirm.decode(open_sealed(sealed, KEYS["XMB0000002"])).confirmed
        wrapped = listener.send(push(ENCRYPTED, 100))
    assert len(unwrap(wrapped)) == 1


def test_what_is_wrong_in_hdlc_is_told_and_costs_only_itself(meters):
    good = in_hdlc(push(ENCRYPTED, 100))
    damaged = bytearray(in_hdlc(push(ENCRYPTED, 101)))
    damaged[40] ^= 1
    no_push = Frame(Address(64), Address(1), 0x93).encode()
    cut = in_hdlc(push(ENCRYPTED, 102))[:50]
    with Listener(meters, "--json") as listener, socket.create_connection(("127.0.0.1", listener.port), timeout=60) as connection:
        connection.sendall(no_push + KAIFA_I)
        said = [json.loads(listener.line()) for _ in range(2)]
        connection.sendall(bytes(damaged))
        said.append(json.loads(listener.line()))
        connection.sendall(good)
        said.append(json.loads(listener.line()))
        connection.sendall(cut)
        connection.shutdown(socket.SHUT_WR)
        said.append(json.loads(listener.line()))
    assert [one.get("refused") for one in said] == ["malformed", "malformed", "malformed", None, "malformed"]
    assert said[0]["why"] == "an HDLC frame that carries no push"
    assert (said[1]["body"], said[1]["why"]) == ([5502], UNPROTECTED)
    assert said[2]["why"] == "an HDLC frame check does not hold"
    assert said[3]["serial"] == "XMA0000001"


def test_many_pushes_at_once_are_all_told(meters):
    with Listener(meters) as listener:
        listener.send(*(push(ENCRYPTED, 100 + k) for k in range(40)))
        lines = [listener.line() for _ in range(40)]
    assert all(line.startswith("push     XMA0000001  ") for line in lines)


def test_ctrl_c_ends_it_in_peace_and_its_journal_refuses_replays(meters, tmp_path):
    journal = tmp_path / "kept.db"
    with Listener(meters, "--journal", str(journal)) as listener:
        listener.send(push(ENCRYPTED, 100))
        assert listener.line().startswith("push")
        listener.process.send_signal(signal.SIGINT)
        assert listener.process.wait(timeout=60) == 0
    with Listener(meters, "--journal", str(journal)) as listener, socket.create_connection(("127.0.0.1", listener.port)) as connection:
        connection.sendall(push(ENCRYPTED, 100))
        assert listener.line().startswith("refused  replayed_counter  XMA0000001")


@pytest.fixture
def openami(monkeypatch, capsys):
    return Commands(monkeypatch, capsys)


BAD = [
    ("", "names no meter"),
    ("[]", "names no meter"),
    ("[1]", "meter 1: system_title must be 16 hex digits"),
    ("[{]", "cannot be read"),
    ('"text"', "names no meter"),
    (json.dumps([ROWS[0] | {"ek": "00"}]), "meter 1: ek must be 32 or 64 hex digits"),
    (json.dumps([ROWS[0] | {"system_title": "zz" * 8}]), "meter 1: system_title must be 16 hex digits"),
    (json.dumps([ROWS[0], ROWS[0]]), "meter 2: system title 584d410000000001 stands twice"),
    (json.dumps({"meters": 5}), "names no meter"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_file_that_names_no_meters_is_one_sentence_and_exit_2(openami, tmp_path, text, said):
    path = tmp_path / "meters.json"
    path.write_text(text)
    code, out, err = openami("listen", "--meters", path, "--port", "0")
    assert (code, out) == (2, "")
    assert said in err
    assert ROWS[0]["ak"] not in err


def test_no_file_and_no_port(openami, tmp_path, meters):
    assert "is not there; give --meters" in openami("listen", "--meters", tmp_path / "none")[2]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = openami("listen", "--meters", meters, "--port", taken.getsockname()[1])
        assert code == 2
        assert "give another --port" in err
    code, _, err = openami("listen", "--meters", meters, "--port", 70_000)
    assert code == 2
    assert "cannot listen on 127.0.0.1:70000" in err


SIMULATED = Meter("XMA0000001", bytes(8), "OAM", "SIM-1P", 0, 0, 0, 0)


def pushed(push_object, *tail):
    head = (b"XMA0000001", obis_bytes(push_object), CosemDateTime.from_stamp(1_790_000_000).encode())
    return Data(Tag.STRUCTURE, (*(Data(Tag.OCTET_STRING, one) for one in head), *tail))


def test_a_status_word_is_told_in_words_whatever_the_meter():
    word = "".join("1" if bit in (81, 85, 120) else "0" for bit in range(128))
    said = meaning(pushed("0.4.25.9.0.255", Data(Tag.BIT_STRING, word)), None)
    assert said == {"kind": "events", "status": ["magnet held to the meter", "last gasp: supply is going", "bit 120"]}


def test_registers_of_a_known_layout_are_told_with_their_units():
    row = (
        Data(Tag.OCTET_STRING, CosemDateTime.from_stamp(1_790_000_000).encode()),
        *(Data(Tag.DOUBLE_LONG_UNSIGNED, k) for k in (4711, 2, 3, 4)),
    )
    body = pushed("0.6.25.9.0.255", Data(Tag.ARRAY, (Data(Tag.STRUCTURE, row),)))
    (said,) = meaning(body, SIMULATED)["rows"]
    assert (said["stamp"], said["values"]["1.0.1.8.0.255"]) == ("2026-09-21T14:13:20Z", {"value": 4711.0, "unit": "Wh"})
    other = pushed("0.6.25.9.0.255", Data(Tag.ARRAY, (Data(Tag.STRUCTURE, row[:2]),)))
    assert "has 2 columns, not 5" in meaning(other, SIMULATED)["problem"]
    assert meaning(Data(Tag.STRUCTURE, ()), SIMULATED) == {"kind": None}


def test_what_openami_meter_prints_is_a_file_of_meters(tmp_path):
    path = tmp_path / "meter.json"
    path.write_text(
        json.dumps({"meter": "XMA0000009", "maker": "OAM", "model": "SIM-1P", **{k: ROWS[0][k] for k in ("system_title", "ek", "ak")}})
    )
    (peer,) = load_meters(path).values()
    assert (peer.meter.serial, peer.meter.maker, peer.meter.model) == ("XMA0000009", "OAM", "SIM-1P")


@pytest.mark.parametrize(
    "written",
    [
        "serial,system_title,ek,ak\nXMA7,{title},{key},{key}\n",
        "\ufeffserial,system_title,ek,ak\r\nXMA7,{title},{key},{key}\r\n",
        "\ufeffserial;system_title;ek;ak\nXMA7;{title};{key};{key}\n",
        "serial, system_title, ek, ak\nXMA7, 0x{title}, 0x{key}, {key} \n",
    ],
    ids=["plain", "byte order mark", "semicolons", "spaces and 0x"],
)
def test_a_list_from_a_spreadsheet_is_read_as_it_is_written(tmp_path, written):
    file = tmp_path / "meters.csv"
    file.write_text(written.format(title="584d410000000007", key="0f" * 16), encoding="utf-8")
    ((title, peer),) = load_meters(file).items()
    assert (title.hex(), peer.meter.serial, peer.keys.ak.hex()) == ("584d410000000007", "XMA7", "0f" * 16)
