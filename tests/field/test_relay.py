"""`openami relay` against simulated meters of every control mode: "ready" is not "on", done is what was read back, exit code 3 is "not yet"."""

from __future__ import annotations

import json

import pytest

from field.commands import Commands, access
from served import ServedMeter

ON = {"output": True, "control_state": "connected"}
OFF = {"output": False, "control_state": "disconnected"}
READY = {"output": False, "control_state": "ready for reconnection"}


@pytest.fixture
def openami(monkeypatch, capsys):
    return Commands(monkeypatch, capsys)


def relay(openami, meter, order, *words, client="us"):
    code, out, err = openami("relay", meter.url, order, "--json", *words, *access(meter, client))
    return code, json.loads(out) if out else None, err


def stands(said):
    return {name: said[name] for name in ("output", "control_state")}


@pytest.mark.parametrize("hdlc", [False, True], ids=["wrapper", "hdlc"])
@pytest.mark.parametrize("mode", [2, 4])
def test_modes_that_close_at_once(openami, mode, hdlc):
    with ServedMeter(hdlc=hdlc, control_mode=mode, days=1, months=0) as meter:
        code, said, _ = relay(openami, meter, "off", "--wait", "0")
        assert (code, stands(said), said["accepted"], said["done"]) == (0, OFF, True, True)
        code, said, _ = relay(openami, meter, "on", "--wait", "0")
        assert (code, stands(said), said["done"], said["control_mode"]) == (0, ON, True, mode)


@pytest.mark.parametrize("mode", [1, 3, 5, 6])
def test_modes_that_only_get_ready(openami, mode):
    with ServedMeter(control_mode=mode, days=1, months=0) as meter:
        assert relay(openami, meter, "off", "--wait", "0")[0] == 0
        code, said, err = relay(openami, meter, "on", "--wait", "0")
        assert (code, stands(said), said["accepted"], said["done"]) == (3, READY, True, False)
        assert "ask again with: openami relay" in err
        code, said, _ = relay(openami, meter, "on", "--wait", "0")
        assert (code, stands(said), said["accepted"]) == (3, READY, False), "a meter in ready is not sent the order again"
        meter.now_s += 40
        if mode in (1, 3):
            assert stands(relay(openami, meter, "state")[1]) == READY
            meter.device.objects[70, "0.0.96.3.10.255"].press_button(meter.now_s)
        code, said, _ = relay(openami, meter, "on", "--wait", "0")
        assert (code, stands(said), said["accepted"]) == (0, ON, None), "closed by itself or by hand: nothing to send"


def test_mode_0_takes_no_order(openami):
    with ServedMeter(control_mode=0, days=1, months=0) as meter:
        code, said, err = relay(openami, meter, "off", "--wait", "0")
        assert (code, said) == (2, None)
        assert "does not do 0.0.96.3.10.255 (class 70, 1) for client 48: temporary failure" in err


def test_only_the_utility_moves_the_relay_but_the_reader_sees_it(openami):
    with ServedMeter(days=1, months=0) as meter:
        assert stands(relay(openami, meter, "state", client="mr")[1]) == ON
        code, _, err = relay(openami, meter, "off", client="mr")
        assert code == 2
        assert "for client 32: read write denied" in err
        assert stands(relay(openami, meter, "state")[1]) == ON


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up",), "'up' is no order for a relay; write off, on or state"),
        (("off", "--wait", "-1"), "--wait -1"),
        (("off", "--wait", "nan"), "--wait nan"),
        (("off", "--client", "public"), "to client 16: "),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(openami, words, said):
    with ServedMeter(days=1, months=0) as meter:
        code, out, err = openami("relay", meter.url, *words, *(() if "--client" in words else access(meter, "us")))
        assert (code, out) == (2, "")
        assert said in err


def test_for_people(openami):
    with ServedMeter(days=1, months=0) as meter:
        assert openami("relay", meter.url, "state", *access(meter, "us"))[:2] == (0, "connected, output on, control mode 6\n")


def test_a_meter_that_does_not_tell_its_mode_is_switched_all_the_same(openami):
    with ServedMeter(control_mode=4, days=1, months=0) as meter:
        del meter.device.relay.attributes[4]
        code, said, _ = relay(openami, meter, "state")
        assert (code, stands(said), said["control_mode"]) == (0, ON, None)
        assert "control mode not told" in openami("relay", meter.url, "state", *access(meter, "us"))[1]
