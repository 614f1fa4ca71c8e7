"""The standard's facts as shipped, and the scalers that belong to them."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from openami.cosem import is15959
from openami.cosem.axdr import NULL, Data, Tag
from openami.cosem.objects import scaler_unit
from openami.cosem.profile import Capture, read_scalers, scaled
from openami.cosem.push import obis_bytes
from openami.errors import InputError

FACTS = Path(__file__).parents[3] / "shared" / "vectors" / "dlms" / "is15959_facts.json"


def test_every_association_of_a_smart_meter():
    smart = {client: is15959.association_for(client) for client in (16, 32, 48, 64, 80, 96)}
    assert {client: (fact.mechanism, fact.policy, fact.pre_established) for client, fact in smart.items()} == {
        16: (0, 0, False),
        32: (1, 0x20, False),
        48: (2, 0x30, False),
        64: (0, 0x20, True),
        80: (2, 0x30, False),
        96: (0, 0x20, True),
    }
    assert is15959.association_for(48, smart=False).policy == 0
    assert smart[48].invocation_counter == "0.0.43.1.3.255"
    with pytest.raises(InputError, match="16, 32, 48"):
        is15959.association_for(17)


def test_profiles_by_name():
    assert [column.obis for column, _ in is15959.profile_named("block_load", "single-phase").columns][1:] == [
        "1.0.12.27.0.255",
        "1.0.1.29.0.255",
        "1.0.9.29.0.255",
        "1.0.11.27.0.255",
    ]
    assert len(is15959.profile_named("billing").columns) == 62
    with pytest.raises(InputError, match="block_load"):
        is15959.profile_named("blockload")


def test_every_name_is_a_logical_name():
    for profile in is15959.profiles():
        for column, _ in profile.columns:
            assert len(obis_bytes(column.obis)) == 6
    for _, obis, _ in is15959.OBJECTS.values():
        assert len(obis_bytes(obis)) == 6


def test_events_come_in_pairs():
    events = is15959.events()
    for code, event in events.items():
        assert event.what
        if event.kind == "occurrence":
            assert events[code + 1].kind == "restoration"
            assert events[code + 1].what == event.what + ": over"


def test_a_status_word():
    word = "".join("1" if k in (4, 85, 127) else "0" for k in range(128))
    known, unknown = is15959.read_status_word(word)
    assert [bit.what for bit in known] == ["voltage too low", "last gasp: supply is going"]
    assert unknown == (127,)


def test_every_quirk_has_its_evidence():
    assert all(set(row) == {"name", "peer", "met_by", "evidence"} and all(row.values()) for row in is15959.quirks())


@pytest.mark.skipif(not FACTS.exists(), reason="the collected facts lie beside the project, not in it")
def test_nothing_of_the_collected_facts_is_lost():
    facts = json.loads(FACTS.read_text())
    assert {row["code"] for row in facts["events"]} == set(is15959.events())
    assert {row["bit"] for row in facts["esw_bits"]} == set(is15959.status_bits())
    assert len(facts["associations"]) == len(is15959.associations())
    seen = {
        profile.obis: [column.obis for column, _ in profile.columns] for profile in is15959.profiles() if profile.meters == "three-phase"
    }
    for obis, profile in facts["profiles_three_phase_reference"].items():
        if "caler" not in profile["name"]:
            assert seen[obis] == [column["obis"] for column in profile["columns"]]
    assert set(facts["push_setups"]) <= {setup.obis for setup in is15959.push_setups()}


def test_scalers_are_matched_by_name_not_by_place():
    columns = (Capture(3, "1.0.9.29.0.255", 3), Capture(3, "1.0.12.27.0.255", 3), Capture(3, "1.0.1.29.0.255", 3))
    row = Data(Tag.STRUCTURE, (scaler_unit(0, "VAh"), scaler_unit(-1, "V"), NULL))
    assert read_scalers(columns, Data(Tag.ARRAY, (row,))) == {"1.0.9.29.0.255": (0, "VAh"), "1.0.12.27.0.255": (-1, "V")}
    assert read_scalers(columns, Data(Tag.ARRAY, ())) == {}


def test_scaled_numbers():
    assert scaled(Data(Tag.LONG_UNSIGNED, 2301), -1) == Decimal("230.1")
    assert scaled(Data(Tag.FLOAT32, 0.5), 3) == 500
    for none in (NULL, Data(Tag.FLOAT32, float("nan")), Data(Tag.BOOLEAN, True), Data(Tag.OCTET_STRING, b"1")):
        assert scaled(none, 0) is None
