"""kill -9 of the head-end in the middle of the fleet's work, ten times, and a restart each time: nothing that was confirmed is lost.

Ten seeded points of the fleet's progress; the meters go on pushing all the while. The same town pushes once more undisturbed, to compare.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest

from openami.cosem.axdr import Data
from openami.cosem.push import layout_for, read_push
from openami.day import Site, collect
from openami.demo.run import found
from openami.fleet import run as fleet_run
from openami.fleet.faults import Kind, Plan, Send, expected_grid, expected_refusals, plant
from openami.fleet.meter import BLOCK_LOAD_PUSH
from openami.fleet.run import CONFIRMED, Fleet, Outcome
from openami.fleet.town import HEADEND_TITLE, Town, build_town, measure
from openami.headend.admission import Admission, correspondents
from openami.headend.registers import Reports, carries_block_load
from openami.registry import Meter
from openami.store.deployment import Folder
from openami.store.journal import Journal, Refusal
from openami.store.keys import load_master_key

from .running import Headend

KILLS = 10
SEED = 7
FIRST_DAY = date(2025, 12, 1)


@dataclass
class Story:
    """What is left of one run: the fleet's view, the journal's, the quarantine's, and the grid's (`raw` is [meter, slot], import Wh)."""

    town: Town
    plan: Plan
    outcome: Outcome
    kills: int
    in_doubt: Counter[str | None]
    stop: tuple[int, str]
    judged: list[Refusal]
    accepted: set[tuple[str, int]]
    quarantine: list[Refusal]
    raw: np.ndarray


def tell(folder: Folder, kill_points: list[int]) -> Story:
    town = build_town(SEED, 40, FIRST_DAY, 1, ("BR-DS2",))
    plan = plant(town)
    measure(town)
    found(folder, town)
    headend = Headend(folder.root)
    with headend:
        outcome, in_doubt = asyncio.run(_push(town, plan, headend, kill_points))
        stop = headend.stop()
    site = Site.open(folder)
    judged, accepted = _judge_again(site)
    collect(site)
    journal = Journal(folder.journal)
    quarantine = journal.quarantine()
    journal.close()
    raw = np.empty(town.metered_wh.shape, np.int32)
    place = np.array([(m.shard, m.index) for m in town.meters])
    for shard in site.rows.shards():
        own = place[:, 0] == shard
        raw[own] = site.lake.read_blocks("raw", FIRST_DAY, shard)["import_wh"].values[:, place[own, 1]].T
    site.rows.close()
    return Story(town, plan, outcome, headend.kills, in_doubt, stop, judged, accepted, quarantine, raw)


async def _push(town: Town, plan: Plan, headend: Headend, kill_points: list[int]) -> tuple[Outcome, Counter[str | None]]:
    """The fleet to its end, with a kill at each point of its progress. Also counts, by meter, the pushes that nobody ever confirms and that
    were on a connection which a kill cut: whether they reached the journal, nobody can say."""
    done = 0
    down = asyncio.Event()
    in_doubt: Counter[str | None] = Counter()

    def tick(steps: int) -> None:
        nonlocal done
        done += steps
        if kill_points and done >= kill_points[0] and not down.is_set():
            kill_points.pop(0)
            headend.kill()
            down.set()

    async def restart() -> None:
        while True:
            await down.wait()
            await asyncio.to_thread(headend.start)
            down.clear()

    class Watched(fleet_run._Pusher):
        pending = 0
        kills = 0

        async def _attempt(self, at: int, send: Send) -> None:
            await super()._attempt(at, send)
            self.pending = 0 if send.kind in CONFIRMED else self.pending + 1

        async def _connect(self) -> None:
            if self._writer is None:
                self.kills = headend.kills
            await super()._connect()

        def _drop(self) -> None:
            if self.kills != headend.kills:
                known = self._number < len(town.meters)
                in_doubt[town.meters[self._number].serial if known else None] += self.pending
            self.pending = 0
            super()._drop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet_run, "_Pusher", Watched)
        fleet = Fleet(town, plan, "127.0.0.1", lambda: headend.port, tick=tick)
        again = asyncio.create_task(restart())
        outcome = await fleet.run()
        while down.is_set():
            await asyncio.sleep(0)
        again.cancel()
    return outcome, in_doubt


def _judge_again(site: Site) -> tuple[list[Refusal], set[tuple[str, int]]]:
    """The whole journal judged from its first frame: refusals, and (serial, stamp) of every reading and (serial, time) of every gasp and breath that
    was taken in."""
    known = correspondents(site.rows.meters(), site.rows.wrapped_keys(), load_master_key(site.folder.master_key))
    admission = Admission(known, HEADEND_TITLE)
    journal = Journal(site.folder.journal)
    refused, accepted = [], set()
    for batch in journal.batches():
        for position, octets in enumerate(batch.frames):
            verdict = admission.judge(octets)
            if verdict.cause is not None:
                refused.append(Refusal(batch.seq, position, verdict.cause, verdict.detail, verdict.serial, batch.received_us, octets))
                continue
            assert verdict.meter is not None
            assert verdict.notification is not None
            accepted |= {(verdict.meter.serial, stamp) for stamp in _stamps(verdict.meter, verdict.notification.body)}
    journal.close()
    return refused, accepted


def _stamps(meter: Meter, body: Data) -> list[int]:
    if carries_block_load(body):
        return [stamp for stamp, _ in read_push(layout_for(meter.maker, meter.model, BLOCK_LOAD_PUSH), body).rows if stamp]
    reports = Reports({})
    reports.push(meter, body, 0)
    return [event.at_s for event in reports.events]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(Folder(tmp_path_factory.mktemp("undisturbed")), [])


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, undisturbed: Story) -> Story:
    sends = sum(len(own) for own in undisturbed.plan.sends)
    points = sorted(random.Random(SEED).sample(range(sends // 20, sends * 19 // 20), KILLS))
    return tell(Folder(tmp_path_factory.mktemp("killed")), points)


def test_the_head_end_was_killed_ten_times_at_work(killed: Story) -> None:
    assert killed.kills == KILLS
    assert killed.outcome.again >= KILLS


def test_every_confirmed_push_is_in_the_journal(killed: Story) -> None:
    confirmed = set()
    for number, at in killed.outcome.confirmed:
        send = killed.plan.sends[number][at]
        first = killed.town.calendar.day_start(FIRST_DAY)
        stamp = fleet_run.YEAR_2000 + 900 * (send.slot + 1) if send.stamp_slot is None else first + 900 * (send.stamp_slot + 1)
        stamp = send.at_s or stamp
        confirmed.add((killed.town.meters[number].serial, stamp))
    assert confirmed - killed.accepted == set()


def test_every_push_of_the_plan_was_confirmed_in_the_end(killed: Story) -> None:
    wanted = {(k, at) for k, own in enumerate(killed.plan.sends) for at, send in enumerate(own) if send.kind in CONFIRMED}
    assert killed.outcome.confirmed == wanted


def test_the_day_grid_is_what_the_plan_says(killed: Story) -> None:
    expected, _ = expected_grid(killed.town, killed.plan, "import_wh")
    np.testing.assert_array_equal(killed.raw, expected)


def test_the_day_grid_is_that_of_an_undisturbed_run(killed: Story, undisturbed: Story) -> None:
    np.testing.assert_array_equal(killed.raw, undisturbed.raw)


def test_the_quarantine_is_what_the_whole_journal_gives_when_judged_at_once(killed: Story) -> None:
    """Ten processes remembered their verdicts piece by piece; together they must have judged as one."""
    assert [r for r in killed.quarantine if r.cause != "out_of_day"] == killed.judged


def test_an_undisturbed_quarantine_is_the_planted_one(undisturbed: Story) -> None:
    assert Counter(r.cause for r in undisturbed.quarantine) == expected_refusals(undisturbed.town, undisturbed.plan)


def test_the_quarantine_is_that_of_an_undisturbed_run_apart_from_repeats(killed: Story, undisturbed: Story) -> None:
    """By meter and cause. More only where a push stamped out of day was made again; less only where a push that is never confirmed was on a
    connection that a kill cut."""
    reset = {killed.town.meters[k].serial for k, own in enumerate(killed.plan.sends[:-1]) if any(s.kind is Kind.CLOCK_RESET for s in own)}
    after, before = (Counter((r.serial, r.cause) for r in story.quarantine) for story in (killed, undisturbed))
    for key in after | before:
        serial, cause = key
        surplus = after[key] - before[key]
        assert surplus <= (killed.outcome.again if serial in reset and cause == "out_of_day" else 0), key
        assert -surplus <= _in_doubt(killed, serial), key


def _in_doubt(story: Story, serial: str | None) -> int:
    """What carries no serial in quarantine (strangers, frames cut off before their title could be trusted) may be anybody's."""
    return story.in_doubt[serial] if serial else sum(story.in_doubt.values())


def test_the_head_end_stops_in_good_order_after_all(killed: Story, undisturbed: Story) -> None:
    assert (killed.stop[0], undisturbed.stop[0]) == (0, 0)


def test_a_kill_leaves_no_push_judged_twice(killed: Story) -> None:
    assert len({(r.seq, r.position) for r in killed.quarantine}) == len(killed.quarantine)
