"""What goes wrong in the town, planted by seed, with its ground truth: the judge of everything downstream.

A `Plan` holds, for each meter, the pushes it will attempt, in order, each with its kind. From the plan alone follows what must arrive, what must
be refused and why, and which slots must be missing; the demo compares that with what the head-end, the grid and VEE found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np

from ..readings import MISSING, Bool, Quality
from .households import SLOTS_PER_DAY
from .outages import SLOT_S, Dark, plant_outages, with_supply
from .town import Town


class Kind(StrEnum):
    """What one push is: `plain` ones are a healthy meter's; each other kind has one fate, named beside it."""

    PLAIN = "plain"  # taken in
    LATE = "late"  # taken in, after newer ones
    RESEND = "resend"  # the same reading again under a fresh counter: taken in, changes nothing
    LOST = "lost"  # never reaches the head-end
    REPLAY = "replay"  # an old frame's bytes again: replayed_counter
    MALFORMED = "malformed"  # cut off in the middle: malformed
    WRONG_KEY = "wrong_key"  # bad_tag where there is a tag, else undecipherable
    UNKNOWN = "unknown"  # from a meter that nobody registered: unknown_meter
    CLOCK_RESET = "clock_reset"  # stamped in the year 2000: out_of_day
    CLOCK_FAST = "clock_fast"  # stamped three slots ahead: taken in, at the wrong place
    GASP = "gasp"  # a status word: supply is going
    BREATH = "breath"  # a status word: supply is back
    UNHEARD = "unheard"  # a gasp or breath that never reaches the head-end


@dataclass(frozen=True, slots=True)
class Send:
    """One attempted push: the reading of `slot`, stamped as `stamp_slot` (slots from the first day's midnight; None = year 2000). at_s: of a gasp or
    breath, when it is said, UTC seconds."""

    kind: Kind
    slot: int
    stamp_slot: int | None
    at_s: int = 0


@dataclass(slots=True)
class Plan:
    """sends: per meter (registry order; one more at the end for the unregistered one). The rest is the ground truth, by meter number.

    broken: (how, first slot, last slot + 1) of a meter that counts wrong: see `BREAKS`.
    """

    sends: list[list[Send]]
    silent: dict[int, tuple[int, int]] = field(default_factory=dict)
    wrong_key: list[int] = field(default_factory=list)
    clock_reset: dict[int, tuple[int, int]] = field(default_factory=dict)
    clock_fast: dict[int, tuple[int, int]] = field(default_factory=dict)
    theft: dict[int, str] = field(default_factory=dict)
    mapped_wrong: dict[int, str] = field(default_factory=dict)
    broken: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    dark: list[Dark] = field(default_factory=list)

    def arriving(self, meter: int) -> Iterator[Send]:
        """The sends of `meter` whose reading must reach the day grid, in order."""
        return (s for s in self.sends[meter] if s.kind in TAKEN_IN)

    def sent_by_kind(self) -> dict[str, int]:
        return dict(sorted(Counter(str(s.kind) for own in self.sends for s in own).items()))


TAKEN_IN = frozenset({Kind.PLAIN, Kind.LATE, Kind.RESEND, Kind.CLOCK_FAST})
BREAKS = {"stuck": Quality.FROZEN, "dead": Quality.ZERO, "jump": Quality.PLAUSIBILITY, "backwards": Quality.PLAUSIBILITY}
"""How a meter counts wrong, and the check that must see it: the same value for 9 h, nothing for 16 h, 60 kWh or -1.5 kWh in a quarter hour."""
CLOCK_FAST_SLOTS = 3
YEAR_2000 = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())


