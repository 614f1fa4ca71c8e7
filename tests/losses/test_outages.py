"""Outages on the tree: the place is the cheapest explanation of what was heard; every customer's minutes count once; indices by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openami.errors import RequestError
from openami.losses.network import Level, Tree, children_first
from openami.losses.outages import NEVER, SERVICE, Outage, Sign, Signs, find_outages, locate, with_node_meters
from openami.losses.reliability import Planned, daily_saidi, indices, is_planned, major_event_days, outage_slots, seconds_out
from openami.studies.outage import one_run

HOMES = 8
PARENT = np.array([4, 4, 5, 5, 6, 6, -1], np.int32)  # four phases, two transformers, a feeder
TREE = Tree(
    ("P0", "P1", "P2", "P3", "T0", "T1", "F"),
    (Level.PHASE,) * 4 + (Level.TRANSFORMER,) * 2 + (Level.FEEDER,),
    PARENT,
    children_first(PARENT),
    np.full(7, -1, np.int32),
    np.full(7, np.nan),
    (np.arange(4 * HOMES) // HOMES).astype(np.int32),
    np.zeros(0, np.int32),
    np.zeros(0, np.int32),
    np.zeros(0),
)


def signs(*events: tuple[int, int, Sign]) -> Signs:
    meter, at, sign = zip(*events, strict=True)
    return Signs(np.array(meter, np.int32), np.array(at, np.int64), np.array(sign, np.int8))


def gasps(meters, at=1000):
    return [(m, at + k % 9, Sign.GASP) for k, m in enumerate(meters)]


def places(found):
    return [(o.level(TREE), o.name(TREE)) for o in found]


@pytest.mark.parametrize(
    ("meters", "place"),
    [
        ([3], ("service", "meter 3")),
        ([0, 1, 2, 4, 5, 7], ("phase", "P0")),
        ([*range(7), *range(9, 15)], ("transformer", "T0")),
        ([k for k in range(32) if k % 5], ("feeder", "F")),
    ],
)
def test_the_place_despite_lost_gasps(meters, place):
    assert places(find_outages(TREE, signs(*gasps(meters)))) == [place]


def test_whoever_gasps_again_was_back_in_between():
    """Meter 0's breath is lost; it is out a second time, and each time as long as its neighbours."""
    homes = range(HOMES)
    first = [*gasps(homes), *((m, 2000, Sign.BREATH) for m in homes if m)]
    again = [*gasps(homes, 5000), *((m, 6000, Sign.BREATH) for m in homes)]
    found = find_outages(TREE, signs(*first, *again))
    assert places(found) == [("phase", "P0"), ("phase", "P0")]
    assert [o.back_s.tolist() for o in found] == [[2000] * HOMES, [6000] * HOMES]


def test_whoever_was_never_heard_is_out_again_with_its_neighbours():
    heard = range(1, HOMES)
    words = [*gasps(heard), *((m, 2000, Sign.BREATH) for m in heard), *gasps(heard, 5000), *((m, 6000, Sign.BREATH) for m in heard)]
    assert [o.customers for o in find_outages(TREE, signs(*words))] == [HOMES, HOMES]


def test_a_lost_breath_is_not_taken_from_the_next_failure():
    """Meter 0's first breath and second gasp are lost: its breath after the second failure tells of that one."""
    homes = range(HOMES)
    words = [
        *gasps(homes),
        *((m, 1500, Sign.BREATH) for m in homes if m),
        *gasps(range(1, HOMES), 3000),
        *((m, 4000, Sign.BREATH) for m in homes),
    ]
    found = find_outages(TREE, signs(*words))
    assert [(o.customers, o.back_s.tolist()) for o in found] == [(HOMES, [1500] * HOMES), (HOMES, [4000] * HOMES)]


def test_words_still_on_their_way_tell_of_no_second_outage():
    """A feeder is out for 40 s; some gasps and breaths come when it is over."""
    early, late = [k for k in range(32) if k % 8], range(0, 32, 8)
    words = [
        *gasps(early),
        *((m, 1050, Sign.GASP) for m in late),
        *((m, 1042 + m % 9, Sign.BREATH) for m in early),
        *((m, 1055, Sign.BREATH) for m in late),
    ]
    (found,) = find_outages(TREE, signs(*words))
    assert (found.customers, found.level(TREE)) == (32, "feeder")


