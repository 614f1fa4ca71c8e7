"""A search for a sequence of events that ends in a cut which the rules forbid, and a proof that it would find one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openami.control.rules import RULES
from openami.supply.complaints import answer

from .events import Lost, Morning, World, machine
from .mutants import MUTANTS, NOT_REACHED, hunt, search
from .street import STREET, Street, make_street, own_policies

HOUR = 3600


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with own_policies():
        yield make_street(tmp_path_factory.mktemp("street"))


def test_no_sequence_of_events_ends_in_a_cut_that_the_rules_forbid(street: Street) -> None:
    search(street, examples=8)


@pytest.mark.parametrize(("told", "cut"), [(None, True), ("life_support", False)])
def test_the_search_reaches_cuts(street: Street, told: str | None, cut: bool) -> None:
    """Else it would prove nothing: the straight way through the machine ends in a cut, and with a word about life support in none."""
    one = machine(street)()
    one.first_morning(False, "KA", True, None, "2025-11-19", True, f"told {told}" if told else "nothing", 0)
    one.a_cut_is_tried(0)
    assert (one.world.files[0].cut_s is not None) is cut
    one.teardown()


def test_every_home_that_may_be_cut_is_cut_and_the_clerk_agrees(street: Street) -> None:
    """The street is no place where everything is forbidden: of its homes, those whose situation protects them are left alone, and no others."""
    one = machine(street)()
    one.first_morning(False, "KA", True, None, "2025-11-19", True, "nothing", 0)
    for k in range(len(STREET)):
        one.a_cut_is_tried(k)
    spared = [home.name for home, file in zip(STREET, one.world.files, strict=True) if file.cut_s is None]
    assert spared == ["just converted", "gap"]
    one.teardown()


def test_a_guard_without_a_rule_is_found(street: Street) -> None:
    """Three of the mutants; `make judge` asks for all of them."""
    three = [one for one in MUTANTS if one.name in ("no_estimate", "legal_hours", "payments under way are not looked at")]
    assert len(three) == 3
    found = hunt(street, three, examples=0, incidents=("nothing", "begun", "hours 7"))
    assert {name: own.what.split(": ")[-1].split(", ")[-1] for name, own in found.items()} == {
        "no_estimate": "estimate",
        "legal_hours": "hours",
        "payments under way are not looked at": "payment on its way",
    }


def test_every_rule_has_its_mutant() -> None:
    assert {one.name for one in MUTANTS if one.where == "rule"} >= RULES.keys()


@pytest.mark.judge
def test_a_guard_with_one_thing_off_is_found(street: Street) -> None:
    found = hunt(street, MUTANTS)
    assert {one.name for one in MUTANTS if one.name not in found} <= NOT_REACHED.keys()


def test_an_answered_complaint_ends_its_protection_and_no_other(street: Street) -> None:
    world = World(street, Morning(False, "KA", True, None, "2025-11-19", True))
    one = machine(street)()
    one.world = world
    one.complains(0)
    one.complains(0)
    answer(world.site, world.files[0].complaints.pop(), "looked into", world.now, "asha")
    one.the_guard_allows_nothing_that_is_forbidden()
    with pytest.raises(Lost, match="dispute"):
        _asked_as_if_allowed(one)
    one.teardown()


def _asked_as_if_allowed(one: object) -> None:
    """The same question to a guard without the rule about disputes."""
    with pytest.MonkeyPatch.context() as patch:
        next(mutant for mutant in MUTANTS if mutant.name == "dispute").apply(patch)
        one.the_guard_allows_nothing_that_is_forbidden()  # type: ignore[attr-defined]


def test_the_street_stays_as_it_is(street: Street) -> None:
    """Copies look at the same lake: nothing that happens in one may be seen in the next."""
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(street.roots[0], "lake").rglob("*.parquet"))
    one = machine(street)()
    one.first_morning(False, "KA", True, None, "2025-11-19", True, "hours 30", 0)
    one.teardown()
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(street.roots[0], "lake").rglob("*.parquet")) == before
