"""One OpenTelemetry trace a saga, over all processes that start it, work on it, sweep it up and undo it (SPEC 6).

A saga's start is a span in whatever trace the caller is in, and what it is found by goes on record with the saga (in
W3C's `traceparent` form). Whatever is done for the saga later is a span below it: so a message that is lost and sent
again by a sweep, a retry hours later and an operator's remedy are in the same trace, and no message carries anything.
A saga whose start nobody traced gets a trace of its own, whose id is the saga's.

Spans carry ids, names, numbers and an exception's class, never its message (SPEC G7).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sagajobs.errors import ConfigurationError
from sagajobs.monitoring.logs import within
from sagajobs.saga.watching import Doing, Watcher

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise ConfigurationError("SAGAJOBS_TRACES: OpenTelemetry is not installed; pip install 'sagajobs[otel]'") from None

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

FLUSH = 2.0
"""Seconds for which a process that ends waits for the collector: its place in the worker is empty meanwhile."""

_FIELD = "traceparent"
_propagator = TraceContextTextMapPropagator()


class Tracing(Watcher):
    """Makes a span of whatever is done for a saga, with the tracer provider that this process has."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("sagajobs")

    @contextmanager
    def doing(self, doing: Doing) -> Iterator[str | None]:
        """See `Watcher`; the trace is a `traceparent`."""
        starting = doing.what == "start"
        with (
            self._tracer.start_as_current_span(
                _name(doing),
                context=None if starting else _origin(doing),
                kind=trace.SpanKind.PRODUCER if doing.what in ("start", "hint") else trace.SpanKind.CONSUMER,
                attributes=_attributes(doing),
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
            within(f"trace={trace.format_trace_id(span.get_span_context().trace_id)}"),
        ):
            try:
                yield _written() if starting and span.get_span_context().is_valid else None
            except BaseException as error:
                name = type(error).__qualname__
                span.set_attribute("error.type", name)
                span.set_status(trace.StatusCode.ERROR, name)
                raise


def begin() -> TracerProvider:
    """Have this process, and those that it forks, send spans to the collector that OTEL_* variables name (OTLP, HTTP).

    For our own programs. An application that starts sagas has a provider of its own.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - 0.2 s
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise

    named = Resource.create()
    if str(named.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        named = named.merge(Resource({SERVICE_NAME: "sagajobs"}))
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def flush(provider: TracerProvider, patience: float = FLUSH) -> None:
    """Send the spans that have not been sent, as far as that is done within so many seconds."""
    # In a thread that nobody waits for: the SDK knows no limit, and tries a collector that is away for 30 s.
    flushing = threading.Thread(target=provider.force_flush, daemon=True)
    flushing.start()
    flushing.join(patience)


def _name(doing: Doing) -> str:
    if doing.step is None:
        return f"{doing.what} {doing.saga}"
    return f"{doing.what} {doing.saga}.{doing.step}"


def _attributes(doing: Doing) -> dict[str, str | int]:
    known: dict[str, str | int] = {
        "saga.id": doing.saga_id,
        "saga.name": doing.saga,
        "saga.doing": doing.what,
        "saga.attempt": doing.attempt,
    }
    return known if doing.step is None else known | {"saga.step": doing.step}


def _origin(doing: Doing) -> Context:
    if doing.trace is not None:
        return _propagator.extract({_FIELD: doing.trace})
    number = uuid.UUID(doing.saga_id).int
    root = trace.SpanContext(
        trace_id=number,
        span_id=number >> 64,
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


def _written() -> str | None:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_FIELD)
