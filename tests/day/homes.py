"""A data folder of a few chosen homes, whose readings a test writes as day blocks: no frames, no faults, half hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from openami.day import Site
from openami.readings import CHANNEL_BY_NAME, MISSING, DayBlock, Int32, Quality
from openami.registry import Account, Feeder, Meter, NodeKind, PaymentMode, Transformer, UsagePoint
from openami.store.deployment import Deployment, Folder
from openami.store.lake import Lake
from openami.store.rows import Rows

SLOTS = 48


@dataclass(frozen=True)
class Home:
    """An account on a tariff: `load_w` is its sanctioned load, or its contract demand [VA] where the tariff is per kVA."""

    tariff: str
    load_w: int = 2000
    mode: PaymentMode = PaymentMode.PREPAID
    opening_paise: int = 0


def number(k: int) -> str:
    return f"90000000{k:02d}"


def site_of(root: Path, homes: Sequence[Home], first: date, days: int, policy: str = "BR") -> Site:
    """An empty deployment of `days` open days from `first` on."""
    folder = Folder(root)
    folder.save(Deployment("Homes", "Asia/Kolkata", 30, first, days, policy, "4f41490000000001"))
    rows = Rows(folder.rows, create=True)
    began = first - timedelta(days=400)
    rows.add_registry(
        [Feeder("F1", "S1")],
        [Transformer("T1", "F1", 250)],
        [Meter(f"M{k}", k.to_bytes(8, "big"), "acme", "one", 0, k, 0x20, 1) for k in range(len(homes))],
        [UsagePoint(f"U{k}", NodeKind.CONSUMER, f"M{k}", "F1", "T1", "R", home.load_w, began) for k, home in enumerate(homes)],
        [Account(number(k), f"U{k}", "-", "hi", home.tariff, home.mode, began, began, home.opening_paise) for k, home in enumerate(homes)],
        [],
    )
    return Site(folder, folder.load(), rows, Lake(folder.lake))


def read(site: Site, day: date, blocks: Mapping[str, Int32]) -> None:
    """The raw readings of a day by channel, int32 [slot, home]; MISSING where none came."""
    with site.lake.draft(day) as draft:
        made = []
        for name, values in blocks.items():
            quality = np.where(values == MISSING, np.uint32(Quality.MISSING), np.uint32(0))
            made.append(DayBlock(day, 0, CHANNEL_BY_NAME[name], np.ascontiguousarray(values, np.int32), quality))
        draft.write_blocks("raw", made)
        draft.commit()


def even(*wh_a_slot: int) -> Int32:
    """Each home uses about so much in every half hour, a little up and down, so that no check minds it."""
    waves = np.arange(SLOTS, dtype=np.int32)[:, None] % 5
    return np.asarray(np.array(wh_a_slot, np.int32)[None, :] + np.where(np.array(wh_a_slot)[None, :] > 10, waves, 0), np.int32)


def told(site: Site, table: str, day: date, k: int) -> dict[str, object]:
    """A home's row of a table."""
    at = site.lake.read("statements", day, 0, columns=["account"])["account"].to_pylist().index(number(k))
    return dict(site.lake.read(table, day, 0).slice(at, 1).to_pylist()[0])
