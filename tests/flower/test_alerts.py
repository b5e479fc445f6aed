"""Each alert comes from a real cause, and from nothing else: what is scraped before and after it, put before promtool.

Each case starts from a system that is well, scrapes it, brings the cause about with the real parts, and scrapes again.
Prometheus is then shown the first scrape for ten minutes and the second one for as long as the alert's rule asks for.

What is real: the sagas, their failures and waits, the sweeps and their failures, a worker that is killed, Cal.com's
refusals (its simulator's, to the client with its gate), the databases, brokers and Flowers that are away. What is not:
time, and the way to the workers. No hour passes here: rows are made as old as they would be after it (`time_passes`, or
an UPDATE of the one column that tells an age), and nothing else about them is changed. Messages go by a broker of the
test's own, so that it decides which are lost. Two Flowers are asked where Flower itself is what tells (its workers, no
database, none at all); all else is scraped here, by what makes a Flower's page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from sagajobs.booking.findings import findings, settle_finding
from sagajobs.booking.outside import METADATA_KEY, WITHOUT_SAGA
from sagajobs.booking.reconcile import WINDOW, Reconciliation, Window
from sagajobs.calcom.circuit import Circuit, CircuitState
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import CalcomQuotaSpent, CalcomRateLimited, CalcomUnavailable
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.models import NewBooking
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared
from sagajobs.desk.metrics import exposition, read
from sagajobs.saga.bus import Bus
from sagajobs.saga.outbox import relay
from sagajobs.saga.sweep import recover
from sagajobs.saga.sweeps import run
from sagajobs.saga.totals import add_up
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.waiting import wait_for
from tests.support import promtool, wide
from tests.support.flowers import NOWHERE, Flower, known_servers, running
from tests.support.reviewing import in_doubt
from tests.support.sagas import Scripted, record, register
from tests.support.tables import change
from tests.support.wide import Held, Locking

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"

WELL = 11
"""Minutes, hence scrapes, for which all is well."""

ALERTS = set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE))

ASKED = set(re.findall(r"saga_\w+", RULES.read_text(encoding="utf-8")))
"""What the rules ask for: promtool is not shown the rest."""


class Stage:
    """The real parts, and what can be done to them."""

    def __init__(self, app_engine, simulator, workers, flower, stray) -> None:
        self.engine = app_engine
        self.simulator = simulator
        self._workers = workers
        self.worker = workers(concurrency=1)
        self.flower = flower
        self.stray = stray
        shared = self.shared()
        self.circuit = Circuit(shared, failures=3, reset=600, longest_call=1)
        self.quota = Quota(shared, 120, delay=0.5)
        self.broker = HandBroker(app_engine)

    def shared(self, key: str = "a key of these tests", *, url: str | None = None) -> Shared:
        from sagajobs.root import servers

        return Shared(lambda: url or servers().redis, key)

    def calcom(self, *, circuit: Circuit | None = None, quota: Quota | None = None) -> CalcomClient:
        """Return the client, whose calls pass a circuit breaker and a quota of the test's own."""
        from sagajobs.root import servers

        return CalcomClient(servers().calcom, servers().calcom_api_key, gate=Gate(circuit=circuit, quota=quota))

    def another_worker(self) -> None:
        self.worker = self._workers(concurrency=1)
        wait_for(lambda: self.flower.says("saga_workers 1.0"))

    def scrape(self, *, circuit: Circuit | None = None, quota: Quota | None = None) -> str:
        found = read(self.engine, circuit=circuit or self.circuit, quota=quota or self.quota)
        return exposition(found, workers=1).decode()

    def change(self, statement: str, **values) -> None:
        change(self.engine, statement, **values)

    def carry_out(self, times: int = 1, **script: list[str]) -> None:
        for _ in range(times):
            self.engine.drive(Scripted, record(Scripted, {"script": script}).id)

    def time_passes(self, seconds: float) -> None:
        """Let a sweep's last run be as much longer ago."""
        self.change("UPDATE sweeps SET ran_at = ran_at - make_interval(secs => :seconds)", seconds=seconds)

    def is_well_again(self) -> None:
        """Put all back between two cases, past the engine."""
        add_up(self.engine.database)
        for table in ("review_cases", "saga_locks", "saga_events", "saga_steps", "sagas", "test_world"):
            self.change(f"DELETE FROM {table}")
        self.change("UPDATE sweeps SET ran_at = saga_now()")


