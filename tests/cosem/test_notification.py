"""Data-notification: round trip, and the four ways in which meters write its date-time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openami.cosem.axdr import NULL, Data, Tag
from openami.cosem.notification import DataNotification, DataNotificationConfirm
from openami.errors import MeterError, RequestError

WHEN = bytes.fromhex("07e40119060e000aff800000")
HEADS = (st.integers(0, 2**24 - 1), st.booleans(), st.booleans(), st.sampled_from([b"", WHEN]))


@given(st.builds(DataNotification, *HEADS, st.sampled_from([NULL, Data(Tag.UNSIGNED, 7)])))
def test_notifications_round_trip(push):
    assert DataNotification.decode(push.encode()) == push


@given(st.builds(DataNotificationConfirm, *HEADS))
def test_confirmations_round_trip(confirm):
    assert DataNotificationConfirm.decode(confirm.encode()) == confirm


@pytest.mark.parametrize("form", ["0c", "090c", "19", ""])
def test_every_form_of_the_date_time(form):
    push = DataNotification.decode(bytes.fromhex("0f40000000" + form) + WHEN + b"\x11\x05")
    assert push == DataNotification(0, True, False, WHEN, Data(Tag.UNSIGNED, 5))


@pytest.mark.parametrize(
    "apdu", ["", "0f", "0f00000000", "0f0000000003", "0f000000000c07e4", "0f0000000000", "0f00000000000000", "10000000000000"]
)
def test_cut_or_long_is_refused(apdu):
    with pytest.raises(MeterError):
        DataNotification.decode(bytes.fromhex(apdu))
    if apdu.startswith("10"):
        with pytest.raises(MeterError):
            DataNotificationConfirm.decode(bytes.fromhex(apdu))


def test_our_own_mistakes():
    with pytest.raises(RequestError):
        DataNotification(2**24, False, False, b"", NULL).encode()
    with pytest.raises(RequestError):
        DataNotification(0, False, False, b"x", NULL).encode()
