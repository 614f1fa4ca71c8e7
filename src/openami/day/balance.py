"""The balance of a (day, shard) as rows: kind (transformer, feeder), node, hour (null = the whole day), energies [Wh] and coverage."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ..losses.balance import NodeBalance, balance
from ..readings import MISSING64, DayBlock, Int64
from ..registry import ShardIndex
from .site import Site


def balance_rows(site: Site, index: ShardIndex, energy: DayBlock) -> pa.Table:
    """in_wh, out_wh, loss_wh (null where unknown), coverage, estimated_share (null where there was no energy) of the shard's own nodes."""
    found = balance(index, energy.values, energy.quality, 60 // site.deployment.interval_minutes)
    held = np.unique(index.feeder[index.feeder >= 0])
    own_transformers = np.flatnonzero(np.isin(index.transformer_feeder, held))
    parts = []
    for kind, hours, whole, nodes in (
        ("transformer", found.transformers, found.transformers_day, own_transformers),
        ("feeder", found.feeders, found.feeders_day, held),
    ):
        parts += [_node_rows(kind, hours, nodes, whole_day=False), _node_rows(kind, whole, nodes, whole_day=True)]
    return pa.concat_tables(parts).unify_dictionaries()


def _node_rows(kind: str, node: NodeBalance, nodes: np.ndarray, *, whole_day: bool) -> pa.Table:
    spans = node.in_wh.shape[0]
    estimated_share = node.estimated_share()[:, nodes].ravel()
    hour = np.repeat(np.arange(spans, dtype=np.int32), len(nodes))
    names = pa.array([node.names[k] for k in nodes.tolist()], pa.string())

    def energy(values: Int64) -> pa.Array:
        flat = values[:, nodes].ravel()
        return pa.array(flat, mask=flat == MISSING64)

    return pa.table(
        {
            "kind": pa.DictionaryArray.from_arrays(pa.array(np.zeros(hour.size, np.int32)), pa.array([kind], pa.string())),
            "node": pa.DictionaryArray.from_arrays(pa.array(np.tile(np.arange(len(nodes), dtype=np.int32), spans)), names),
            "hour": pa.array(hour, mask=np.full(hour.size, whole_day)),
            "in_wh": energy(node.in_wh),
            "out_wh": energy(node.out_wh),
            "loss_wh": energy(node.loss_wh),
            "coverage": pa.array(np.nan_to_num(node.coverage()[:, nodes].ravel())),
            "estimated_share": pa.array(estimated_share, mask=np.isnan(estimated_share)),
        }
    )
