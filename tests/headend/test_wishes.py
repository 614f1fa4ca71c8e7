"""What an order asks for is checked before it is written: a wrong wish is one sentence, and nothing is queued."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from day.sites import make_town
from field.commands import Commands
from openami.control.order import What
from openami.demo.run import found
from openami.errors import InputError
from openami.headend.wishes import PARTS, read_wish, strangers
from openami.store.deployment import Folder
from openami.store.order_book import OrderBook
from openami.store.rows import Rows

TABLE = "0904" + b"CAL1".hex()
GOOD = {
    What.LOAD_LIMIT: {"limit_w": 3000, "over_s": 120, "under_s": 60},
    What.CLOCK: {"tolerance_s": 5},
    What.CALENDAR: {"name": TABLE, "seasons": "0100", "weeks": "0100", "days": "0100"},
    What.KEYS: {"client": 48},
    What.IMAGE: {"identifier": "FW 2", "size": 4096, "sha256": "ab" * 32, "version": "2.0"},
}
METER = "a meter of the town"
WRONG = [None, True, -1, 0.5, "abc", [], {}, 2**70, "é" * 200]


@pytest.mark.parametrize("what", list(What))
def test_a_good_wish_is_taken_and_knows_no_strangers(what):
    wish = GOOD.get(what, {})
    assert read_wish(what, json.dumps(wish)) == wish
    assert strangers(what, wish | {"limt_w": 1}) == ["limt_w"]


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, parts in PARTS.items() for name in parts])
def test_a_part_that_makes_no_sense_or_is_missing_is_named(what, name):
    for value in WRONG:
        if PARTS[what][name].holds(value):
            continue
        with pytest.raises(InputError, match=f"{name} of a {what} order must be"):
            read_wish(what, json.dumps(GOOD[what] | {name: value}))
    short = {key: value for key, value in GOOD[what].items() if key != name}
    if PARTS[what][name].needed:
        with pytest.raises(InputError, match=f"must say {name}"):
            read_wish(what, json.dumps(short))
    else:
        assert read_wish(what, json.dumps(short)) == short


@given(
    st.sampled_from(list(What)),
    st.text(max_size=40) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps),
)
def test_no_text_makes_it_raise_anything_else(what, text):
    try:
        wish = read_wish(what, text)
    except InputError:
        return
    assert isinstance(wish, dict)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    town, made = make_town(days=1), Folder(tmp_path_factory.mktemp("wishes") / "data")
    found(made, town)
    return made, town.meters[0].serial


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("load_limit", METER), "an order of the kind load_limit must say limit_w"),
        (("load_limit", METER, "--wish", '{"limit_w": "x"}'), "limit_w of a load_limit order must be a whole number of watts"),
        (("load_limit", METER, "--wish", '{"limit_w": 5, "over": 3}'), "does not know over"),
        (("clock", METER, "--wish", "[]"), "the wish of an order is a JSON object"),
        (("keys", METER, "--wish", '{"client": 49}'), "client of a keys order must be one of 32, 48, 64, 80"),
        (("fly", METER), "'fly' is no order"),
        (("image", METER), "is given the file"),
    ],
)
def test_a_wrong_order_is_one_sentence_and_is_not_queued(folder, monkeypatch, capsys, words, said):
    data, serial = folder
    words = [serial if word == METER else word for word in words]
    code, out, err = Commands(monkeypatch, capsys)("headend", "order", *words, "--who", "a", "--why", "b", "--data", data.root)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    rows = Rows.of(data)
    assert OrderBook(rows).recent(5, False) == []
    rows.close()


def test_an_order_and_its_state_as_json(folder, monkeypatch, capsys):
    data, serial = folder
    openami = Commands(monkeypatch, capsys)
    code, out, _ = openami("headend", "order", "read", serial, "--who", "a", "--why", "b", "--id", "r1", "--json", "--data", data.root)
    assert code == 0
    assert json.loads(out) == {"order_id": "r1", "what": "read", "meter": serial, "state": "requested"}
    code, _, err = openami("headend", "orders", "--limit", "0", "--data", data.root)
    assert (code, "--limit" in err) == (2, True)
