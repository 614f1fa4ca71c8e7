"""Small made-up shards for this room's tests."""

from __future__ import annotations

import numpy as np

from openami.registry import ShardIndex

CONSUMER, TRANSFORMER, FEEDER, NOTHING = "consumer", "transformer", "feeder", "nothing"


def shard(rows: list[tuple[str, int, int]], transformer_feeder: list[int], feeders: int) -> ShardIndex:
    """rows: (kind, transformer or -1, feeder or -1) of each meter."""
    return ShardIndex(
        shard=0,
        serials=tuple(f"M{k}" for k in range(len(rows))),
        usage_points=tuple(f"U{k}" for k in range(len(rows))),
        feeders=tuple(f"F{k}" for k in range(feeders)),
        transformers=tuple(f"T{k}" for k in range(len(transformer_feeder))),
        transformer=np.array([r[1] for r in rows], np.int32),
        feeder=np.array([r[2] for r in rows], np.int32),
        transformer_feeder=np.array(transformer_feeder, np.int32),
        is_consumer=np.array([r[0] == CONSUMER for r in rows], np.bool_),
        is_transformer=np.array([r[0] == TRANSFORMER for r in rows], np.bool_),
        is_feeder=np.array([r[0] == FEEDER for r in rows], np.bool_),
        connected_load_w=np.zeros(len(rows), np.int64),
    )


def one_feeder(transformers: int, homes: int) -> ShardIndex:
    """One feeder; first the homes, transformer by transformer, then the transformers' meters, then the feeder's."""
    rows = [(CONSUMER, t, 0) for t in range(transformers) for _ in range(homes)]
    rows += [(TRANSFORMER, t, 0) for t in range(transformers)] + [(FEEDER, -1, 0)]
    return shard(rows, [0] * transformers, 1)


def households_wh(slots: int, meters: int, seed: int) -> np.ndarray:
    """Wh [slot, meter] with a common daily shape and every home's own switching."""
    rng = np.random.default_rng(seed)
    shape = 60 + 50 * np.sin(np.arange(slots) / 96 * 2 * np.pi)[:, None]
    return (shape * rng.uniform(0.4, 1.6, meters) + rng.gamma(0.5, 160, (slots, meters))).astype(np.int32)
