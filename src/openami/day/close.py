"""Raw -> validated -> charges and statements -> balance: one (day, shard) at a time.

What always holds: `close` reads only its shard's raw, the validated days just before and the statements of the day before, so shards run side
by side and a day may be closed again at any time with the same result; every table of a (day, shard) is replaced as a whole; nobody is
charged for an interval that has neither a reading nor an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..losses.balance import NodeBalance, balance
from ..readings import CHANNEL_BY_NAME, ESTIMATED_BITS, IMPORT_WH, MISSING, MISSING64, VOLTAGE_V, DayBlock, Int32, Quality
from ..registry import ShardIndex
from ..store.blocks import BlockFile
from ..store.lake import Draft
from ..vee import load_rules, meter_limits
from ..vee import run as vee_run
from ..vee.tally import mean_meter, mean_of_days
from .charge import charge_day
from .site import Site
from .tell import tell


def close_all(
    site: Site,
    progress: Callable[[int], None] | None = None,
    threads: int = 2,
    *,
    days: Sequence[date] | None = None,
    shards: Sequence[int] | None = None,
) -> None:
    """Close every open day that has raw readings, shards side by side, days in order (a day needs the statements of the day before), or only
    the `days` and `shards` that are named. A day's shards become visible together."""
    own = site.rows.shards() if shards is None else shards
    with ThreadPoolExecutor(threads, thread_name_prefix="close") as pool:
        for day in site.deployment.open_days if days is None else days:
            with site.lake.draft(day) as draft:
                ready = [shard for shard in own if site.lake.has("raw", day, shard)]
                for _ in pool.map(lambda shard, day=day, draft=draft: close_shard(site, draft, day, shard), ready):
                    if progress:
                        progress(1)
                draft.commit()


def close(site: Site, day: date, shard: int) -> None:
    """One (day, shard) from raw readings to statements and losses."""
    with site.lake.draft(day) as draft:
        close_shard(site, draft, day, shard)
        draft.commit()


def close_shard(site: Site, draft: Draft, day: date, shard: int) -> None:
    """The same, written into a draft of the day."""
    index, roll = site.registry_of(shard, day)
    validated = validate(site, day, index, site.lake.read_blocks("raw", day, shard))
    draft.write_blocks("validated", list(validated.values()))
    charged = charge_day(site, roll, validated)
    draft.write("usage", shard, charged.usage)
    draft.write("charges", shard, charged.charges)
    draft.write("statements", shard, charged.statements)
    told = tell(site, day, shard, roll, charged.statements)
    draft.write("notices", shard, told.notices)
    draft.write("due", shard, told.due)
    draft.write("balance", shard, balance_rows(site, index, validated[IMPORT_WH.name]))


def validate(site: Site, day: date, index: ShardIndex, raw: dict[str, DayBlock]) -> dict[str, DayBlock]:
    """VEE of every channel of a (day, shard): energies by the rule book, averages as they came with their gaps marked."""
    book = load_rules()
    sets = [book.on(day, "domestic"), book.on(day, "network")]
    limits = meter_limits(
        sets, index.connected_load_w, site.deployment.interval_minutes, rule_of_meter=np.where(index.is_consumer, 0, 1).astype(np.int64)
    )
    validated = {}
    voltage = raw.get(VOLTAGE_V.name)
    for name, block in raw.items():
        channel = CHANNEL_BY_NAME[name]
        if not channel.additive:
            validated[name] = block
            continue
        before = _days_before(site, day, index.shard, name, sets[0].like_day_days)
        doubted = (block.quality & np.uint32(Quality.DUPLICATE)) != 0
        result = vee_run(
            block.values,
            limits,
            conflict=doubted if doubted.any() else None,
            voltage_cv=voltage.values if voltage else None,
            like_day=mean_of_days(before) if before else None,
            class_profile=_class_profile(block.values, index),
        )
        validated[name] = DayBlock(day, index.shard, channel, result.validated, result.quality)
    return validated


def _days_before(site: Site, day: date, shard: int, channel: str, count: int) -> list[Int32]:
    """Measured values of up to `count` days before `day`, newest last; estimates are left out (MISSING), so that no estimate feeds another."""
    found = []
    for back in range(count, 0, -1):
        earlier = day - timedelta(days=back)
        for path in site.lake.files("validated", earlier).get(shard, []) if "validated" in site.lake.tables() else []:
            file = BlockFile(path)
            if not file.meters(channel):
                continue
            values = file.values(channel)
            marks = site.lake.read("validated_quality", earlier, shard)
            own = pc.equal(marks["channel"], channel).to_numpy() & ((marks["quality"].to_numpy() & np.int32(ESTIMATED_BITS)) != 0)
            values[marks["slot"].to_numpy()[own], marks["meter"].to_numpy()[own]] = MISSING
            found.append(values)
    return found


def _class_profile(values: Int32, index: ShardIndex) -> Int32:
    """The average consumer's day, int32 [slot, rule set]: what fills a meter of which nothing is known; MISSING for the network's meters."""
    profile = np.full((len(values), 2), MISSING, np.int32)
    profile[:, 0] = mean_meter(values, index.is_consumer)
    return profile


def balance_rows(site: Site, index: ShardIndex, energy: DayBlock) -> pa.Table:
    """The balance of a (day, shard) as rows (kind, node, hour; hour null = the whole day), null where unknown."""
    found = balance(index, energy.values, energy.quality, 60 // site.deployment.interval_minutes)
    held = set(index.feeder[index.feeder >= 0].tolist())
    own_transformers = [k for k, f in enumerate(index.transformer_feeder) if int(f) in held]
    parts = []
    for kind, hours, whole, nodes in (
        ("transformer", found.transformers, found.transformers_day, own_transformers),
        ("feeder", found.feeders, found.feeders_day, sorted(held)),
    ):
        parts += [_node_rows(kind, hours, nodes, whole_day=False), _node_rows(kind, whole, nodes, whole_day=True)]
    return pa.concat_tables(parts)


def _node_rows(kind: str, node: NodeBalance, nodes: list[int], *, whole_day: bool) -> pa.Table:
    spans = node.in_wh.shape[0]
    estimated_share = node.estimated_share()[:, nodes].ravel()
    hour = np.tile(np.arange(spans, dtype=np.int32)[:, None], (1, len(nodes)))

    def energy(values: np.ndarray) -> pa.Array:
        flat = values[:, nodes].ravel()
        return pa.array(flat, mask=flat == MISSING64)

    return pa.table(
        {
            "kind": pa.array([kind] * hour.size),
            "node": pa.array([node.names[k] for k in nodes] * spans),
            "hour": pa.array(hour.ravel(), mask=np.full(hour.size, whole_day)),
            "in_wh": energy(node.in_wh),
            "out_wh": energy(node.out_wh),
            "loss_wh": energy(node.loss_wh),
            "coverage": pa.array(np.nan_to_num(node.coverage()[:, nodes].ravel())),
            "estimated_share": pa.array(estimated_share, mask=np.isnan(estimated_share)),
        }
    )
