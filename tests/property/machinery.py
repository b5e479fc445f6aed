"""The rules of the machinery: messages that are lost and doubled, workers that die, sweeps, and Cal.com's faults."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sagajobs.booking.reconcile import QUIET, Reconciliation, Window
from sagajobs.errors import TransientError
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.sweep import recover
from sagajobs.saga.sweeps import run
from sagajobs.saga.sweeps.purge import purge, purgeable
from sagajobs.saga.sweeps.review import review
from tests.property.world import FIRST, World, index, something
from tests.support.totalling import figures

RETENTION = 90
"""Days."""

_LEFT_ALONE = f"""
    UPDATE appointments SET updated_at = updated_at - interval '{QUIET.total_seconds()} s';
    UPDATE sagas SET ended_at = ended_at - interval '{QUIET.total_seconds()} s' WHERE ended_at IS NOT NULL
"""

_KEPT = """
    SELECT g.id, g.name, g.state, g.ended_at IS NULL AS live,
        (SELECT count(*) FROM saga_steps s WHERE s.saga_id = g.id),
        (SELECT count(*) FROM saga_events e WHERE e.saga_id = g.id),
        (SELECT count(*) FROM review_cases r WHERE r.saga_id = g.id),
        (SELECT array_agg(resource || ' ' || held ORDER BY resource) FROM saga_locks l WHERE l.saga_id = g.id)
    FROM sagas g ORDER BY g.created_at, g.id
"""


operations = st.sampled_from(["create", "get", "list", "cancel", "reschedule", "guests", "any"])
faults = st.sampled_from(["drop", "http_500", "http_503", "http_524", "malformed"])
whens = st.sampled_from(["before", "after"])


class Machinery(World):
    """What broker, workers, sweeps and Cal.com do."""

    # --- the broker, and the workers ---

    @something
    @rule(which=index, dies_at=st.one_of(st.none(), st.sampled_from(Point)))
    def deliver(self, which: int, dies_at: Point | None) -> None:
        if self.broker.messages:
            self.broker.deliver(which % len(self.broker.messages), dies_at=dies_at)

    @something
    @rule(which=index)
    def lose(self, which: int) -> None:
        if self.broker.messages:
            self.broker.lose(which % len(self.broker.messages))

    @something
    @rule(which=index)
    def double(self, which: int) -> None:
        if self.broker.messages:
            self.broker.double(which % len(self.broker.messages))

    @something
    @rule()
    def work(self) -> None:
        self.broker.drain()

    @rule(dies_at=st.sampled_from(Point), times=st.integers(2, 6))
    def workers_die(self, dies_at: Point, times: int) -> None:
        """As often as it takes for all attempts to be used up."""
        self.broker.doom(dies_at, times)

    # --- sweeps ---

    @something
    @rule()
    def time_passes(self) -> None:
        self.let_time_pass()
        recover(self.engine)

    @something
    @rule()
    def two_sweeps_meet(self) -> None:
        self.let_time_pass()
        with ThreadPoolExecutor(4) as threads:
            for sweep in [threads.submit(recover, self.engine) for _ in range(2)]:
                sweep.result()
            for look in [threads.submit(review, self.engine, None) for _ in range(2)]:
                look.result()

    @something
    @rule()
    def invariants_are_checked(self) -> None:
        """At any time, whatever is in flight."""
        assert run(self.engine, self.engine.sweeps["invariants"]).found == 0
        self.seen["invariants checked"] += 1

    @something
    @rule()
    def reconcile(self) -> None:
        """Both sides have been left alone for long enough; what the sweep says of them is for the verdict."""
        self.catch_up()
        self.change(_LEFT_ALONE)
        window = Window(FIRST, FIRST + timedelta(days=1), datetime.now(UTC) + 2 * QUIET)
        try:
            self.seen["differences reconciled"] += Reconciliation(self.engine, self.calcom, window).run()
        except TransientError:
            self.seen["reconciling without Cal.com"] += 1

    @something
    @rule(share=st.integers(1, 3))
    def purge(self, share: int) -> None:
        """Some of what has ended is past its retention; of everything else nothing may go, however old it is."""
        before = {row[0]: row for row in self.rows(_KEPT)}
        old = [saga_id for saga_id, row in before.items() if not row[3]][::share]
        listed = ", ".join(f"'{saga_id}'" for saga_id in old) or "NULL"
        self.change(
            f"UPDATE sagas SET created_at = created_at - interval '{2 * RETENTION} days';"
            f"UPDATE sagas SET ended_at = ended_at - interval '{2 * RETENTION} days' WHERE id IN ({listed})"
        )
        was, due = figures(self.engine), purgeable(self.engine, older_than_days=RETENTION)
        gone = purge(self.engine, older_than_days=RETENTION, batch=2)
        kept = {row[0]: row for row in self.rows(_KEPT)}
        assert kept == {saga_id: row for saga_id, row in before.items() if saga_id not in old}
        assert gone == due, "what goes is what was said to go"
        assert sum(gone.values()) == len(old)
        assert figures(self.engine) == was, "no counter falls, and none counts a saga twice"
        for saga_id in old[:1]:  # a copy of one of its messages was still on the way
            kind = self.engine.kinds[before[saga_id][1]]
            self.broker.steps(kind, str(saga_id), [kind.definition.steps[0].name])
        self.seen["purged"] += len(old)
        self.seen["purged beside live ones"] += bool(old and kept)

    # --- Cal.com ---

    @rule(operation=operations, kind=faults, when=whens, count=st.sampled_from([1, 2, 3, 60]), lags=st.booleans())
    def calcom_fails(self, operation: str, kind: str, when: str, count: int, lags: bool) -> None:  # noqa: FBT001 - a rule's, by name
        self.simulator.fault(operation, kind, when, count=count)
        if lags:
            self.lag()

    @rule(operation=st.sampled_from(["create", "list", "cancel", "any"]), count=st.sampled_from([1, 3, 10]))
    def calcom_has_enough(self, operation: str, count: int) -> None:
        self.simulator.fault(operation, "rate_limit", count=count)

    @rule(create=st.booleans(), cancel=st.booleans())
    def replica_lags(self, create: bool, cancel: bool) -> None:  # noqa: FBT001 - a rule's, by name
        self.lag(lag_fails_create=create, lag_blinds_cancel=cancel)
