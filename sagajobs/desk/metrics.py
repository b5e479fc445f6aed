"""What Prometheus is told: how the whole stands, and what all sagas have come to (docs/metrics.md has each by name).

Read from the database and from Redis with each scrape, so that every process that is asked says the same. Labels are
kinds of saga, states and the like, of which there are few; nothing in them is about a customer, as whoever reaches
Flower can read them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, text

from sagajobs.booking.findings import word
from sagajobs.calcom.circuit import Circuit, CircuitState
from sagajobs.calcom.quota import Quota
from sagajobs.desk.health import OVERDUE, Health, health
from sagajobs.saga import Engine, SagaState
from sagajobs.saga.outbox import waiting
from sagajobs.saga.statements import URGENT_BEFORE
from sagajobs.saga.states import ENDED
from sagajobs.saga.totals import BOUNDS, ORCHESTRATED, SAGA, UNFINISHED, Total, caught_up, totals

UNANSWERED = 3
"""Hints since the last progress from which a saga counts as one that nobody takes up: 105 s with the settings' own
`stall_after`, as hints back off."""

OTHER = "other"
"""What a case's reason is called that is not among `REASONS`."""

REASONS = frozenset(
    {
        "an undo failed",
        "every attempt died at work",
        "nothing can tell whether it happened",
        "failed past the pivot",
        "done outside, refused here",
        "tried again in vain",
        "it could not even be marked for retry",
        "an optional step and what was to replace it failed",
        "the code cannot take it up",
        "no code knows this kind of saga",
        "the process that ran it is gone",
    }
)
"""Why the engine asks a person: the values of a label, so that nothing else becomes one."""

_ENDS = ("completed", "compensated", "abandoned")

_STANDING = tuple(str(state) for state in SagaState if state not in ENDED)

_BACKLOG = text(f"""
    SELECT {SAGA} AS saga, g.state, count(*) AS sagas,
        count(*) FILTER (WHERE g.next_at <= saga_now() - make_interval(secs => :overdue)) AS overdue,
        count(*) FILTER (WHERE g.next_at IS NOT NULL AND g.hints >= :unanswered AND coalesce((
            SELECT max(coalesce(o.lease_until, o.due_at)) FROM saga_steps o WHERE o.saga_id = g.id
        ), saga_now()) <= saga_now()) AS unanswered,
        extract(epoch FROM saga_now() - min(g.created_at) FILTER (WHERE g.next_at IS NOT NULL))::float AS age
    FROM sagas g WHERE {UNFINISHED} GROUP BY 1, 2
""")  # noqa: S608 - no value in it
"""Of siblings, one may only wait for its time while the sweep hints at the saga for the others' sake: a saga of which a
step waits, or is at work, is not called unanswered. `max` and no `EXISTS`, which may have a planner read all steps."""

_CASES = text(f"""
    WITH open AS MATERIALIZED (
        SELECT saga_id, reason, opened_at, urgent_at FROM review_cases WHERE closed_at IS NULL
    )
    SELECT {SAGA} AS saga, open.reason, count(*) AS cases,
        count(*) FILTER (WHERE open.urgent_at <= saga_now() + make_interval(secs => :near)) AS urgent,
        extract(epoch FROM saga_now() - min(open.opened_at))::float AS age
    FROM open JOIN sagas g ON g.id = open.saga_id GROUP BY 1, 2
""")  # noqa: S608 - no value in it
"""Materialized: joined in one go, a planner that has several processes to spend reads all cases there ever were."""

_WAITING = text("""
    SELECT count(*) AS waiting, coalesce(extract(epoch FROM saga_now() - min(since)), 0)::float AS longest
    FROM saga_locks WHERE NOT held
""")


def exposition(found: Iterable[Metric] | None, *, workers: int | None = None) -> bytes:
    """Return what is told, in Prometheus' text format.

    Args:
        found: what `read` has found, None if the database did not answer: that is then what is told.
        workers: Celery workers that have been heard of lately, None if nobody listens.
    """
    told = [_gauge("saga_database_up", "1 if the database has answered this scrape, else 0", found is not None)]
    if workers is not None:
        told.append(_gauge("saga_workers", "Celery workers that Flower has heard of lately", workers))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told([*told, *(found or ())]))
    return generate_latest(registry)


