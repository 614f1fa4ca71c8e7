"""What wires lose, where meters are silent or registered at the wrong transformer: the interval holds the truth, and says what it cannot know."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from openami.day.signs import Whereabouts
from openami.day.span import Group
from openami.day.technical import technical_rows
from openami.losses.features import WIRES_MAX
from openami.losses.mapping import Proposal
from openami.readings import MISSING

HOMES, SLOTS, DAYS = 20, 48, 10
"""Homes of each of two transformers."""


def town(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What homes take [slot, home], what came into the transformers [slot, dt], and the share that wires took [dt]."""
    day = 1 + np.exp(-(((np.arange(SLOTS) - 40) / 4) ** 2)) * 3
    taken = rng.gamma(1.5, 1.0, (SLOTS * DAYS, 2 * HOMES)) * np.tile(day, DAYS)[:, None] * rng.uniform(80, 250, 2 * HOMES)
    below = taken.reshape(len(taken), 2, HOMES).sum(axis=2)
    wires = 0.02 * below**2 / below.mean(axis=0)
    return np.rint(taken).astype(np.int32), np.rint(below + wires).astype(np.int64), wires.sum(axis=0) / (below + wires).sum(axis=0)


def told(wh: np.ndarray, into: np.ndarray, at: np.ndarray, where: Whereabouts) -> list[dict]:
    index = SimpleNamespace(transformers=("T0", "T1"), feeders=("F",), is_feeder=np.zeros(2 * HOMES, bool), feeder=np.zeros(2 * HOMES, int))
    span = SimpleNamespace(index=index, wh=wh, slots_per_day=SLOTS, days=DAYS)
    group = Group(span, "F", np.arange(2), np.arange(2 * HOMES), at, into, np.arange(2))
    return technical_rows(group, where, 1800)


def holds(row: dict, share: float) -> bool:
    return row["low_wh"] <= share * row["in_wh"] <= row["high_wh"]


AT_HOME = np.repeat(np.arange(2, dtype=np.int32), HOMES)
CERTAIN = Whereabouts(np.zeros(2 * HOMES))


@pytest.mark.parametrize("seed", range(5))
def test_a_meter_counts_where_it_is_proposed_to_hang(seed: int) -> None:
    wh, into, share = town(np.random.default_rng(seed))
    registered = AT_HOME.copy()
    registered[0] = 1
    moved = Whereabouts(np.zeros(2 * HOMES), (Proposal(0, 1, 0, 0.999, 9.0, 9.0),))
    clean = told(wh, into, AT_HOME, CERTAIN)
    mended = told(wh, into, registered, moved)
    assert [row["technical_wh"] for row in mended] == [row["technical_wh"] for row in clean]
    assert all(holds(row, s) for row, s in zip(mended, share, strict=True))
    assert [row["technical_wh"] for row in told(wh, into, registered, CERTAIN)] != [row["technical_wh"] for row in clean]


@pytest.mark.parametrize("seed", range(5))
def test_a_silent_meter_widens_its_own_transformers_interval(seed: int) -> None:
    wh, into, share = town(np.random.default_rng(seed))
    whole, sure = told(wh, into, AT_HOME, CERTAIN)
    wh[:, 3] = MISSING
    wide, other = told(wh, into, AT_HOME, CERTAIN)
    assert holds(wide, share[0])
    assert wide["high_wh"] - wide["low_wh"] > 2 * (whole["high_wh"] - whole["low_wh"])
    assert other == sure


def test_a_fit_at_its_bound_says_no_more_than_that() -> None:
    """Somebody takes a fifth of the load past the meters, at the hours when least is used."""
    wh, into, _ = town(np.random.default_rng(1))
    quiet = into[:, 0] < np.median(into[:, 0])
    into[quiet, 0] += into[:, 0].mean(dtype=np.int64) // 5
    row, _ = told(wh, into, AT_HOME, CERTAIN)
    assert (row["technical_wh"], row["low_wh"]) == (0, 0)
    assert row["high_wh"] == pytest.approx(WIRES_MAX * row["in_wh"])
