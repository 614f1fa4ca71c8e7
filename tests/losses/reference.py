"""The balance in plain loops over Python integers: the twin that the kernel must equal."""

from __future__ import annotations

from openami.readings import ESTIMATED_BITS, MISSING
from openami.registry import ShardIndex

UNKNOWN = None


def transformer_hour(index: ShardIndex, values, quality, slots_per_hour: int, dt: int, hour: int) -> dict[str, int | None]:
    """in, out, loss in Wh (None = unknown) and the six counts of one transformer in one hour."""
    source = _side(
        values, quality, hour, slots_per_hour, [m for m in range(index.meters) if index.is_transformer[m] and index.transformer[m] == dt]
    )
    sink = _side(
        values, quality, hour, slots_per_hour, [m for m in range(index.meters) if index.is_consumer[m] and index.transformer[m] == dt]
    )
    in_wh = source["wh"] if source["expected"] and source["present"] == source["expected"] else UNKNOWN
    out_wh = sink["wh"] if sink["present"] or not sink["expected"] else UNKNOWN
    return _result(in_wh, out_wh, source, sink)


def feeder_hour(index: ShardIndex, values, quality, slots_per_hour: int, feeder: int, hour: int) -> dict[str, int | None]:
    """The same of one feeder: out is its transformers' own meters and the consumers that hang on it directly."""
    source = _side(
        values, quality, hour, slots_per_hour, [m for m in range(index.meters) if index.is_feeder[m] and index.feeder[m] == feeder]
    )
    in_wh = source["wh"] if source["expected"] and source["present"] == source["expected"] else UNKNOWN
    out_wh: int | None = 0
    sink = {"wh": 0, "estimated_wh": 0, "expected": 0, "present": 0, "estimated": 0}
    for dt in range(len(index.transformers)):
        if index.transformer_feeder[dt] == feeder:
            own = [m for m in range(index.meters) if index.is_transformer[m] and index.transformer[m] == dt]
            part = _side(values, quality, hour, slots_per_hour, own)
            if not part["expected"] or part["present"] != part["expected"]:
                out_wh = UNKNOWN
            sink = {key: sink[key] + part[key] for key in sink}
    direct = [m for m in range(index.meters) if index.is_consumer[m] and index.transformer[m] < 0 and index.feeder[m] == feeder]
    part = _side(values, quality, hour, slots_per_hour, direct)
    if part["expected"] and not part["present"]:
        out_wh = UNKNOWN
    sink = {key: sink[key] + part[key] for key in sink}
    return _result(in_wh, sink["wh"] if out_wh is not UNKNOWN else UNKNOWN, source, sink)


def _result(in_wh, out_wh, source, sink) -> dict[str, int | None]:
    loss = in_wh - out_wh if in_wh is not UNKNOWN and out_wh is not UNKNOWN else UNKNOWN
    result: dict[str, int | None] = {"in_wh": in_wh, "out_wh": out_wh, "loss_wh": loss}
    result |= {f"source.{key}": value for key, value in source.items()}
    return result | {f"sink.{key}": value for key, value in sink.items()}


def _side(values, quality, hour: int, slots_per_hour: int, meters: list[int]) -> dict[str, int]:
    side = {"wh": 0, "estimated_wh": 0, "expected": 0, "present": 0, "estimated": 0}
    for slot in range(hour * slots_per_hour, min((hour + 1) * slots_per_hour, values.shape[0])):
        for meter in meters:
            side["expected"] += 1
            value = int(values[slot, meter])
            if value != int(MISSING):
                side["wh"] += value
                side["present"] += 1
                if int(quality[slot, meter]) & int(ESTIMATED_BITS):
                    side["estimated_wh"] += value
                    side["estimated"] += 1
    return side
