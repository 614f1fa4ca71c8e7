"""The log: JSON, a line an event, and nothing in it that must not be."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.operate.logs import BLOT, JsonLines, blot


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines("test"))
    logger = logging.getLogger("openami.test_logs")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_record_is_one_line_with_meter_and_frame(log) -> None:
    logger, stream = log
    logger.warning("a frame was refused:\nbad tag", extra={"meter": "XMA0000007", "frame": "12/3", "account": "not to be told"})
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["role"], told["level"], told["what"]) == ("test", "warning", "a frame was refused: bad tag")
    assert (told["meter"], told["frame"]) == ("XMA0000007", "12/3")
    assert "account" not in told


def test_an_error_keeps_its_place_and_loses_its_secret(log) -> None:
    logger, stream = log
    try:
        raise ValueError("cannot reach postgresql://openami:geheim@db/openami")
    except ValueError:
        logger.exception("failed")
    told = json.loads(stream.getvalue())
    assert told["error"] == f"ValueError: cannot reach postgresql://openami:{BLOT}@db/openami"
    assert any("test_logs.py" in line for line in told["where"])
    assert "geheim" not in stream.getvalue()


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer ge1heim",
        "{'Authorization': 'Basic ge1heim=='}",
        '{"password": "ge1heim"}',
        "curl -H bearer ge1heim234",
        "OPENAMI_NATS_PASSWORD=ge1heim",
        "lake_secret_key = ge1heim",
    ],
)
def test_a_secret_is_blotted_out_however_it_is_introduced(said: str) -> None:
    assert "ge1heim" not in blot(said)


@given(st.binary(min_size=16, max_size=32))
def test_a_key_is_blotted_out_however_it_is_written(key: bytes) -> None:
    assert blot(f"key {key.hex()} of a meter") == f"key {BLOT} of a meter"
    assert blot(f"KEY={key.hex().upper()}") == f"KEY={BLOT}"


@given(st.binary(min_size=32, max_size=64))
def test_a_key_in_base64_is_blotted_out(key: bytes) -> None:
    text = base64.b64encode(key).decode()
    if any(c.isdigit() for c in text) and any(c.isupper() for c in text) and not text.startswith("/"):  # what starts so may be a path
        assert text not in blot(f"token {text}!")


@pytest.mark.parametrize("phone", ["9876543210", "+919876543210", "+91 98765 43210", "91-9876543210"])
def test_a_telephone_number_is_blotted_out(phone: str) -> None:
    assert phone not in blot(f"sent to {phone}, once")


@pytest.mark.parametrize(
    "plain",
    [
        "meter XMA0000007 pushes under its new keys",
        "raw of 2025-12-01 (shard 7) cannot be written below /data/lake; free space",
        "the head-end listens on 127.0.0.1:40590, 12,345,678 frames",
        "journal at nats://a:4222,b:4222/openami does not answer",
        "/srv/Data-2025/openami/of-one-town/lake/statements/day=2025-12-01 has no closed day yet; run `openami demo`",
        "at 1764570600 s, 43,993 frames of 1.0.99.1.0.255",
    ],
)
def test_what_an_operator_needs_stays(plain: str) -> None:
    assert blot(plain) == plain


@pytest.mark.parametrize("form", ["plain", "json"])
def test_of_libraries_only_what_warns_is_told(form: str) -> None:
    """In a process of its own: the log is the process's."""
    program = (
        "import logging, sys; from openami.operate.logs import open_log; logging.basicConfig(stream=sys.stderr); "
        f"open_log({form!r}, 'test'); told = logging.getLogger; told('httpx').info('a request'); told('alembic').info('a step'); "
        "told('httpx').warning('a warning'); told('openami.test').info('ours')"
    )
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)
    assert [word for word in ("a request", "a step", "a warning", "ours") if word in ended.stderr] == ["a warning", "ours"]
