"""`openami meter`: what it prints first is enough to talk to it, and what it prints of its contents is what a client reads."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from openami import cli
from openami.cosem.acse import Mechanism
from openami.cosem.apdu import Item, Ref
from openami.cosem.axdr import Data, Tag
from openami.cosem.ciphering import Keys
from openami.field.meter import Wish, event_said, line
from openami.headend.session import READER, UTILITY, Credentials, Denied, MeterAddress, open_session

NOT_LIVE = ("nameplate", "daily_load", "billing", "events_power", "events_other")


@pytest.fixture(params=[(), ("--hdlc",)], ids=["wrapper", "hdlc"])
def running(request):
    """(what the meter said first, the process)."""
    words = [sys.executable, "-m", "openami", "meter", "--port", "0", "--days", "2", "--control-mode", "4", "--json", *request.param]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    yield json.loads(process.stdout.readline()), process
    process.kill()
    process.wait()
    process.stdout.close()


def talk(said, credentials, work):
    async def run():
        address = MeterAddress.parse(said["url"], hdlc=said["framing"] == "hdlc")
        async with await open_session(address, credentials) as session:
            return await work(session)

    return asyncio.run(run())


def reader(said):
    keys = Keys(bytes.fromhex(said["ek"]), bytes.fromhex(said["ak"]))
    return Credentials(READER, Mechanism.LLS, said["password"].encode(), keys)


def utility(said):
    keys = Keys(bytes.fromhex(said["ek"]), bytes.fromhex(said["ak"]))
    return Credentials(UTILITY, Mechanism(said["hls"]), said["hls_secret"].encode(), keys)


def test_a_client_reads_what_was_printed_and_is_reported(running):
    said, process = running
    profiles = {one["name"]: one for one in said["profiles"]}

    async def work(session):
        return {name: await session.get(Item(Ref(7, profiles[name]["obis"], 2))) for name in NOT_LIVE}

    read = talk(said, reader(said), work)
    for name, buffer in read.items():
        numbers = [[one.value for one in row.value if not isinstance(one.value, bytes)] for row in buffer.value]
        printed = [
            [value for value, one in zip(row, whole.value, strict=True) if not isinstance(one.value, bytes)]
            for row, whole in zip(profiles[name]["rows"], buffer.value, strict=True)
        ]
        assert numbers == printed, name
    first = json.loads(process.stdout.readline())
    assert first == {"event": "associated", "client": 16}


def test_the_relay_obeys_the_utility_and_nobody_else(running):
    said, _ = running
    relay, zero = Ref(70, "0.0.96.3.10.255", 1), Data(Tag.INTEGER, 0)

    async def switch(session):
        await session.action(relay, zero)
        return (await session.get(Item(relay._replace(member=2)))).value

    assert talk(said, utility(said), switch) is False
    with pytest.raises(Denied, match="read write denied"):
        talk(said, reader(said), switch)


def test_ctrl_c_ends_it_in_peace(running):
    _, process = running
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--ek", "00"),
        ("--ak", "zz" * 16),
        ("--system-title", "00"),
        ("--serial", "a b"),
        ("--hls", "3"),
        ("--hls-secret", "short"),
        ("--hls-secret", "0xzz"),
        ("--control-mode", "7"),
        ("--days", "0"),
        ("--period", "10"),
        ("--port", "70000"),
        ("--seed", "-1"),
        ("--suite", "3"),
        ("--suite", "2", "--ek", "00" * 16),
        ("--push-to", "nowhere"),
        ("--push-to", "127.0.0.1:0"),
        ("--push-every", "5"),
        ("--push-udp",),
        ("--unconfirmed",),
        ("--push-to", "127.0.0.1:1", "--push-every", "nan"),
        ("--last-gasp", "-1"),
        ("--last-gasp", "0", "--outage", "0"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["openami", "meter", "--port", "0", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    err = capsys.readouterr().err
    assert left.value.code == 2
    assert err.startswith("openami: ")
    assert len(err.strip().splitlines()) == 1


def test_given_secrets_are_used_and_others_are_made_up():
    given = Wish(ek="11" * 16, ak="22" * 16, password="12345678", hls_secret="0x" + "ab" * 16, system_title="584d410000000009").identity()
    assert (given.keys, given.password, given.hls_secret) == (Keys(b"\x11" * 16, b"\x22" * 16), b"12345678", b"\xab" * 16)
    assert given.system_title.hex() == "584d410000000009"
    assert Wish().identity().keys != Wish().identity().keys


def test_events_are_a_line_each():
    from openami.cosem.server import Ended, Opened, Served, Violation

    ref = Ref(3, "1.0.1.8.0.255", 2)
    assert line(event_said(Opened(48))) == "associated  client 48"
    assert line(event_said(Ended(48))) == "released    client 48"
    assert line(event_said(Served(48, "get", (ref,), (3,)))) == "get         client 48  3:1.0.1.8.0.255:2 read write denied"
    assert (
        line(event_said(Violation(48, "replay", "counter 3 does not grow", b"")))
        == "refused     client 48: counter 3 does not grow (replay)"
    )


def test_sigterm_ends_a_meter_that_a_script_put_into_the_background():
    words = [sys.executable, "-m", "openami", "meter", "--port", "0", "--days", "1", "--json"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "openami: stopped; nothing was half-written\n")


@pytest.mark.parametrize("words", [(), ("--push-udp", "--unconfirmed")])
def test_what_it_pushes_is_what_listen_tells(tmp_path, words):
    keys = {"ek": "11" * 16, "ak": "22" * 16, "system_title": "584d410000000001"}
    meters = tmp_path / "meters.json"
    meters.write_text(json.dumps([{"serial": "XMA0000001", "maker": "OAM", "model": "SIM-1P", **keys}]))
    given = [word for name, value in keys.items() for word in (f"--{name.replace('_', '-')}", value)]
    openami = [sys.executable, "-m", "openami"]
    listener = subprocess.Popen(
        [*openami, "listen", "--meters", meters, "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = json.loads(listener.stderr.readline())["port"]
    outage = ("--last-gasp", "0.5", "--outage", "1")
    pusher = subprocess.Popen(
        [*openami, "meter", "--port", "0", "--days", "1", "--json", *given, "--push-to", f"127.0.0.1:{port}", *outage, *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        kinds, told = set(), set()
        while not {"last gasp: supply is going", "first breath: supply is back"} <= told or len(kinds) < 5:
            said = json.loads(listener.stdout.readline())
            assert said["confirmed"] is ("--unconfirmed" not in words and "last gasp: supply is going" not in said.get("status", ()))
            kinds.add(said["kind"])
            told |= set(said.get("status", ()))
            assert said["rows"][0]["stamp"]
    finally:
        for process in (pusher, listener):
            process.kill()
            process.communicate()
    assert kinds == {"events", "instantaneous", "block_load", "daily", "billing"}