class _Told(Collector):
    """Metrics as the library takes them."""

    def __init__(self, told: Iterable[Metric]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """Return each metric; see prometheus_client."""
        return self._told


def read(engine: Engine, *, circuit: Circuit | None, quota: Quota | None) -> list[Metric]:
    """Return all metrics, as of now.

    Args:
        engine: whose sagas; of each kind that it knows there are figures from the beginning, zeros at first, as
            Prometheus sees a counter rise only from a value that it has seen.
        circuit: the circuit breaker of calls to Cal.com, if there is one.
        quota: their quota, if one is kept.

    Raises:
        DBAPIError: the database is away.
    """
    began = time.monotonic()
    # Rather no counters than such as fall.
    whole_figures = caught_up(engine.database)
    with engine.database.reading() as connection:
        figures = totals(connection) if whole_figures else []
        whole = health(connection, engine, circuit=circuit, quota=quota)
        kinds = sorted({*engine.kinds, ORCHESTRATED, *(figure.saga for figure in figures)})
        found = [
            *(_counters(figures, kinds) if whole_figures else ()),
            *_backlog(connection, kinds),
            *_cases(connection, kinds),
            *_locks(connection),
            *_outbox(engine),
            *_sweeps(whole),
            *_calcom(whole),
        ]
    took = _gauge(
        "saga_scrape_seconds", "Seconds that database and Redis took for this scrape", time.monotonic() - began
    )
    return [*found, took]


def _counters(figures: Iterable[Total], kinds: Iterable[str]) -> Iterator[Metric]:
    found: dict[tuple[str, str, str], dict[float, Total]] = {}
    for figure in figures:
        found.setdefault((figure.measure, figure.saga, figure.label), {})[figure.upto] = figure

    def count(measure: str, saga: str, label: str = "") -> int:
        return sum(figure.n for figure in found.get((measure, saga, label), {}).values())

    execution = HistogramMetricFamily(
        "saga_execution_time_ms", "Milliseconds from a saga's start to its end", labels=["saga", "end"]
    )
    compensation = HistogramMetricFamily(
        "saga_compensation_time_ms", "Milliseconds from a saga's turning round to its last undo", labels=["saga"]
    )
    waits = HistogramMetricFamily(
        "saga_lock_wait_ms", "Milliseconds that an ended saga has waited for locks, 0 for most", labels=["saga"]
    )
    failed = _counter("saga_failed_sagas", "Sagas that turned round, or that a person was asked about", "saga")
    compensated = _counter("saga_compensated_sagas", "Sagas that were undone completely", "saga")
    critical = _counter("saga_critical_failures", "Undos that failed for good", "saga")
    retries = _counter("saga_retry_attempts", "Attempts that failed and are made again", "saga", "of")
    for saga in kinds:
        for end in _ENDS:
            _observe(execution, [saga, end], found.get(("execution_ms", saga, end), {}))
        _observe(compensation, [saga], found.get(("compensation_ms", saga, ""), {}))
        _observe(waits, [saga], found.get(("lock_wait_ms", saga, ""), {}))
        failed.add_metric([saga], count("failed", saga))
        compensated.add_metric([saga], count("execution_ms", saga, "compensated"))
        critical.add_metric([saga], count("critical", saga))
        for what in ("step", "undo"):
            retries.add_metric([saga, what], count("retries", saga, what))
    yield from (execution, compensation, waits, failed, compensated, critical, retries)


def _observe(family: HistogramMetricFamily, labels: list[str], figures: Mapping[float, Total]) -> None:
    """Add one histogram; figures of former bounds count in the next of the present ones."""
    buckets = [
        (_bound(bound), float(sum(figure.n for upto, figure in figures.items() if upto <= bound)))
        for bound in (*BOUNDS, float("inf"))
    ]
    family.add_metric(labels, buckets=buckets, sum_value=sum(figure.total for figure in figures.values()))


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:.0f}"


def _backlog(connection: Connection, kinds: Iterable[str]) -> Iterator[Metric]:
    backlog = _gauges("saga_backlog", "Sagas that have not ended", "saga", "state")
    overdue = _gauges("saga_overdue", f"Sagas that no sweep has looked at for {OVERDUE:.0f} s when it was time", "saga")
    unanswered = _gauges(
        "saga_unanswered", f"Sagas that were hinted at {UNANSWERED} times, and no worker took up", "saga"
    )
    oldest = _gauges("saga_oldest_unfinished_seconds", "Age of the oldest saga that should be going on, or 0", "saga")
    limits = {"overdue": OVERDUE, "unanswered": UNANSWERED}
    sums: dict[str, list[float]] = {saga: [0, 0, 0.0] for saga in kinds}
    standing = {(saga, state): 0 for saga in kinds for state in _STANDING}
    for row in connection.execute(_BACKLOG, limits):
        standing[row.saga, row.state] = row.sagas
        late, alone, age = sums.get(row.saga, [0, 0, 0.0])
        sums[row.saga] = [late + row.overdue, alone + row.unanswered, max(age, row.age or 0.0)]
    for key, number in standing.items():
        backlog.add_metric(list(key), number)
    for saga, (late, alone, age) in sums.items():
        overdue.add_metric([saga], late)
        unanswered.add_metric([saga], alone)
        oldest.add_metric([saga], age)
    yield from (backlog, overdue, unanswered, oldest)