def plant(town: Town) -> Plan:
    """Choose the victims and make every meter's list of sends. Changes `town`: thieves' meters count less, two usage points are mapped wrong.

    Thieves are among the 15 % that use most: that is where theft pays, and where a balance over one transformer can see it. Where a small town
    has too few lively houses for the other faults, quiet ones take their place.
    """
    rng = np.random.default_rng([town.seed, 1])
    plan = Plan(sends=[])
    use_wh = town.true_wh[: town.consumers].sum(axis=1) / town.days
    large = rng.permutation(np.flatnonzero(_lively(town) & (use_wh > np.quantile(use_wh, 0.85)))).tolist()
    for shape, thief in zip(("h1", "h2", "h3"), large, strict=False):
        _steal(rng, town, plan, thief, shape)
    lively = _lively(town)
    order = [*rng.permutation(np.flatnonzero(lively)).tolist(), *np.flatnonzero(~lively).tolist()]
    order = [v for v in order if v not in plan.theft]
    busy = [v for v in order if use_wh[v] > np.quantile(use_wh, 0.6)][:2]
    for victim in busy:
        _map_wrong(town, plan, victim)
    after = order.index(busy[-1]) + 1
    victims = iter([*order[after:], *(v for v in order[:after] if v not in busy)])
    slots = town.slots
    plan.silent[next(victims)] = (0, slots)
    plan.silent[next(victims)] = (int(slots * 0.55), slots)
    start = int(rng.integers(slots // 4, slots // 2))
    plan.silent[next(victims)] = (start, start + slots // 6)
    by_policy = {m.security_control: k for k, m in reversed(list(enumerate(town.meters[: town.consumers]))) if k not in _taken(plan)}
    plan.wrong_key = [by_policy[control] for control in (0x20, 0x30) if control in by_policy]
    rest = (v for v in victims if v not in plan.wrong_key)
    plan.clock_reset[next(rest)] = (slots // 3, slots // 3 + slots // 8)
    plan.clock_fast[next(rest)] = (slots // 5, slots // 5 + slots // 4)
    for how in BREAKS:
        _break(town, plan, next(rest), how)
    plan.dark = plant_outages(town, {*plan.wrong_key, *(k for k, (_, last) in plan.silent.items() if last == slots)})
    for k in range(len(town.meters)):
        plan.sends.append(_sends(rng, plan, k, slots, healthy=k not in _taken(plan)))
    for outage in plan.dark:
        _go_dark(town, plan, outage)
    plan.sends.append([Send(Kind.UNKNOWN, s, s) for s in range(0, slots, 12)])
    return plan


def healthy_meters(town: Town, plan: Plan) -> list[int]:
    """The consumers' meters without a planted fault of their own, in registry order."""
    taken = _taken(plan)
    return [k for k in range(town.consumers) if k not in taken]


def expected_grid(town: Town, plan: Plan, channel: str) -> tuple[np.ndarray, Bool]:
    """What the day grid must hold by the plan: values int32 [meter, slot] (first claim by counter; MISSING where none) and conflicts bool."""
    values = np.full(town.metered_wh.shape, MISSING, np.int32)
    conflict = np.zeros(values.shape, np.bool_)
    truth = town.channels[channel]
    for k in range(len(town.meters)):
        for send in plan.arriving(k):
            at = send.stamp_slot
            if at is None or not 0 <= at < town.slots:
                continue
            value = truth[k, send.slot]
            if values[k, at] == MISSING:
                values[k, at] = value
            elif values[k, at] != value:
                conflict[k, at] = True
    return values, conflict


def expected_refusals(town: Town, plan: Plan) -> dict[str, int]:
    """cause -> number of frames that must be in quarantine."""
    causes: Counter[str] = Counter()
    for k, own in enumerate(plan.sends):
        causes.update(c for c in (cause_of(town, k, send) for send in own) if c is not None)
    return dict(sorted(causes.items()))


def cause_of(town: Town, meter: int, send: Send) -> str | None:
    """The quarantine's cause that `send` must get, or None where it is taken in or never arrives."""
    if send.kind is Kind.WRONG_KEY:
        return "bad_tag" if town.meters[meter].security_control & 0x10 else "undecipherable"
    if send.kind in TAKEN_IN and send.stamp_slot is not None and not 0 <= send.stamp_slot < town.slots:
        return "out_of_day"
    return {
        Kind.REPLAY: "replayed_counter",
        Kind.MALFORMED: "malformed",
        Kind.UNKNOWN: "unknown_meter",
        Kind.CLOCK_RESET: "out_of_day",
    }.get(send.kind)


def _lively(town: Town) -> Bool:
    """Consumers whose use is large and steady enough that a planted fault can be told from an empty house."""
    own = town.true_wh[: town.consumers]
    sound = (own == town.metered_wh[: town.consumers]).all(axis=1)
    return np.asarray(sound & (own.sum(axis=1) > 12_000 * town.days) & ((own == 0).mean(axis=1) < 0.02), np.bool_)


def _taken(plan: Plan) -> set[int]:
    return {*plan.silent, *plan.wrong_key, *plan.clock_reset, *plan.clock_fast, *plan.theft, *plan.mapped_wrong, *plan.broken}


def _steal(rng: np.random.Generator, town: Town, plan: Plan, meter: int, shape: str) -> None:
    """h1: a constant share is counted; h2: nothing for 10 hours of each day; h3: a random share of each reading (after Jokar et al. 2016)."""
    plan.theft[meter] = shape
    own = town.metered_wh[meter].astype(np.float64)
    if shape == "h1":
        own *= rng.uniform(0.1, 0.4)
    elif shape == "h2":
        own.reshape(town.days, SLOTS_PER_DAY)[:, 40:80] = 0
    else:
        own *= rng.uniform(0.1, 0.8, own.shape)
    town.metered_wh[meter] = np.rint(own).astype(np.int32)


def _break(town: Town, plan: Plan, meter: int, how: str) -> None:
    """The meter counts wrong for a while of the first day."""
    own = town.metered_wh[meter]
    first, last = {"stuck": (28, 64), "dead": (20, 84), "jump": (50, 51), "backwards": (61, 62)}[how]
    plan.broken[meter] = (how, first, last)
    own[first:last] = {"stuck": max(int(own[first]), 40), "dead": 0, "jump": 60_000, "backwards": -1_500}[how]


def _map_wrong(town: Town, plan: Plan, meter: int) -> None:
    """The registry puts `meter` on a neighbouring transformer of the same feeder; the wire goes elsewhere."""
    point = town.points[meter]
    same_feeder = [t.name for t in town.transformers if t.feeder == point.feeder and t.name != point.transformer]
    if same_feeder:
        plan.mapped_wrong[meter] = str(point.transformer)
        town.points[meter] = replace(point, transformer=same_feeder[meter % len(same_feeder)])


def _sends(rng: np.random.Generator, plan: Plan, meter: int, slots: int, *, healthy: bool) -> list[Send]:
    """One meter's pushes in the order in which it attempts them."""
    if meter in plan.wrong_key:
        return [Send(Kind.WRONG_KEY, s, s) for s in range(slots)]
    quiet = plan.silent.get(meter, (slots, slots))
    reset = plan.clock_reset.get(meter, (slots, slots))
    fast = plan.clock_fast.get(meter, (slots, slots))
    luck = rng.random(slots)
    queue: list[tuple[float, Send]] = []
    for s in range(slots):
        if quiet[0] <= s < quiet[1]:
            continue
        if reset[0] <= s < reset[1]:
            queue.append((s, Send(Kind.CLOCK_RESET, s, None)))
        elif fast[0] <= s < fast[1]:
            queue.append((s, Send(Kind.CLOCK_FAST, s, s + CLOCK_FAST_SLOTS)))
        elif not healthy or luck[s] > 0.02:
            queue.append((s, Send(Kind.PLAIN, s, s)))
        else:
            queue.extend(_mishap(rng, luck[s], s))
    return _replays_behind_newer([send for _, send in sorted(queue, key=lambda item: item[0])])


def _go_dark(town: Town, plan: Plan, outage: Dark) -> None:
    """The meters of an outage push nothing while it is dark: an interval wholly in it is never captured, the one in which it began is pushed when
    supply is back. A transformer's own meter is dark with it; a feeder's stands in the substation and is not."""
    supply = with_supply(town, outage)
    begins_s = town.calendar.day_start(town.first_day)
    dark = set(np.flatnonzero(supply == 0).tolist())
    first, last = (outage.start_s - begins_s) // SLOT_S, (outage.end_s - begins_s) // SLOT_S
    own = [town.consumers + k for k, t in enumerate(town.transformers) if outage.node in (t.name, t.feeder)]
    for k in (*outage.meters, *own):
        if k in plan.wrong_key:
            continue
        kept = [s for s in plan.sends[k] if s.slot not in dark or s.kind is Kind.CLOCK_RESET]
        held = [s for s in kept if s.slot == first < last]
        rest = [s for s in kept if s.slot != first or first == last]
        gasp, breath = outage.gasps.get(k), outage.breaths.get(k)
        words = [Send(Kind.GASP, first, None, gasp) if gasp else Send(Kind.UNHEARD, first, None)] if k in outage.meters else []
        words += [Send(Kind.BREATH, last, None, breath) if breath else Send(Kind.UNHEARD, last, None)] if k in outage.meters else []
        at = next((n for n, s in enumerate(rest) if s.slot >= last and s.kind is Kind.PLAIN), len(rest))
        plan.sends[k] = _replays_behind_newer([*rest[:at], *words, *held, *rest[at:]])


def _replays_behind_newer(sends: list[Send]) -> list[Send]:
    """The same without replays of the very last frame that was taken in: that is a meter's own repetition, which is confirmed again and no replay."""
    kept: list[Send] = []
    last: Send | None = None
    for send in sends:
        if send.kind is Kind.REPLAY and last is not None and (last.kind, last.slot) == (Kind.PLAIN, send.slot):
            continue
        kept.append(send)
        last = send if send.kind in TAKEN_IN or send.kind is Kind.CLOCK_RESET else last
    return kept


def _mishap(rng: np.random.Generator, luck: float, s: int) -> list[tuple[float, Send]]:
    """What happens to one push of a healthy meter in the unlucky two per cent."""
    if luck < 0.005:
        return [(s, Send(Kind.LOST, s, s))]
    if luck < 0.010:
        return [(s, Send(Kind.PLAIN, s, s)), (s + 0.5, Send(Kind.RESEND, s, s))]
    if luck < 0.016:
        return [(s + int(rng.integers(2, 60)) + 0.25, Send(Kind.LATE, s, s))]
    if luck < 0.018:
        return [(s, Send(Kind.PLAIN, s, s)), (s + int(rng.integers(1, 20)) + 0.75, Send(Kind.REPLAY, s, s))]
    return [(s, Send(Kind.PLAIN, s, s)), (s + 0.6, Send(Kind.MALFORMED, s, s))]
