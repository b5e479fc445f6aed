"""Stand-ins for Sentry and for a collector of OpenTelemetry, on loopback: they keep what real SDKs send them."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span as it came over the wire."""

    name: str
    trace: str
    attributes: dict[str, Any]
    status: str
    service: str


class Collector:
    """What came in: Sentry's envelope items by type, spans, and all of it as text."""

    def __init__(self, port: int) -> None:
        self.sentry_dsn = f"http://public@127.0.0.1:{port}/7"
        self.traces_endpoint = f"http://127.0.0.1:{port}/v1/traces"
        self._lock = threading.Lock()
        self._items: list[tuple[str, Any]] = []
        self._spans: list[Span] = []
        self._bodies: list[bytes] = []

    def take(self, path: str, body: bytes) -> None:
        with self._lock:
            self._bodies.append(body)
            if path.endswith("/envelope/"):
                self._items += _items(body)
            elif path == "/v1/traces":
                self._spans += _spans(body)

    def items(self, kind: str) -> list[Any]:
        with self._lock:
            return [item for found, item in self._items if found == kind]

    def spans(self, saga_id: str) -> list[Span]:
        with self._lock:
            return [span for span in self._spans if span.attributes.get("saga.id") == saga_id]

    @property
    def everything(self) -> bytes:
        with self._lock:
            return b"\n".join(self._bodies)


def _items(body: bytes) -> Iterator[tuple[str, Any]]:
    lines = body.split(b"\n")[1:]  # the envelope's own header first, then a header and a payload each
    for header, payload in zip(lines[::2], lines[1::2], strict=False):
        yield json.loads(header)["type"], json.loads(payload)


def _spans(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        named = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                values = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
                yield Span(span.name, span.trace_id.hex(), values, span.status.message, named.get("service.name", ""))


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a free port of loopback, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_port)
        listening = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        listening.start()
        yield collector
        server.shutdown()
        listening.join()