def _cases(connection: Connection, kinds: Iterable[str]) -> Iterator[Metric]:
    cases = _gauges("saga_review_cases", "Cases that wait for a person", "saga", "reason")
    urgent = _gauges(
        "saga_review_urgent_cases", f"Those that are needed within {URGENT_BEFORE // 60} min, or were before", "saga"
    )
    sums: dict[tuple[str, str], int] = {}
    near = dict.fromkeys(kinds, 0)
    oldest = 0.0
    for row in connection.execute(_CASES, {"near": URGENT_BEFORE}):
        key = row.saga, row.reason if row.reason in REASONS else OTHER
        sums[key] = sums.get(key, 0) + row.cases
        near[row.saga] = near.get(row.saga, 0) + row.urgent
        oldest = max(oldest, row.age)
    for key, number in sums.items():
        cases.add_metric(list(key), number)
    for saga, number in near.items():
        urgent.add_metric([saga], number)
    yield from (cases, urgent, _gauge("saga_review_oldest_seconds", "Age of the oldest open case, or 0", oldest))


def _locks(connection: Connection) -> Iterator[Metric]:
    row = connection.execute(_WAITING).one()
    yield _gauge("saga_lock_waiting", "Places in line for locks", row.waiting)
    yield _gauge("saga_lock_longest_wait_seconds", "For how long the first of them has waited, or 0", row.longest)


def _outbox(engine: Engine) -> Iterator[Metric]:
    events, oldest = waiting(engine)
    yield _gauge("saga_outbox_events", "Events for others that the broker has not taken yet", events)
    yield _gauge("saga_outbox_oldest_seconds", "Age of the oldest of them, or 0", oldest)


def _sweeps(whole: Health) -> Iterator[Metric]:
    age = _gauges("saga_sweep_age_seconds", "Seconds since a sweep last succeeded, +Inf if it never did", "sweep")
    every = _gauges("saga_sweep_interval_seconds", "Seconds between two runs, as it should be", "sweep")
    took = _gauges("saga_sweep_duration_seconds", "Seconds that its last run took", "sweep")
    for sweep in whole.sweeps:
        age.add_metric([sweep.name], float("inf") if sweep.age is None else sweep.age)
        every.add_metric([sweep.name], sweep.every)
        if sweep.seconds is not None:
            took.add_metric([sweep.name], sweep.seconds)
    broken = _gauges("saga_invariant_violations", "Rows that break an invariant, as last found", "invariant")
    for one in whole.invariants:
        if one.rows is not None:
            broken.add_metric([str(one.invariant.number)], one.rows)
    findings = _gauges("saga_findings", "What reconciling has left to a person", "what")
    for what, count in whole.findings.items():
        findings.add_metric([word(what)], count)
    yield from (age, every, took, broken, findings)


def _calcom(whole: Health) -> Iterator[Metric]:
    if whole.circuit_kept or whole.quota_kept:
        told = not (whole.circuit_silent or whole.quota_silent)
        yield _gauge("saga_redis_up", "1 if Redis has told of circuit and quota, else 0", told)
    if whole.circuit is not None:
        state = _gauges("saga_calcom_circuit", "1 for the state of the circuit breaker, 0 for the others", "state")
        for one in CircuitState:
            state.add_metric([str(one)], one is whole.circuit.state)
        yield state
    yield _gauge("saga_calcom_calls_to_come", "Calls that the unfinished sagas still need, at least", whole.calls)
    if whole.quota is not None:
        left = _gauges("saga_calcom_quota_left", "Calls that could go now", "priority")
        for priority, calls in whole.quota.left.items():
            left.add_metric([str(priority)], calls)
        yield left
        yield _gauge("saga_calcom_quota_limit", "Calls a minute that Cal.com takes", whole.quota.per_minute)
        yield _gauge(
            "saga_calcom_blocked_seconds", "For which Cal.com refuses all calls, or 0", whole.quota.blocked_for
        )
    if whole.drained_in is not None:
        yield _gauge("saga_calcom_drain_seconds", "Until the quota has let the calls to come through", whole.drained_in)


def _gauge(name: str, what: str, value: Any) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value))


def _gauges(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, labels=labels)


def _counter(name: str, what: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, what, labels=labels)