def _told(flower: Flower, *lines: str) -> str:
    """Return what a Flower tells, once these lines are in it: a moment later they might not be."""

    def tells() -> str:
        told = flower.told_of_sagas()
        return told if set(lines) <= set(told.splitlines()) else ""

    return wait_for(tells)


def an_undo_fails(stage: Stage) -> str:
    stage.carry_out(last=["bug"], cancel=["permanent"])
    return stage.scrape()


def a_case_is_about_an_appointment_that_is_near(stage: Stage) -> str:
    in_doubt(stage.engine, useful_for="30 min")
    return stage.scrape()


def nobody_settles_a_case(stage: Stage) -> str:
    in_doubt(stage.engine)
    stage.change("UPDATE review_cases SET opened_at = opened_at - interval '45 min'")
    return stage.scrape()


def a_booking_is_nobodys(stage: Stage) -> str:
    """Booked without a saga, and our side has lost it since."""
    now = datetime.now(UTC)
    calcom = stage.calcom()
    start = (now + timedelta(days=7)).replace(hour=9, minute=0, second=0, microsecond=0)
    booking = NewBooking(
        event_type_id=1,
        start=start,
        attendee_name="Ann",
        attendee_time_zone="UTC",
        attendee_email="ann@secret.example",
        metadata={METADATA_KEY: f"{WITHOUT_SAGA}/4711"},
    )
    uid = calcom.create_booking(booking).uid
    first = start - timedelta(hours=1)
    # As of two minutes from now: what is new is left alone.
    Reconciliation(stage.engine, calcom, Window(first, first + WINDOW, now + timedelta(minutes=2))).run()
    told = stage.scrape()
    calcom.cancel_booking(uid, "nobody expects it")
    with stage.engine.database.reading() as connection:
        (finding,) = findings(connection, 2)
    settle_finding(stage.engine.database, finding.number, who="tests", why="cancelled")
    return told


def somebody_drops_a_constraint(stage: Stage) -> str:
    name = "ck_appointments_no_orphaned_appointment"
    with stage.engine.database.transaction() as connection:
        definition = connection.scalar(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"), {"name": name}
        )
        connection.execute(text(f"ALTER TABLE appointments DROP CONSTRAINT {name}"))
        connection.execute(
            text(
                "WITH c AS (INSERT INTO customers (name, email, time_zone) VALUES ('n', 'e', 'UTC') RETURNING id) "
                "INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, status) "
                "SELECT id, 1, now(), now() + interval '1 h', 'scheduled' FROM c"
            )
        )
    run(stage.engine, stage.engine.sweeps["invariants"])
    told = stage.scrape()
    stage.change("DELETE FROM appointments")
    stage.change(f"ALTER TABLE appointments ADD CONSTRAINT {name} {definition}")
    run(stage.engine, stage.engine.sweeps["invariants"])
    return told


def the_worker_is_killed(stage: Stage) -> str:
    stage.worker.kill()
    told = _told(stage.flower, "saga_workers 0.0", "saga_database_up 1.0")
    stage.another_worker()
    return told


def beat_is_gone(stage: Stage) -> str:
    stage.time_passes(24 * 3600)  # and nobody has any sweep done
    return stage.scrape()


def one_sweep_fails_each_time(stage: Stage) -> str:
    failing = stage.engine.sweeps["reconcile"]
    stage.change("ALTER TABLE appointments RENAME COLUMN sync_saga_id TO mistaken")
    try:
        for _ in range(4):
            stage.time_passes(failing.every)
            with pytest.raises(ProgrammingError, match="sync_saga_id"):
                run(stage.engine, failing)
            for sweep in stage.engine.sweeps.values():
                if sweep is not failing:
                    run(stage.engine, sweep)
        return stage.scrape()
    finally:
        stage.change("ALTER TABLE appointments RENAME COLUMN mistaken TO sync_saga_id")


def nobody_sweeps_what_is_due(stage: Stage) -> str:
    record(Scripted, {})
    stage.change("UPDATE sagas SET next_at = saga_now() - interval '2 min'")
    return stage.scrape()


