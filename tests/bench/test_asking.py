"""The bench that asks meters runs on a few of them and checks its own results; speed is not looked at here."""

from __future__ import annotations

import json

from openami.bench import asking


def test_reads_and_orders_are_counted(monkeypatch):
    monkeypatch.setattr(asking, "READS_EACH", 2)
    monkeypatch.setattr(asking, "ORDERS_EACH", 2)
    lines = [json.loads(json.dumps(line)) for line in asking.run(3)]
    assert [(line["metric"], line["n"]) for line in lines if "per_s" in line["metric"]] == [("day_reads_per_s", 6), ("orders_per_s", 6)]
    assert all(line["value"] > 0 for line in lines)