def test_a_breaker_that_opens_again_within_a_minute_is_two_outages():
    homes = range(HOMES)
    words = [*gasps(homes), *((m, 1035, Sign.BREATH) for m in homes), *gasps(homes, 1046), *((m, 6000, Sign.BREATH) for m in homes)]
    found = find_outages(TREE, signs(*words))
    assert [(o.customers, o.end_s) for o in found] == [(HOMES, 1035), (HOMES, 6000)]


def test_the_meters_of_dark_nodes_are_dark_with_them():
    own = replace(TREE, own_meter=np.array([-1, -1, -1, -1, 30, 31, 29], np.int32))
    (found,) = find_outages(own, signs(*gasps([*range(7), *range(9, 15)]), *((m, 2000 + m, Sign.BREATH) for m in range(16))))
    whole = with_node_meters(own, found)
    assert whole.meters.tolist() == [*found.meters.tolist(), 30]
    assert whole.back_s[-1] == found.back_s.max()


def test_two_fuses_of_two_transformers_are_two_outages():
    found = find_outages(TREE, signs(*gasps([*range(8), *range(16, 24)])))
    assert places(found) == [("phase", "P0"), ("phase", "P2")]


def test_who_spoke_meanwhile_was_not_out():
    """A whole phase gasps, one meter on it answers: it is on another phase than the registry says, or it was never out."""
    found = find_outages(TREE, signs(*gasps([k for k in range(8) if k != 4]), (4, 1010, Sign.SPOKE)))
    assert all(4 not in o.meters for o in found)
    assert sorted(m for o in found for m in o.meters) == [0, 1, 2, 3, 5, 6, 7]


def test_silence_alone_finds_a_transformer():
    found = find_outages(TREE, signs(*((m, 5000, Sign.SILENT) for m in range(16))))
    assert places(found) == [("transformer", "T0")]
    assert found[0].gasps == 0


def test_one_silent_meter_is_no_outage():
    assert find_outages(TREE, signs((3, 5000, Sign.SILENT))) == []


def test_supply_comes_back_in_steps():
    back = [(m, 2000, Sign.BREATH) for m in range(8)] + [(m, 4000, Sign.BREATH) for m in range(8, 15)] + [(15, 5500, Sign.SPOKE)]
    (found,) = find_outages(TREE, signs(*gasps(range(16)), *back))
    assert found.back_s.tolist() == [2000] * 8 + [4000] * 8  # the last one's breath was lost: its neighbours' counts
    assert found.end_s == 4000


def test_without_a_word_an_outage_is_open():
    (found,) = find_outages(TREE, signs(*gasps(range(8))))
    assert found.end_s is None
    assert (found.back_s == NEVER).all()


def test_whoever_is_out_is_not_out_again_until_it_is_back():
    again = [*gasps(range(8)), *gasps(range(8), 1500)]
    assert len(find_outages(TREE, signs(*again))) == 1
    back = [(m, 1200, Sign.BREATH) for m in range(8)]
    assert len(find_outages(TREE, signs(*again, *back))) == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_explanation_is_cheaper_than_the_one_found(seed):
    """Against all choices of nodes of a small tree (brute force)."""
    from itertools import combinations

    rng = np.random.default_rng(seed)
    tree = Tree(TREE.names, TREE.levels, TREE.parent, TREE.below_first, TREE.own_meter, TREE.rating_kva, np.repeat(np.arange(4), 2).astype(np.int32),
                TREE.maybe_meter, TREE.maybe_node, TREE.maybe_share)  # fmt: skip
    alive, dead = rng.choice([0.0, 3.5, 8.0], 8), rng.choice([0.1, 1.6, 9.0], 8)
    under = {4: (0, 1), 5: (2, 3), 6: (0, 1, 2, 3), **{k: (k,) for k in range(4)}}
    opening = {**dict.fromkeys(range(4), 7.0), 4: 7.0, 5: 7.0, 6: 8.0}

    def cost(nodes) -> float:
        out = {m for n in nodes for p in under[n] for m in (2 * p, 2 * p + 1)}
        rest = sum(min(alive[m], dead[m] + 7.0) for m in range(8) if m not in out)
        return rest + sum(dead[m] for m in out) + sum(opening[n] for n in nodes)

    def disjoint(nodes) -> bool:
        return sum(len(under[n]) for n in nodes) == len({p for n in nodes for p in under[n]})

    best = min(cost(nodes) for size in range(5) for nodes in combinations(range(7), size) if disjoint(nodes))
    found = locate(tree, alive, dead)
    singles = [int(m[0]) for node, m in found if node == SERVICE]
    nodes = [node for node, _ in found if node != SERVICE]
    assert all(dead[m] + 7.0 < alive[m] for m in singles)
    assert cost(nodes) == pytest.approx(best)


