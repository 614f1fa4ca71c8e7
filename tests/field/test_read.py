"""`openami read` against a simulated meter on a real socket: values for people and as JSON, and one clear sentence for whatever goes wrong."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest

from field.commands import Commands, access
from openami.cosem.acse import Mechanism
from openami.cosem.association import Allow
from openami.cosem.ciphering import Keys
from openami.cosem.server import Violation
from served import ServedMeter

SPAN = ("--from", "2025-11-30T00:30", "--to", "2025-12-01")


@pytest.fixture(scope="module", params=[False, True], ids=["wrapper", "hdlc"])
def meter(request):
    with ServedMeter(hdlc=request.param) as served:
        yield served


@pytest.fixture
def openami(monkeypatch, capsys):
    return Commands(monkeypatch, capsys)


@pytest.mark.parametrize("client", ["public", "mr", "us", "16", "32", "48"])
@pytest.mark.parametrize("form", [(), ("--general",)], ids=["glo", "general-glo"])
def test_every_client_reads_the_serial_number(openami, meter, client, form):
    code, out, err = openami("read", meter.url, "serial", *access(meter, client), *form)
    assert (code, out, err) == (0, "serial  0.0.96.1.0.255  XMA0000007\n", "")


@pytest.mark.parametrize("hls", [Mechanism.HLS, Mechanism.HLS_GMAC, Mechanism.HLS_SHA256])
def test_every_mechanism(openami, hls):
    with ServedMeter(hls=hls, days=1, months=0) as meter:
        assert openami("read", meter.url, "serial", *access(meter, "us"))[0] == 0


def test_a_day_of_block_load_as_json(openami, meter):
    code, out, _ = openami("read", meter.url, "block_load", *SPAN, "--json", *access(meter, "us"))
    (block,) = json.loads(out)
    assert code == 0
    assert (len(block["rows"]), len(block["columns"])) == (48, 8)
    assert block["rows"][0]["stamp"] == "2025-11-29T19:00:00+00:00"
    assert [c["unit"] for c in block["columns"]] == ["", "V", "Wh", "VAh", "Wh", "VAh", "A", ""]


def test_a_profile_for_people_has_its_times_and_units(openami, meter):
    code, out, _ = openami("read", meter.url, "block_load", *SPAN, *access(meter, "mr"))
    assert code == 0
    assert "48 rows" in out
    assert "2025-12-01 00:00" in out
    assert "1.0.1.29.0.255" in out


def test_several_objects_in_one_go(openami, meter):
    words = ["clock", "voltage", "nameplate", "billing", "3:1.0.1.8.0.255:2"]
    code, out, _ = openami("read", meter.url, *words, "--json", *access(meter, "mr"))
    read = {one["object"]: one for one in json.loads(out)}
    assert code == 0
    assert list(read) == words
    assert read["clock"]["value"] == "2025-12-01T06:30:00Z"
    assert read["voltage"]["value"]["unit"] == "V"
    assert read["nameplate"]["rows"][0]["values"][0] == "XMA0000007"
    assert read["3:1.0.1.8.0.255:2"]["value"]["unit"] == "Wh"


def test_a_trace_has_no_secret(openami, meter):
    code, out, err = openami("read", meter.url, "serial", "--trace", "--json", *access(meter, "mr"))
    assert code == 0
    assert json.loads(out)[0]["value"] == "XMA0000007"
    assert {line.split()[0] for line in err.splitlines()} == {"sent", "received"}
    assert "**" in err
    assert meter.identity.password.hex(" ") not in err
    assert meter.identity.password.decode() not in err
    assert meter.identity.keys.ek.hex() not in err.replace(" ", "")


BAD = [
    (("nonsense",), "is no object; write CLASS:OBIS:ATTRIBUTE"),
    (("serial", "--client", "boss"), "--client 'boss' is unknown"),
    (("serial", "--client", "us"), "client 48 must show who it is"),
    (("serial", "--client", "mr"), "give --password"),
    (("serial", "--client", "us", "--hls", "9", "--hls-secret", "x"), "--hls '9' is unknown"),
    (("serial", "--client", "us", "--hls", "2"), "needs the shared secret"),
    (("serial", "--client", "us", "--hls", "5"), "needs the meter's keys"),
    (("serial", "--client", "us", "--hls-secret", "0xzz"), "must be hexadecimal"),
    (("serial", "--ek", "00" * 16), "--ek and --ak belong together"),
    (("serial", "--ek", "00" * 15, "--ak", "00" * 16), "--ek has 15 bytes, it needs 16 or 32"),
    (("serial", "--ek", "zz" * 16, "--ak", "00" * 16), "--ek is not hexadecimal"),
    (("serial", "--system-title", "00"), "--system-title has 1 bytes"),
    (("serial", "--counter", "-1"), "--counter -1 is none"),
    (("serial", "--server", "0"), "--server 0 is no logical device"),
    (("serial", "--timeout", "0"), "--timeout 0"),
    (("serial", "--physical", "20000"), "--physical"),
    (("serial", "--security", "0x20"), "--security needs the meter's keys"),
    (("serial", "--security", "50", "--ek", "00" * 16, "--ak", "00" * 16), "--security '50' is none"),
    (("serial", "--security", "x", "--ek", "00" * 16, "--ak", "00" * 16), "--security 'x' is none"),
    (("serial", "--security", "0x32", "--ek", "00" * 16, "--ak", "00" * 16), "do not belong together"),
    (("serial", "--security", "0x30", "--ek", "00" * 32, "--ak", "00" * 32), "do not belong together"),
    (("serial", "--timeout", "nan"), "--timeout nan"),
    (("block_load", "--from", "yesterday"), "--from 'yesterday' is not a time"),
    (("block_load", "--from", "2025-12-02", "--to", "2025-12-01"), "is before --from"),
    (("block_load",), "does not tell what profile 1.0.99.1.0.255 holds"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_bad_input_is_one_sentence_and_exit_2(openami, meter, words, said):
    code, out, err = openami("read", meter.url, *words, *(["--hdlc"] if meter.hdlc else []))
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_a_wrong_address_and_a_closed_port(openami):
    assert openami("read", "127.0.0.1:4059", "serial")[::2] == (
        2,
        "openami: '127.0.0.1:4059' is not a meter's address; write tcp://HOST:PORT or udp://HOST:PORT, as tcp://192.0.2.7:4059\n",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        code, _, err = openami("read", f"tcp://127.0.0.1:{probe.getsockname()[1]}", "serial")
    assert code == 2
    assert err.startswith("openami: cannot connect to tcp://127.0.0.1:")


@pytest.mark.parametrize(("framing", "step"), [((), "association"), (("--hdlc",), "HDLC link")])
def test_a_silent_peer_is_a_time_out_that_names_the_step(openami, framing, step):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        code, _, err = openami("read", f"tcp://127.0.0.1:{silent.getsockname()[1]}", "serial", "--timeout", "0.2", *framing)
    assert code == 2
    assert f"within 0.2 s while opening the {step}" in err


def test_a_meter_that_wants_more_than_encryption_of_its_reader_gets_it(openami):
    with ServedMeter(days=1, months=0) as meter:
        meter.device.setups[32] = replace(meter.device.setups[32], policy=0x30)
        assert openami("read", meter.url, "serial", *access(meter, "mr"))[0] == 0
        code, _, err = openami("read", meter.url, "serial", "--security", "0x20", *access(meter, "mr"))
        assert code == 2
        assert "refuses client 32" in err
        refused = [one for one in meter.told if isinstance(one, Violation)]
        words = access(meter, "mr")
        words[words.index("--password") + 1] = "wrong"
        assert "wrong password" in openami("read", meter.url, "serial", *words)[2]
        openami("read", meter.url, "serial")  # what was told of the connection before is there once another is served
        wrong = [one for one in meter.told if isinstance(one, Violation)][len(refused) :]
        assert [one.cause for one in wrong].count("authentication") == 1


@pytest.mark.parametrize(("suite", "words"), [(1, ("--security", "0x31")), (2, ()), (2, ("--security", "0x32"))])
def test_every_suite(openami, suite, words):
    size = 32 if suite == 2 else 16
    with ServedMeter(days=1, months=0, keys=Keys(bytes(size), bytes(size)), suite=suite) as meter:
        assert openami("read", meter.url, "serial", *access(meter, "us"), *words)[0] == 0


def test_the_wrong_password_and_the_wrong_key_are_named(openami, meter):
    words = access(meter, "mr")
    words[words.index("--password") + 1] = "wrong"
    assert "wrong password or secret" in openami("read", meter.url, "serial", *words)[2]
    words = access(meter, "us")
    words[words.index("--ek") + 1] = "00" * 16
    code, _, err = openami("read", meter.url, "serial", *words)
    assert code == 2
    assert "the encryption or authentication key is another one" in err


def test_what_is_denied_does_not_take_the_rest_with_it(openami, meter):
    code, out, err = openami("read", meter.url, "serial", "relay_state", "--json", *access(meter, "public"))
    serial, relay = json.loads(out)
    assert (code, serial["value"]) == (2, "XMA0000007")
    assert "read write denied" in relay["error"]
    assert relay["error"] in err
    code, out, err = openami("read", meter.url, "relay_state", "serial", *access(meter, "public"))
    assert (code, out) == (2, "serial  0.0.96.1.0.255  XMA0000007\n")


def test_a_counter_at_the_blue_books_place_and_one_that_is_nowhere(openami):
    with ServedMeter(days=1, months=0) as meter:
        counter = meter.device.objects.pop((1, "0.0.43.1.2.255"))
        code, _, err = openami("read", meter.url, "serial", *access(meter, "mr"))
        assert code == 2
        assert "(0.0.43.1.2.255, 0.0.43.1.0.255: object undefined); give --counter" in err
        assert openami("read", meter.url, "serial", "--counter", "5", *access(meter, "mr"))[0] == 0
        meter.device.objects[1, "0.0.43.1.0.255"] = counter
        meter.device.setups[16] = replace(meter.device.setups[16], rights=(Allow("g"),))
        assert openami("read", meter.url, "serial", *access(meter, "mr"))[0] == 0


def test_events_are_all_logs_with_their_meaning(openami):
    with ServedMeter(days=1, months=0) as meter:
        meter.device.power_off(meter.now_s - 600)
        meter.device.power_on(meter.now_s - 60)
        code, out, err = openami("read", meter.url, "events", "event_status_word", *access(meter, "mr"))
    assert (code, err) == (0, "")
    assert "101 supply failed" in out
    assert "102 supply failed: over" in out
    assert "events_control" in out
    assert "first breath: supply is back]" in out


@pytest.mark.parametrize(
    "name", ["daily", "daily_load", "billing", "instantaneous", "nameplate", "relay_mode", "load_limit", "capture_period", "firmware"]
)
def test_every_name_is_read(openami, meter, name):
    code, out, err = openami("read", meter.url, name, "--json", *access(meter, "mr"))
    (found,) = json.loads(out)
    assert (code, err) == (0, "")
    assert found.get("rows") or found.get("value") is not None


@pytest.mark.parametrize("words", [("--physical", "17"), ("--physical", "300"), ("--physical", "0"), ()])
def test_hdlc_addresses_of_every_length(openami, words):
    with ServedMeter(hdlc=True, days=1, months=0) as meter:
        code, out, err = openami("read", meter.url, "serial", *words, *access(meter, "mr"))
        assert (code, out, err) == (0, "serial  0.0.96.1.0.255  XMA0000007\n", "")


def test_a_physical_device_is_of_hdlc(openami, meter):
    if not meter.hdlc:
        assert "give --hdlc as well" in openami("read", meter.url, "serial", "--physical", "17", *access(meter, "public"))[2]