def no_worker_hears_the_hints(stage: Stage) -> str:
    record(Scripted, {})
    for _ in range(3):
        stage.change("UPDATE sagas SET next_at = saga_now()")
        assert recover(stage.engine) == 1
        stage.broker.messages.clear()
    return stage.scrape()


def a_saga_does_not_end(stage: Stage) -> str:
    handle = record(Scripted, {"script": {"call": ["deferred"]}})
    stage.engine.drive(Scripted, handle.id, patience=0.0)
    stage.change("UPDATE sagas SET created_at = created_at - interval '2 h'")
    return stage.scrape()


def all_want_one_appointment(stage: Stage) -> str:
    begin = Locking.definition.step("begin")
    handles = [record(Locking, {"resources": ["a"]}) for _ in range(10)]
    for handle in handles:
        stage.engine.executor.forward(Locking, begin, handle.id)
    stage.change("UPDATE saga_locks SET since = since - interval '1 s' WHERE NOT held")
    stage.engine.drive(Locking, handles[0].id)
    stage.broker.drain()
    return stage.scrape()


def nothing_works(stage: Stage) -> str:
    stage.carry_out(6, call=["permanent"])
    return stage.scrape()


def a_third_is_refused(stage: Stage) -> str:
    stage.carry_out(12)
    stage.carry_out(6, call=["permanent"])
    return stage.scrape()


def each_needs_three_attempts(stage: Stage) -> str:
    stage.carry_out(6, first=["transient", "transient", "ok"])
    return stage.scrape()


def calcom_fails(stage: Stage) -> str:
    calcom = stage.calcom(circuit=stage.circuit)
    stage.simulator.fault("any", "http_503", count=1000)
    while stage.circuit.state() is CircuitState.CLOSED:
        with pytest.raises(CalcomUnavailable):
            calcom.me()
    told = stage.scrape()
    stage.simulator.heal()
    stage.circuit.close()
    return told


def the_quota_is_set_too_high(stage: Stage) -> str:
    quota = Quota(stage.shared("a key that is blocked"), 120, delay=0.5)
    calcom = stage.calcom(quota=quota)
    stage.simulator.limit(2, window=60)
    for _ in range(2):
        calcom.me()
    with pytest.raises(CalcomRateLimited):
        calcom.me()
    stage.simulator.limit(0, window=60)
    return stage.scrape(quota=quota)


def the_quota_is_used_up(stage: Stage) -> str:
    quota = Quota(stage.shared("a key that is used up"), 10, delay=0.5)
    calcom = stage.calcom(quota=quota)
    for _ in range(8):  # what is not urgent may use 80 % of it
        calcom.me()
    with pytest.raises(CalcomQuotaSpent):
        calcom.me()
    return stage.scrape(quota=quota)


def more_is_booked_than_the_quota_lets_through(stage: Stage) -> str:
    for _ in range(30):
        record(Scripted, {})
    return stage.scrape(quota=Quota(stage.shared(), 1, delay=0.5))


def the_database_is_away(stage: Stage) -> str:
    return _told(stage.stray, "saga_workers 1.0")


def redis_is_away(stage: Stage) -> str:
    away = stage.shared(url="redis://127.0.0.1:1/0")
    circuit = Circuit(away, failures=3, reset=600, longest_call=1)
    return stage.scrape(circuit=circuit, quota=Quota(away, 120, delay=0.5))


def a_subscriber_does_not_take_his_events(stage: Stage) -> str:
    from sagajobs.root import app, saga_events, settings

    full = Bus(lambda: app, settings().queue_prefix, full=1)
    full.subscribe("reports")
    saga_events.turn(True, who="tests", why="to see them wait")
    stage.carry_out()
    saga_events.turn(False, who="tests", why="seen")
    relay(stage.engine, full)
    stage.change("UPDATE outbox SET at = at - interval '10 min'")
    told = stage.scrape()
    full.unsubscribe("reports")
    stage.change("DELETE FROM outbox")
    return told


def flower_is_gone(stage: Stage) -> str:
    stage.stray.end()
    with pytest.raises(requests.ConnectionError):
        stage.stray.get("/metrics")
    return ""


