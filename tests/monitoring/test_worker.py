"""A real worker, watched by Sentry's and OpenTelemetry's own SDKs, which send to stand-ins on loopback."""

from __future__ import annotations

import re
import socket
import time

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from sqlalchemy import text

from sagajobs.monitoring.sentry import WITHHELD
from sagajobs.monitoring.tracing import flush
from sagajobs.root import app
from sagajobs.testing.worker import Worker
from tests.cli.conftest import eventually
from tests.support.collecting import collecting
from tests.support.fixtures import APP
from tests.support.sagas import Pivoting, Scripted, World, record, register

PRIVATE = b"confidential detail"
"""What every exception of the scripted sagas says."""


@pytest.fixture(scope="module")
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def watched(tmp_path_factory, app_engine, collector) -> Worker:
    """A worker with beat that tells all that it can."""
    worker = Worker(
        tmp_path_factory.mktemp("watched"),
        app=APP,
        beat=True,
        SAGAJOBS_SENTRY_DSN=collector.sentry_dsn,
        SAGAJOBS_TRACES="on",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.traces_endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    yield worker
    worker.stop()


@pytest.fixture
def world(app_engine, clean) -> World:
    return register(app_engine)


@pytest.fixture
def traced(app_engine):
    """This process is an application that traces its requests."""
    from sagajobs.monitoring.tracing import Tracing

    tracing = Tracing()
    app_engine.watchers.join(tracing)
    yield
    app_engine.watchers.leave(tracing)


def told(collector, saga_id: str, how_many: int) -> list[dict]:
    def found() -> list[dict]:
        events = [event for event in collector.items("event") if event["tags"].get("saga_id") == saga_id]
        return events if len(events) >= how_many else []

    return eventually(found, f"{how_many} events of saga {saga_id}")


def test_a_mistake_in_the_code_is_an_error_with_its_saga_and_nothing_personal(world, watched, collector):
    handle = Scripted.enqueue({"script": {"first": ["bug"]}})
    assert handle.wait(90) == "compensated"
    [event] = told(collector, handle.id, 1)
    assert event["level"] == "error"
    assert event["tags"] | {"saga": "scripted", "step": "first", "what": "step"} == event["tags"]
    assert int(event["tags"]["attempt"]) > 0, "the first, unless the sweep was faster than the message"
    [raised] = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("KeyError", WITHHELD)
    frames = raised["stacktrace"]["frames"]
    assert frames[-1]["function"] == "act"
    assert frames[-1]["filename"] == "tests/support/sagas.py"
    assert not any("vars" in frame for frame in frames)


def test_a_failed_compensation_is_fatal_and_the_question_to_a_person_an_error(world, watched, collector):
    # The step's own error has a class of its author's: it is no mistake, and not told.
    handle = Scripted.enqueue({"script": {"last": ["permanent"], "cancel": ["permanent"]}})
    assert handle.wait(90) == "manual_review_required"
    events = told(collector, handle.id, 2)
    said = {event["logentry"]["formatted"].partition(" (")[0]: event for event in events}
    assert {what: (event["level"], event["tags"]["step"]) for what, event in said.items()} == {
        "CRITICAL: Compensation failed": ("fatal", "call"),
        "CRITICAL: Manual review required": ("error", "call"),
    }
    assert said["CRITICAL: Compensation failed"]["fingerprint"] == ["saga", "compensation_failed", "scripted", "call"]
    clear(world)


def test_sweeps_check_in_and_one_that_breaks_off_says_so(world, watched, collector, app_engine):
    def check_ins(status: str) -> dict[str, dict]:
        return {one["monitor_slug"]: one for one in collector.items("check_in") if one["status"] == status}

    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sweeps SET ran_at = ran_at - interval '1 minute'"))
    eventually(lambda: "sagajobs-recover" in check_ins("ok"), "a check-in of the recovery sweep")
    monitor = check_ins("ok")["sagajobs-recover"]
    assert monitor["monitor_config"]["schedule"] == {"type": "interval", "value": 1, "unit": "minute"}
    assert monitor["duration"] > 0
    with app_engine.database.transaction() as connection:
        connection.execute(text("ALTER TABLE appointments RENAME TO appointments_away"))
    try:
        app.tasks["saga.invariants"].apply_async(queue="saga.sweep")
        eventually(lambda: "sagajobs-invariants" in check_ins("error"), "a check-in of a sweep that broke off")
    finally:
        with app_engine.database.transaction() as connection:
            connection.execute(text("ALTER TABLE appointments_away RENAME TO appointments"))


def test_one_trace_holds_the_request_the_start_the_sweep_all_attempts_and_undos(world, watched, collector, traced):
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    with provider.get_tracer("application").start_as_current_span("POST /book") as request:
        # Its first message is lost: a sweep has to send it.
        handle = record(Scripted, {"script": {"first": ["transient", "ok"], "last": ["permanent"]}})
    number = trace.format_trace_id(request.get_span_context().trace_id)
    assert handle.wait(90) == "compensated"
    wanted = {
        "hint scripted",
        "step scripted.first",
        "step scripted.call",
        "step scripted.extra",
        "step scripted.last",
        "undo scripted.call",
        "undo scripted.first",
    }

    def all_there():
        spans = collector.spans(handle.id)
        return spans if {span.name for span in spans} >= wanted else []

    spans = eventually(all_there, "all spans of the saga")
    assert {(span.trace, span.service) for span in spans} == {(number, "sagajobs")}
    # In the order of the attempts: the two processes that made them send when they please.
    tries = sorted(
        (span for span in spans if span.name == "step scripted.first"), key=lambda span: span.attributes["saga.attempt"]
    )
    assert [span.status for span in tries] == ["TransientError", ""]
    assert tries[1].attributes["saga.attempt"] == tries[0].attributes["saga.attempt"] + 1
    assert [span.attributes["error.type"] for span in spans if span.name == "step scripted.last"] == ["PermanentError"]
    line = f"[saga={handle.id} step=extra trace={number}] doing what the script says"
    assert line in watched.log.read_text()
    ends = [one for one in watched.log.read_text().splitlines() if f"saga_id: {handle.id}" in one]
    assert len(ends) > 5
    assert all(f" [saga] [trace={number}] " in one for one in ends)


def test_how_a_process_of_the_pool_ended_is_a_line_like_any_other(world, watched):
    assert Scripted.enqueue({"script": {"first": ["die", "ok"]}}).wait(90) == "completed"
    told = r" ERROR    \S+ \[multiprocessing\] Process 'ForkPoolWorker-\d+' .* exited with 'signal 9 \(SIGKILL\)'\n"
    eventually(lambda: re.search(told, watched.log.read_text()), "the line")
    assert "Logging error" not in watched.log.read_text()


def test_a_saga_whose_start_nobody_traced_is_a_trace_of_its_own(world, watched, collector):
    handle = Pivoting.enqueue({})
    assert handle.wait(90) == "completed"
    spans = eventually(lambda: len(found := collector.spans(handle.id)) >= 3 and found, "three spans")
    assert {span.trace for span in spans} == {handle.id.replace("-", "")}


def test_nothing_that_an_exception_says_was_sent_to_anybody(world, watched, collector):
    """By all that the tests before this one have had sent, too."""
    handle = Scripted.enqueue({"script": {"first": ["bug"]}})
    assert handle.wait(90) == "compensated"
    told(collector, handle.id, 1)
    assert b"KeyError" in collector.everything
    assert PRIVATE not in collector.everything
    assert collector.items("transaction") == []


def clear(world: World) -> None:
    with world._database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def test_a_collector_that_is_silent_keeps_no_process_from_ending():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces", timeout=60)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        provider.get_tracer("worker").start_span("step").end()
        began = time.monotonic()
        flush(provider, patience=0.1)
        assert time.monotonic() - began < 30, "the collector has a minute"
    exporter.shutdown()
