"""The network's records: what contradicts itself is named, the rest is there."""

from __future__ import annotations

from datetime import date

import numpy as np

from openami.losses.network import Edge, Level, Node, children_first, tree_of_index, tree_on, with_fuses

from .towns import one_feeder

DAY, LONG_AGO = date(2026, 1, 15), date(2020, 1, 1)
NODES = [Node("S", Level.SUBSTATION), Node("F", Level.FEEDER), Node("T1", Level.TRANSFORMER, 100), Node("T2", Level.TRANSFORMER, 63)]
WIRES = [Edge("F", "S", LONG_AGO), Edge("T1", "F", LONG_AGO), Edge("T2", "F", LONG_AGO)]
OWN = [Edge("mF", "F", LONG_AGO), Edge("m1", "T1", LONG_AGO), Edge("m2", "T2", LONG_AGO)]
HOMES = [Edge("a", "T1", LONG_AGO), Edge("b", "T2", LONG_AGO)]
SERIALS = ["a", "b", "m1", "m2", "mF"]


def faults(tree) -> set[tuple[str, str]]:
    return {(fault.kind, fault.who) for fault in tree.faults}


def test_a_sound_network_has_no_faults():
    tree = tree_on(DAY, NODES, WIRES + HOMES, OWN, SERIALS)
    assert faults(tree) == set()
    assert tree.parent.tolist() == [-1, 0, 1, 1]
    assert tree.own_meter.tolist() == [-1, 4, 2, 3]
    assert tree.meter_node.tolist() == [2, 3, -1, -1, -1]


def test_an_edge_holds_from_since_and_before_until():
    moved = [Edge("a", "T1", LONG_AGO, DAY), Edge("a", "T2", DAY)]
    trees = {day: tree_on(day, NODES, [*WIRES, *moved, HOMES[1]], OWN, SERIALS) for day in (date(2026, 1, 14), DAY)}
    assert [tree.names[tree.meter_node[0]] for tree in trees.values()] == ["T1", "T2"]
    assert all(not tree.faults for tree in trees.values())


def test_a_transformers_phases_are_fuses_where_two_homes_hang_on_one():
    serials = [*"abcdef", "m1", "m2", "mF"]
    homes = [Edge(each, "T1" if each < "e" else "T2", LONG_AGO) for each in "abcdef"]
    tree = tree_on(DAY, NODES, WIRES + homes, OWN, serials)
    fused = with_fuses(tree, {0: "R", 1: "R", 2: "Y", 3: "RYB", 4: "B", 5: "B", 6: "RYB"})
    assert fused.names[4:] == ("T1 R", "T2 B")
    assert [fused.names[k] for k in fused.meter_node[:6]] == ["T1 R", "T1 R", "T1", "T1", "T2 B", "T2 B"]
    assert [fused.names[k] for k in fused.parent[4:]] == ["T1", "T2"]
    assert fused.below_first.tolist().index(4) < fused.below_first.tolist().index(2), "children come before their parents"
    assert with_fuses(fused, {0: "R", 1: "R"}) is fused
    assert with_fuses(tree, {}) is tree


def test_a_ring_is_named_cut_and_leaves_the_rest():
    ring = [Edge("F", "T2", LONG_AGO), Edge("T2", "F", LONG_AGO), Edge("T1", "S", LONG_AGO)]
    tree = tree_on(DAY, NODES, ring + HOMES, OWN, SERIALS)
    assert faults(tree) == {("cycle", "F"), ("cycle", "T2")}
    assert tree.parent.tolist() == [-1, -1, 0, -1]
    assert {(tree.names[c], tree.names[p]) for c, p in zip(tree.maybe_child, tree.maybe_parent, strict=True)} == {("F", "T2"), ("T2", "F")}


def test_a_node_that_feeds_itself_is_a_ring():
    tree = tree_on(DAY, NODES, [Edge("S", "S", LONG_AGO), *WIRES, *HOMES], OWN, SERIALS)
    assert faults(tree) == {("cycle", "S")}


def test_orphans_are_named():
    tree = tree_on(DAY, NODES, [*WIRES[:2], Edge("T2", "gone", LONG_AGO), Edge("a", "gone", LONG_AGO)], OWN, SERIALS)
    assert faults(tree) == {("orphan_meter", "a"), ("orphan_meter", "b"), ("orphan_node", "T2")}
    assert tree.meter_node.tolist()[:2] == [-1, -1]


def test_two_parents_on_a_day_count_at_neither():
    tree = tree_on(DAY, NODES, [*WIRES, *HOMES, Edge("a", "T2", LONG_AGO), Edge("T1", "S", LONG_AGO)], OWN, SERIALS)
    assert faults(tree) == {("two_parents", "a"), ("two_parents", "T1")}
    assert tree.meter_node[0] == -1
    assert tree.parent[2] == -1
    assert sorted(tree.names[n] for n in tree.maybe_node) == ["T1", "T2"]
    assert tree.maybe_share.tolist() == [0.5, 0.5]


def test_a_node_that_two_claim_may_hang_below_both():
    tree = tree_on(DAY, NODES, [*WIRES, *HOMES, Edge("T1", "S", LONG_AGO)], OWN, SERIALS)
    assert {(tree.names[c], tree.names[p]) for c, p in zip(tree.maybe_child, tree.maybe_parent, strict=True)} == {("T1", "F"), ("T1", "S")}


def test_a_meter_that_measures_two_nodes_counts_for_none_of_them():
    tree = tree_on(DAY, NODES, WIRES + HOMES, [OWN[0], OWN[1], Edge("m1", "T2", LONG_AGO)], SERIALS)
    assert ("two_parents", "m1") in faults(tree)
    assert tree.own_meter.tolist() == [-1, 4, -1, -1]


def test_the_same_parent_twice_is_one_parent():
    assert faults(tree_on(DAY, NODES, [*WIRES, *HOMES, HOMES[0]], OWN, SERIALS)) == set()


def test_a_rating_that_is_not_positive_is_named_and_unknown():
    nodes = [*NODES[:2], Node("T1", Level.TRANSFORMER, -25), Node("T2", Level.TRANSFORMER, float("nan"))]
    tree = tree_on(DAY, nodes, WIRES + HOMES, OWN, SERIALS)
    assert faults(tree) == {("rating", "T1"), ("rating", "T2")}
    assert np.isnan(tree.rating_kva).all()


def test_a_missing_transformer_meter_is_named():
    assert faults(tree_on(DAY, NODES, WIRES + HOMES, OWN[:2], [*SERIALS[:3], "mF"])) == {("meter_missing", "T2")}


def test_children_come_before_parents():
    parent = np.array([2, 2, 4, -1, -1, 0], np.int32)
    order = children_first(parent).tolist()
    assert all(order.index(k) < order.index(int(p)) for k, p in enumerate(parent) if p >= 0)


def test_the_registrys_two_levels_as_a_tree():
    tree = tree_of_index(one_feeder(2, 3))
    assert tree.levels == (Level.TRANSFORMER, Level.TRANSFORMER, Level.FEEDER)
    assert tree.parent.tolist() == [2, 2, -1]
    assert tree.own_meter.tolist() == [6, 7, 8]
    assert tree.meter_node.tolist() == [0, 0, 0, 1, 1, 1, -1, -1, -1]
