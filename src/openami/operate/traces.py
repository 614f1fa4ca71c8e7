"""OpenTelemetry traces, where OPENAMI_TRACES names a collector: `with span("worker.close", day=..., shard=...)`.

Without it a span costs nothing and needs no package. What always holds: attributes are what a log may hold too: days, shards, counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ..errors import InputError

ENVIRONMENT = "OPENAMI_TRACES"
_tracer: Any = None


@contextmanager
def span(name: str, **about: str | int) -> Iterator[None]:
    """A span of work, told to the collector when it ends; nothing where traces are not wanted."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(f"openami.{name}", attributes={f"openami.{key}": value for key, value in about.items()}):
        yield


def open_traces(role: str, exporter: Any = None) -> bool:
    """Begin to tell spans, to OPENAMI_TRACES (OTLP over HTTP, as http://collector:4318/v1/traces) or to `exporter`; False where neither is there.
    InputError where the packages are not installed."""
    global _tracer
    address = os.environ.get(ENVIRONMENT)
    if exporter is None and not address:
        return False
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        if exporter is None:
            otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            processor: Any = BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=address))
        else:
            processor = SimpleSpanProcessor(exporter)
    except ImportError:
        raise InputError(f"{ENVIRONMENT} is set, but traces need OpenTelemetry; install openami[traces], or leave it out") from None
    provider = TracerProvider(resource=Resource.create({"service.name": f"openami-{role}"}))
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("openami")
    return True