CASES: dict[Callable[[Stage], str], tuple[int, set[str]]] = {
    an_undo_fails: (1, {"SagaUndoFailed"}),
    a_case_is_about_an_appointment_that_is_near: (2, {"SagaReviewUrgent"}),
    nobody_settles_a_case: (6, {"SagaReviewUnanswered"}),
    a_booking_is_nobodys: (1, {"SagaFindingOpen"}),
    somebody_drops_a_constraint: (1, {"SagaInvariantViolated"}),
    the_worker_is_killed: (3, {"SagaNoWorker"}),
    beat_is_gone: (6, {"SagaSweepsSilent", "SagaSweepLate"}),
    one_sweep_fails_each_time: (6, {"SagaSweepLate"}),
    nobody_sweeps_what_is_due: (3, {"SagaOverdue"}),
    no_worker_hears_the_hints: (6, {"SagaNotTakenUp"}),
    a_saga_does_not_end: (6, {"SagaBacklogOld"}),
    all_want_one_appointment: (6, {"SagaLockWaitHigh"}),
    nothing_works: (6, {"SagaFailureRateHigh", "SagaCompensationRateHigh"}),
    a_third_is_refused: (6, {"SagaCompensationRateHigh"}),
    each_needs_three_attempts: (6, {"SagaRetryRateHigh"}),
    calcom_fails: (3, {"SagaCircuitOpen"}),
    the_quota_is_set_too_high: (1, {"SagaCalcomBlocked"}),
    the_quota_is_used_up: (11, {"SagaQuotaExhausted"}),
    more_is_booked_than_the_quota_lets_through: (6, {"SagaDrainLong"}),
    the_database_is_away: (3, {"SagaDatabaseAway"}),
    a_subscriber_does_not_take_his_events: (6, {"SagaEventsWait"}),
    redis_is_away: (3, {"SagaRedisAway"}),
    flower_is_gone: (6, {"SagaMetricsMissing"}),
}
"""Each cause, the minutes after which somebody must have been called, and by which alerts: by these and no others."""


@pytest.fixture
def stage(app_engine, clean, simulator, workers, monkeypatch) -> Iterator[Stage]:
    """All is well: each sweep has run, there is a worker, and no kind of saga is new."""
    with ExitStack() as stack:
        flower = stack.enter_context(running())
        ending = stack.enter_context(ExitStack())
        stray = ending.enter_context(running(SAGAJOBS_DATABASE_URL=NOWHERE, **known_servers()))
        stray.end = ending.close
        stage = Stage(app_engine, simulator, workers, flower, stray)
        for one in (flower, stray):
            wait_for(lambda one=one: one.says("saga_workers 1.0"))
        Held(app_engine).create()
        wide.register(app_engine, register(app_engine))
        monkeypatch.setattr(app_engine, "publisher", stage.broker)
        for sweep in app_engine.sweeps.values():
            run(app_engine, sweep)
        yield stage
        stage.is_well_again()


def _samples(told: str) -> dict[str, str]:
    """Return each series, as promtool writes it, with its value."""
    found = {}
    for family in text_string_to_metric_families(told):
        for sample in family.samples:
            labels = ", ".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}"] = f"{sample.value:.9g}".replace("inf", "Inf")
    return found


def _case(cause: str, before: str, after: str, minutes: int, alerts: set[str]) -> dict:
    was, then = _samples(before), _samples(after)
    asked = [name for name in was | then if name.partition("{")[0] in ASKED]
    firing = 'group by (alertname) (ALERTS{alertstate="firing"})'
    series = [
        {
            "series": name,
            "values": " ".join(
                [was.get(name, "_")] * WELL
                # As Prometheus does with a series that a scrape has no more.
                + ([then[name]] * (minutes + 1) if name in then else ["stale"] + ["_"] * minutes)
            ),
        }
        for name in asked
    ]
    return {
        "name": cause,
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{WELL - 1}m", "exp_samples": []},
            {
                "expr": firing,
                "eval_time": f"{WELL + minutes}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(alerts)],
            },
        ],
    }


def test_each_alert_comes_from_its_cause_and_from_nothing_else(stage, tmp_path):
    tests = []
    for cause, (minutes, alerts) in CASES.items():
        stage.is_well_again()
        before = stage.scrape()
        tests.append(_case(cause.__name__, before, cause(stage), minutes, alerts))
    file = tmp_path / "cases.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = promtool.run("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set().union(*(alerts for _, alerts in CASES.values())) == ALERTS
