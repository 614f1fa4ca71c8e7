"""Meters' keys at rest: wrapped, and shown to nobody."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.errors import DataError, InputError
from openami.store.keys import ENVIRONMENT, MasterKey, load_master_key

MASTER = bytes(range(32))


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@given(key=st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32))
def test_a_wrapped_key_comes_back(key: bytes) -> None:
    wrapped = MasterKey(MASTER).wrap(key)
    assert len(wrapped) == len(key) + 8
    assert MasterKey(MASTER).unwrap(wrapped) == key


def test_wrapping_is_the_standards() -> None:
    """RFC 3394, 4.3: 128 bits of key data under a 256-bit key."""
    wrapped = MasterKey(MASTER).wrap(bytes.fromhex("00112233445566778899AABBCCDDEEFF"))
    assert wrapped.hex().upper() == "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"


def test_another_master_key_does_not_unwrap() -> None:
    with pytest.raises(DataError, match="not the one that wrapped it"):
        MasterKey(MASTER[::-1]).unwrap(MasterKey(MASTER).wrap(bytes(16)))


@given(st.binary(max_size=40))
def test_bytes_that_are_no_wrapped_key_are_refused(octets: bytes) -> None:
    with pytest.raises(DataError):
        MasterKey(MASTER).unwrap(octets)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_master_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="256"):
        MasterKey(bytes(size))


def test_a_master_key_shows_itself_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    key = MasterKey(MASTER)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").warning("%s %r %s", key, key, [key])
    assert MASTER.hex() not in caplog.text
    assert "MasterKey(...)" in caplog.text


def test_a_fresh_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "master.key"
    wrapped = load_master_key(path, create=True).wrap(bytes(16))
    assert load_master_key(path, create=True).unwrap(wrapped) == bytes(16)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    one, two = (load_master_key(tmp_path / name / "master.key", create=True) for name in "ab")
    with pytest.raises(DataError):
        two.unwrap(one.wrap(bytes(16)))


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master.key"
    monkeypatch.setenv(ENVIRONMENT, MASTER.hex())
    assert load_master_key(path, create=True).unwrap(MasterKey(MASTER).wrap(bytes(16))) == bytes(16)
    assert not path.exists()


@pytest.mark.parametrize("text", [b"neither hex nor 64", b"\xff\xfe" * 32, b"ab" * 16, b""])
def test_a_file_that_holds_no_key_is_refused_without_showing_it(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(text)
    with pytest.raises(InputError, match="64 hex digits") as caught:
        load_master_key(path)
    assert not text or text.decode("latin-1") not in str(caught.value)


def test_an_environment_that_holds_no_key_is_refused_without_showing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "hunter2")
    with pytest.raises(InputError, match=ENVIRONMENT) as caught:
        load_master_key(tmp_path / "master.key")
    assert "hunter2" not in str(caught.value)


def test_no_key_at_all_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"master\.key is not there and {ENVIRONMENT} is not set"):
        load_master_key(tmp_path / "master.key")


def test_a_folder_in_the_keys_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "master.key").mkdir()
    with pytest.raises(DataError, match=r"master\.key cannot be read"):
        load_master_key(tmp_path / "master.key")
