"""Ciphering: every form both ways, and nothing given out where the tag does not hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.cosem.ciphering import (
    GENERAL_GLO,
    SEALED_TAGS,
    Keys,
    SecurityControl,
    gmac,
    open_sealed,
    parse_sealed,
    seal,
)
from openami.errors import MeterError, RequestError

TITLE = b"OAM\0\0\0\0\1"
KEYS = Keys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
KEYS_256 = Keys(bytes(range(32)), bytes(range(32, 64)))
FORMS = st.sampled_from([(sc | suite, KEYS_256 if suite == 2 else KEYS) for sc in (0x10, 0x20, 0x30) for suite in (0, 1, 2)])


@given(st.sampled_from(sorted(SEALED_TAGS)), FORMS, st.integers(0, 2**32 - 1), st.binary(max_size=300))
@settings(max_examples=200)
def test_what_was_sealed_opens(tag, form, counter, plain):
    control, keys = form
    sealed = parse_sealed(seal(tag, TITLE, control, counter, keys, plain))
    assert (sealed.tag, sealed.security_control, sealed.invocation_counter) == (tag, control, counter)
    assert sealed.system_title == (TITLE if tag in (0xDB, 0xDC) else b"")
    assert len(sealed.tag12) == (12 if SecurityControl(control).authenticated else 0)
    assert open_sealed(sealed, keys, TITLE) == plain


@given(st.sampled_from([0x10, 0x30]), st.binary(min_size=1, max_size=60), st.data())
def test_one_altered_bit_is_found(control, plain, data):
    apdu = bytearray(seal(GENERAL_GLO, TITLE, control, 7, KEYS, plain))
    at = data.draw(st.integers(2, len(apdu) - 1).filter(lambda k: k not in (10, 11)))
    apdu[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(MeterError) as caught:
        open_sealed(parse_sealed(bytes(apdu)), KEYS)
    assert caught.value.cause == "bad_tag"


def test_a_wrong_key_is_a_bad_tag():
    other = Keys(bytes(16), KEYS.ak)
    for keys in (other, Keys(KEYS.ek, bytes(16))):
        with pytest.raises(MeterError) as caught:
            open_sealed(parse_sealed(seal(GENERAL_GLO, TITLE, 0x30, 1, KEYS, b"abc")), keys)
        assert caught.value.cause == "bad_tag"


def test_a_wrong_key_without_authentication_gives_other_bytes():
    sealed = parse_sealed(seal(GENERAL_GLO, TITLE, 0x20, 1, KEYS, b"data-notification"))
    assert open_sealed(sealed, Keys(bytes(16), KEYS.ak)) != b"data-notification"


def test_a_cut_tag_is_a_bad_tag():
    with pytest.raises(MeterError) as caught:
        parse_sealed(bytes((0xC8, 10)) + b"\x30\0\0\0\1" + b"12345")
    assert caught.value.cause == "bad_tag"


def test_keys_are_never_shown():
    assert KEYS.ek.hex() not in repr(KEYS)
    assert repr(KEYS) == "Keys()"


@given(st.binary(max_size=40), st.sampled_from(sorted(SEALED_TAGS)))
def test_any_bytes_raise_meter_error_only(octets, tag):
    try:
        opened = open_sealed(parse_sealed(bytes((tag,)) + octets), KEYS, TITLE)
    except MeterError:
        opened = b""
    assert len(opened) <= len(octets)


def test_a_missing_system_title_must_be_known():
    sealed = parse_sealed(b"\xdb\x00" + seal(0xC8, TITLE, 0x20, 1, KEYS, b"abc")[1:])
    with pytest.raises(MeterError, match="system title"):
        open_sealed(sealed, KEYS)
    assert open_sealed(sealed, KEYS, TITLE) == b"abc"


def test_our_own_mistakes():
    for arguments in (
        (0x0F, TITLE, 0x30, 1, KEYS),
        (0xDB, b"short", 0x30, 1, KEYS),
        (0xDB, TITLE, 0x00, 1, KEYS),
        (0xDB, TITLE, 0x30, 2**32, KEYS),
        (0xDB, TITLE, 0x32, 1, KEYS),
        (0xDB, TITLE, 0x33, 1, KEYS),
        (0xDB, TITLE, 0xB0, 1, KEYS),
    ):
        with pytest.raises(RequestError):
            seal(*arguments, b"plain")
    with pytest.raises(RequestError):
        Keys(b"short", bytes(16))


def test_green_book_gmac_of_the_challenges():
    client = gmac(bytes.fromhex("4D4D4D0000000001"), 0x10, 1, KEYS, bytes.fromhex("503677524A323146"))
    server = gmac(bytes.fromhex("4D4D4D0000BC614E"), 0x10, 0x01234567, KEYS, bytes.fromhex("4B35366956616759"))
    assert (client.hex(), server.hex()) == ("1a52fe7dd3e72748973c1e28", "fe1466afb3dbcd4f9389e2b7")


def test_green_book_glo_initiate_request():
    apdu = bytes.fromhex("21303001234567801302ff8a7874133d414ced25b42534d28db0047720606b175bd52211be6841db204d39ee6fdb8e356855")
    title = bytes.fromhex("4D4D4D0000BC614E")
    plain = bytes.fromhex("01011000112233445566778899AABBCCDDEEFF0000065F1F0400007E1F04B0")
    assert open_sealed(parse_sealed(apdu), KEYS, title) == plain
    assert seal(0x21, title, 0x30, 0x01234567, KEYS, plain) == apdu
