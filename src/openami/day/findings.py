"""What the energy audit finds, written down behind the close: one (day, shard) at a time, read by `found.py`.

    loss_account        every node's account with its interval, of the day and of each hour
    loss_share          what the shard takes and gives below nodes that other shards' feeders hang on too (`shares.py`)
    outages, outage_customers, reliability
    suspects, mapping_proposals, mapping_doubts, technical, loading   of the last closed day only, over the days that end with it
    findings            what these rows were made from

What always holds: only measured values make somebody a suspect, never estimates; where it hangs is asked before a meter is suspected; a day
whose readings, or whose meters' words about their supply, or whose network's records are others than those that its findings were made from is done
again; done again from the same it is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial

import numpy as np
import pyarrow as pa

from ..losses.account import Account, Part
from ..readings import IMPORT_WH, MISSING64, Int64
from ..store.heard import MeterEvent
from .audit import given_of, totals_of
from .closes import is_closed
from .meter_errors import errors_of, read_errors
from .network import FOLDER, Drawn, Network, drawn_of, network_of
from .outages import AFTER_DAYS, BEFORE_DAYS, events_mark, outage_tables, outages_of, supply_events
from .shares import TABLE as SHARES
from .shares import share_rows
from .site import Site
from .span import SPAN_DAYS
from .suspected import look_back

BEHIND_DAYS = 40
"""How many of the last closed days are looked at where none are named."""


def record(
    site: Site,
    days: Sequence[date] | None = None,
    shards: Sequence[int] | None = None,
    *,
    span_days: int = SPAN_DAYS,
    anew: bool = False,
    threads: int = 2,
) -> Counter[str]:
    """Write the findings of closed days that have none yet, or others than they should have; `anew`: of all of them. days: None = the last
    `BEHIND_DAYS` closed ones. Gives how many (day, shard) were `recorded` and of how many shards the suspects were `looked` for."""
    closed = site.lake.days("closes")
    wanted = sorted(set(days) & set(closed)) if days is not None else closed[-BEHIND_DAYS:]
    if not wanted:
        return Counter()
    own = site.rows.shards() if shards is None else shards
    events, drawn = supply_events(site, wanted[0], wanted[-1]), drawn_of(site)
    with ThreadPoolExecutor(threads, thread_name_prefix="findings") as pool:
        done: Counter[str] = Counter()
        for each in pool.map(partial(_record_shard, site, wanted, events, drawn, span_days, anew), own):
            done += each
    return done


def _record_shard(
    site: Site, days: Sequence[date], events: list[MeterEvent], drawn: Drawn, span_days: int, anew: bool, shard: int
) -> Counter[str]:
    done: Counter[str] = Counter()
    closed = [day for day in days if is_closed(site.lake, day, shard)]
    for day in closed:
        near = _near(site, day, events)
        mark = f"{site.lake.content('validated', day, shard)};{events_mark(near)};{drawn.mark}"
        if anew or not site.lake.has("findings", day, shard) or site.lake.read("findings", day, shard)["made_from"][0].as_py() != mark:
            record_day(site, day, shard, near, mark, drawn)
            done["recorded"] += 1
    if closed and (done["recorded"] or not site.lake.has("suspects", closed[-1], shard)) and closed[-1] == _last_closed(site, shard):
        look_back(site, closed[-1], shard, span_days)
        done["looked"] += 1
    return done


def record_day(site: Site, day: date, shard: int, events: list[MeterEvent], mark: str, drawn: Drawn) -> None:
    """The account and the outages of one closed (day, shard)."""
    accounts, share = account_rows(site, day, shard, drawn)
    with site.lake.draft(day) as draft:
        draft.write("loss_account", shard, accounts)
        draft.write(SHARES, shard, share)
        for name, rows in outage_tables(site, day, outages_of(site, day, shard, events, drawn)).items():
            draft.write(name, shard, rows)
        draft.write("findings", shard, pa.table({"made_from": pa.array([mark], pa.string())}))
        draft.commit()


def account_rows(site: Site, day: date, shard: int, drawn: Drawn) -> tuple[pa.Table, pa.Table]:
    """Rows of `loss_account`: the shard's own nodes, the whole day (hour null) and its hours; and its rows of `loss_share`."""
    index = site.index_of(shard, day)
    blocks = site.lake.read_blocks("validated", day, shard)
    energy = blocks[IMPORT_WH.name]
    network = network_of(site, index, day, energy.values, drawn)
    errors = errors_of(site, index, network.tree, energy, read_errors(site.folder.root / FOLDER))
    slots = len(energy.values)
    parts, shares = [], []
    per_hour = 60 // site.deployment.interval_minutes
    for per_span, hourly in ((slots, False), (per_hour, True)):
        if not hourly or (per_hour > 0 and slots % per_hour == 0):
            taken, given = totals_of(energy, index, per_span), given_of(blocks, index, per_span)
            spans = len(taken.wh)
            found, share = network.account(taken, given, errors, site.calendar.interval_s, network.assessed(spans))
            parts.append(_rows(found, network, hourly))
            shares.append(share_rows(share, hourly=hourly))
    return pa.concat_tables(parts), pa.concat_tables(shares)


def _rows(found: Account, network: Network, hourly: bool) -> pa.Table:
    spans, nodes = len(found.loss_wh), network.own
    count = spans * nodes.size

    def whole(values: Int64) -> pa.Array:
        flat = values[:, nodes].ravel()
        return pa.array(flat, mask=flat == MISSING64)

    def real(values: np.ndarray) -> pa.Array:
        flat = values[:, nodes].ravel().astype(np.float64)
        return pa.array(flat, mask=~np.isfinite(flat))

    def text(names: Sequence[str]) -> pa.Array:
        return pa.array([names[k] for k in nodes.tolist()] * spans, pa.string())

    hour = np.repeat(np.arange(spans, dtype=np.int32), nodes.size)
    return pa.table(
        {
            "level": text([str(level) for level in network.tree.levels]),
            "node": text(network.tree.names),
            "feeder": text(network.feeder_of),
            "hour": pa.array(hour, mask=np.full(count, not hourly)),
            "in_wh": whole(found.in_wh),
            "out_wh": whole(found.out_wh),
            "loss_wh": whole(found.loss_wh),
            "likely_wh": real(found.likely_wh),
            "low_wh": real(found.low_wh),
            "high_wh": real(found.high_wh),
            "coverage": pa.array(np.nan_to_num(found.coverage[:, nodes].ravel())),
            "estimated_share": real(found.estimated_share),
            **{f"spread_{part.name.lower()}_wh": real(found.spread_wh[part]) for part in Part},
            "limit_wh": real(found.limit_wh),
            "moves": real(found.moves),
        }
    )


def _near(site: Site, day: date, events: list[MeterEvent]) -> list[MeterEvent]:
    """The events that a day's outages are found from."""
    calendar = site.calendar
    from_s, to_s = calendar.day_start(day - timedelta(days=BEFORE_DAYS)), calendar.day_start(day + timedelta(days=AFTER_DAYS + 1))
    return [e for e in events if from_s <= e.at_s < to_s]


def _last_closed(site: Site, shard: int) -> date | None:
    return max((day for day, own in site.lake.all_files("closes") if own == shard), default=None)
