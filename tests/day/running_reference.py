"""The running day as plainly as can be: each shard's whole blocks through what accounts for closed days, settled everywhere; nothing kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from openami.day import Site
from openami.day.audit import given_of, totals_of
from openami.day.found import NodeAccount, node_account
from openami.day.meter_errors import errors_of, read_errors
from openami.day.network import FOLDER, drawn_of, network_of
from openami.day.shares import above_rows, figures
from openami.losses.above import join
from openami.losses.account import Assessed
from openami.readings import EXPORT_WH, IMPORT_WH, MISSING, DayBlock, Quality


def plainly(site: Site, day: date, slots: int) -> dict[tuple[str, str, int | None], NodeAccount]:
    """Every account of the first intervals of a day, by level, node and hour (None = from midnight on)."""
    rows: list[dict[str, Any]] = []
    shares: dict[bool, list] = {False: [], True: []}
    of_day, per_hour = site.calendar.slots(day), max(1, 60 // site.deployment.interval_minutes)
    for shard in sorted(site.lake.files("raw", day)):
        index = site.index_of(shard, day)
        came = site.lake.read_blocks("raw", day, shard)
        blocks = {name: first_of(came[name], slots, index.meters) for name in (IMPORT_WH.name, EXPORT_WH.name) if name in came}
        energy = blocks[IMPORT_WH.name]
        network = network_of(site, index, day, energy.values, drawn_of(site))
        errors = errors_of(site, index, network.tree, energy, read_errors(site.folder.root / FOLDER))
        passed = replace(network, above=tuple(replace(one, load_wh=one.load_wh * slots / of_day) for one in network.above))
        for hourly, per_span in ((False, slots), (True, per_hour)):
            within = np.array([min(per_span, slots - at) for at in range(0, slots, per_span)])
            load = Assessed(within[:, None] * network.assessed_wh[None, :] / of_day)
            taken, given = totals_of(energy, index, per_span), given_of(blocks, index, per_span)
            found, share = passed.account(taken, given, errors, site.calendar.interval_s, load)
            shares[hourly].append(share)
            rows += [
                {
                    "level": str(network.tree.levels[k]),
                    "node": network.tree.names[k],
                    "feeder": network.feeder_of[k],
                    "hour": span if hourly else None,
                    **figures(found, span, k),
                }
                for k in network.own.tolist()
                for span in range(len(within))
            ]
    for hourly, own in shares.items():
        if (above := join(own)) is not None:
            rows += above_rows(above, hourly=hourly)
    return {(row["level"], row["node"], row["hour"]): node_account([row]) for row in rows}


def first_of(block: DayBlock, slots: int, meters: int) -> DayBlock:
    """The first intervals, of so many meters, without what none can have counted."""
    since = ((0, 0), (0, meters - block.values.shape[1]))
    values = np.pad(block.values[:slots], since, constant_values=MISSING)
    quality = np.pad(block.quality[:slots], since, constant_values=np.uint32(Quality.MISSING))
    return replace(block, values=np.where(values < 0, MISSING, values), quality=quality)