def outage(meters, start, back, node=0) -> Outage:
    return Outage(node, np.array(meters, np.int32), start, np.array(back, np.int64), start + 30, len(meters))


def test_indices_by_hand():
    """10 customers: 4 out for 60 minutes, 2 of them momentarily again (5 minutes exactly), one still out at the end for 30 minutes."""
    found = [outage([0, 1, 2, 3], 0, [3600] * 4), outage([0, 1], 10_000, [10_300] * 2), outage([9], 84_600, [NEVER], SERVICE)]
    told = indices(found, 10, 0, 86_400)
    assert told.saifi == pytest.approx(0.5)
    assert told.saidi_min == pytest.approx((4 * 60 + 30) / 10)
    assert told.caidi_min == pytest.approx(270 / 5)
    assert told.maifi == pytest.approx(0.2)
    assert told.asai == pytest.approx(1 - 27 / 1440)
    assert told.open_outages == 1
    assert told.saidi_min == pytest.approx(told.saifi * told.caidi_min)
    assert seconds_out(found, 10, 86_400).tolist() == [3900, 3900, 3600, 3600, 0, 0, 0, 0, 0, 1800]


def test_nobody_has_no_index():
    told = indices([], 0, 0, 86_400)
    assert (told.saifi, told.saidi_min, told.caidi_min) == (None, None, None)
    assert indices([], 5, 0, 86_400).caidi_min is None


def test_planned_outages_are_known_by_place_and_time():
    calendar = [Planned(4, 1000, 5000)]
    assert is_planned(TREE, outage([0], 1100, [2000], 0), calendar)  # a phase below the announced transformer
    assert not is_planned(TREE, outage([20], 1100, [2000], 2), calendar)
    assert not is_planned(TREE, outage([0], 9000, [9900], 0), calendar)
    assert is_planned(TREE, outage([3], 1100, [2000], SERVICE), calendar)


def test_major_event_days_by_two_and_a_half_beta():
    days = [1.0, 2.0, 3.0, 4.0] * 20 + [400.0]
    threshold, above = major_event_days(days)
    assert threshold is not None
    assert 4 < threshold < 400
    assert above == [80]
    assert major_event_days([1.0] * 29) == (None, [])


def test_minutes_of_an_outage_count_on_the_day_it_begins():
    assert daily_saidi([outage([0], 86_000, [86_000 + 7200])], 10, 0, 2) == [pytest.approx(12.0), 0.0]


def test_intervals_for_vee():
    whole, touched = outage_slots([outage([1], 1000, [5500])], 3, 0, 4, 1800)
    assert whole[:, 1].tolist() == [False, True, True, False]
    assert touched[:, 1].tolist() == [True, True, True, True]
    assert not touched[:, [0, 2]].any()


def test_signs_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match="one of each"):
        Signs(np.zeros(2, np.int32), np.zeros(3, np.int64), np.zeros(2, np.int8))


def test_planted_outages_are_located_with_a_fifth_of_gasps_lost():
    run = one_run(5, days=4)
    on_the_tree = [j for j in run.judged if j.level != "service"]
    assert np.mean([j.node_right for j in on_the_tree]) >= 0.95
    assert all(j.customers_off == 0 for j in on_the_tree if j.level == "feeder")
    assert run.false <= 1
    assert run.told.saidi_min == pytest.approx(run.true.saidi_min, rel=0.03)
