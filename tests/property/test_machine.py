"""Random operations on appointments, with random faults, lost and doubled messages, deaths, sweeps and hosts' acts.

Operators pause, resume, cancel and try again, webhooks say what is true or not, and sweeps meet each other. Whatever
happened: when the faults are over and everything has been delivered, each saga has ended or waits for a person
with a reason, the ledger of Cal.com agrees with the table, the invariants hold, and no lock is left.

The same thousand histories each time; `PROPERTY_EXAMPLES` (`make chaos`) sets how many others are tried.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.booking import AppointmentFollowSaga, invariants
from sagajobs.booking.inbound import take
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.webhooks import Trigger, Webhook
from sagajobs.errors import InvalidInput, RemedyRefused
from sagajobs.saga import SagaHandle, SagaState
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.sweep import recover
from sagajobs.saga.sweeps.review import review
from sagajobs.testing.broker import HandBroker
from sagajobs.testing.simulator import Simulator
from tests.support.fixtures import TABLES

CHAOS = "PROPERTY_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "1000"))
KINDS = (AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga, AppointmentFollowSaga)
FIRST = (datetime.now(UTC) + timedelta(days=3)).replace(hour=8, minute=0, second=0, microsecond=0)
CUSTOMERS = [
    {"name": f"Somebody {n}", "email": f"somebody{n}@secret.example", "time_zone": "Europe/Berlin"} for n in range(3)
]
STANDING = "deleted_at IS NULL AND status NOT IN ('cancelled', 'failed') AND calcom_v2_booking_id IS NOT NULL"
EXPECTED = {
    "deaths",
    *(f"{kind.name} completed" for kind in KINDS),
    *(f"{kind.name} compensated" for kind in KINDS if kind is not AppointmentFollowSaga),
    *("step_unknown", "step_probed", "step_retry", "step_failed", "compensation_started"),
    *("saga_paused", "saga_resumed", "saga_cancelled", "review_closed"),
}
"""What a run of this test must have met at least once, or it has tried too little."""

ROUNDS = 80
"""Sweeps after which everything must be at rest: more than the attempts, probes and undos of the longest saga."""

SIGNED = {"who": "Op", "why": "a random history"}

AT_REST = ("completed", "compensated", "manual_review_required")

slots = st.integers(0, 3)
event_types = st.sampled_from([1, 7])
index = st.integers(0, 1000)


class Bookings(RuleBasedStateMachine):
    """What web application, hosts, broker, workers and Cal.com do to each other."""

    engine: Any
    simulator: Simulator
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.broker = self.engine.publisher = HandBroker(self.engine)
        with self.engine.database.transaction() as connection:
            for table in TABLES.split(", "):
                connection.execute(text(f"DELETE FROM {table}"))
            connection.execute(text("INSERT INTO staff (id, name, email, calcom_user_id) VALUES (1, 'S', 'h@x.y', 1)"))
        self.simulator.reset()
        event_types = AppointmentCreationSaga.services.event_types
        event_types.forget()
        for number in (1, 7):  # known before Cal.com fails: that it is asked no more for some seconds is real time
            event_types.get(number)

    # --- the web application ---

    @rule(event_type=event_types, slot=slots, customer=st.sampled_from(CUSTOMERS), staff=st.booleans())
    def book(self, event_type: int, slot: int, customer: dict, staff: bool) -> None:  # noqa: FBT001 - a rule's, by name
        AppointmentCreationSaga.enqueue(
            {"customer": customer, **_slot(event_type, slot), "staff_id": 1 if staff else None}
        )

    @rule(
        which=st.lists(st.tuples(event_types, slots), min_size=2, max_size=3, unique=True),
        customer=st.sampled_from(CUSTOMERS),
    )
    def combine(self, which: list, customer: dict) -> None:
        with contextlib.suppress(InvalidInput):  # segments that overlap for one person
            CompositeBookingSaga.enqueue(customer, [_slot(*one) for one in which])

    @rule(which=index)
    def sync(self, which: int) -> None:
        self._change(which, "create", {})

    @rule(which=index)
    def invite(self, which: int) -> None:
        self._change(which, "update", {"guests": ["guest@secret.example"], "notes": "bring a friend"})

    @rule(which=index)
    def cancel(self, which: int) -> None:
        self._change(which, "cancel", {"reason": "cannot come"})

    @rule(which=index, slot=slots)
    def move(self, which: int, slot: int) -> None:
        self._change(which, "reschedule", {"start": FIRST + timedelta(minutes=30 * slot)})

    def _change(self, which: int, operation: str, data: dict) -> None:
        ids = self._appointments()
        if ids:
            with contextlib.suppress(InvalidInput):  # what makes no sense as it stands is refused beforehand
                AppointmentSyncSaga.enqueue(ids[which % len(ids)], operation, data)

    # --- hosts, in Cal.com's own web application ---

    @rule(which=index, act=st.sampled_from(["cancel", "move"]), slot=slots)
    def host_acts(self, which: int, act: str, slot: int) -> None:
        standing = self.simulator.standing()
        if not standing:
            return
        uid = standing[which % len(standing)]["uid"]
        start = FIRST + timedelta(minutes=30 * (slot + 10))
        how = {"start": start.isoformat()} if act == "move" else {}
        with contextlib.suppress(AssertionError):  # the other time is not free for him either
            self.simulator.host(act, uid, **how)

    @rule(which=index, trigger=st.sampled_from(Trigger))
    def webhook(self, which: int, trigger: Trigger) -> None:
        """Signed, and about a booking that there is; what it says of it need not be so."""
        ledger = self.simulator.ledger()
        if ledger:
            booking = ledger[which % len(ledger)]
            take(
                Webhook.model_validate(
                    {
                        "trigger": trigger,
                        "createdAt": datetime.now(UTC),
                        "uid": booking["uid"],
                        "rescheduleUid": booking.get("rescheduledFromUid"),
                        "metadata": booking["metadata"],
                    }
                )
            )

    # --- operators ---

    @rule(which=index)
    def operator_pauses_or_resumes(self, which: int) -> None:
        handle = self._saga(which)
        if handle is not None:
            with contextlib.suppress(RemedyRefused):  # one that waits for a person
                (handle.resume if handle.status() is SagaState.PAUSED else handle.pause)(**SIGNED)

    @rule(which=index)
    def operator_cancels(self, which: int) -> None:
        handle = self._saga(which)
        if handle is not None:
            with contextlib.suppress(RemedyRefused):  # past the pivot
                handle.cancel(**SIGNED)

    @rule()
    def operator_tries_again(self) -> None:
        for (case,) in self._rows("SELECT id FROM review_cases WHERE closed_at IS NULL"):
            with contextlib.suppress(RemedyRefused):  # while it is paused
                self.engine.review.retry(case, **SIGNED)

    @rule(which=index)
    def deadline_passes(self, which: int) -> None:
        handle = self._saga(which)
        if handle is not None:
            with self.engine.database.transaction() as connection:
                late = text("UPDATE sagas SET useful_until = saga_now() - interval '1 s' WHERE id = :id")
                connection.execute(late, {"id": handle.id})

    # --- the broker, and the workers ---

    @rule(which=index, dies_at=st.one_of(st.none(), st.sampled_from(Point)))
    def deliver(self, which: int, dies_at: Point | None) -> None:
        if self.broker.messages:
            self.broker.deliver(which % len(self.broker.messages), dies_at=dies_at)

    @rule(which=index)
    def lose(self, which: int) -> None:
        if self.broker.messages:
            self.broker.lose(which % len(self.broker.messages))

    @rule(which=index)
    def double(self, which: int) -> None:
        if self.broker.messages:
            self.broker.double(which % len(self.broker.messages))

    @rule()
    def work(self) -> None:
        self.broker.drain()

    @rule()
    def time_passes(self) -> None:
        self._let_time_pass()
        recover(self.engine)

    @rule()
    def two_sweeps_meet(self) -> None:
        self._let_time_pass()
        with ThreadPoolExecutor(4) as threads:
            for sweep in [threads.submit(recover, self.engine) for _ in range(2)]:
                sweep.result()
            for look in [threads.submit(review, self.engine, None) for _ in range(2)]:
                look.result()

    # --- Cal.com ---

    @rule(
        operation=st.sampled_from(["create", "get", "list", "cancel", "reschedule", "guests", "any"]),
        kind=st.sampled_from(["drop", "http_500", "http_503", "http_524", "malformed"]),
        when=st.sampled_from(["before", "after"]),
        count=st.sampled_from([1, 2, 3, 60]),  # as often as it takes for a person to be asked, too
    )
    def calcom_fails(self, operation: str, kind: str, when: str, count: int) -> None:
        self.simulator.fault(operation, kind, when, count=count)

    # --- the verdict ---

    def teardown(self) -> None:
        for (saga_id,) in self._rows("SELECT id FROM sagas WHERE state = 'paused'"):
            SagaHandle(str(saga_id), engine=self.engine).resume(**SIGNED)
        self._settle()
        self.simulator.heal()
        self.operator_tries_again()
        self._settle()
        for number, uid in self._rows(f"SELECT id, calcom_v2_booking_id FROM appointments WHERE {STANDING}"):
            AppointmentFollowSaga.enqueue({"appointment_id": number, "booking_uid": uid, "seen": "reconciliation"})
        self._settle()
        self._judge()
        self.seen.update(f"{name} {state}" for name, state in self._rows("SELECT name, state FROM sagas"))
        self.seen["deaths"] += self.broker.deaths
        self.seen.update(row[0] for row in self._rows("SELECT event FROM saga_events"))

    def _settle(self) -> None:
        for _ in range(ROUNDS):
            self.broker.drain()
            if not self._rows("SELECT id FROM sagas WHERE next_at IS NOT NULL"):
                return
            self._let_time_pass()
            recover(self.engine)
        raise AssertionError(
            f"not at rest: {self._rows('SELECT id, name, state, stage FROM sagas WHERE next_at > now()')}"
        )

    def _judge(self) -> None:
        with self.engine.database.reading() as connection:
            assert [violation.rows for violation in invariants.check(connection)] == [0, 0, 0]
        assert {state for (state,) in self._rows("SELECT state FROM sagas")} <= set(AT_REST)
        left = "'running', 'unknown', 'undoing', 'undo_failed'"
        open_ends = f"SELECT s.name FROM saga_steps s JOIN sagas g ON g.id = s.saga_id AND s.state IN ({left})"
        assert self._rows(f"{open_ends} AND g.state IN ('completed', 'compensated')") == [], "an end is one"
        asked = self._rows("SELECT id FROM sagas WHERE state = 'manual_review_required'")
        cases = self._rows("SELECT saga_id AS id FROM review_cases WHERE closed_at IS NULL AND reason <> ''")
        assert sorted(asked) == sorted(cases), "who waits for a person has a case"
        held = self._rows(
            "SELECT l.resource FROM saga_locks l JOIN sagas g ON g.id = l.saga_id WHERE ended_at IS NOT NULL"
        )
        assert held == [], "an ended saga holds nothing"
        if asked:
            return  # a person has to settle what the ledger and the table say of these
        times = dict(self._rows(f"SELECT calcom_v2_booking_id, starts_at FROM appointments WHERE {STANDING}"))
        standing = {
            booking["uid"]: datetime.fromisoformat(booking["start"])
            for booking in self.simulator.standing()
            if METADATA_KEY in booking["metadata"]
        }
        assert times == standing, "the table and the ledger agree"

    # --- tools ---

    def _rows(self, query: str) -> list[tuple]:
        with self.engine.database.reading() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def _saga(self, which: int) -> SagaHandle | None:
        """Return one that has not ended, if there is one."""
        ids = self._rows("SELECT id FROM sagas WHERE ended_at IS NULL ORDER BY created_at, id")
        return SagaHandle(str(ids[which % len(ids)][0]), engine=self.engine) if ids else None

    def _appointments(self) -> list[int]:
        return [row[0] for row in self._rows("SELECT id FROM appointments ORDER BY id")]

    def _let_time_pass(self) -> None:
        with self.engine.database.transaction() as connection:
            connection.execute(text("UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL"))
            connection.execute(text("UPDATE saga_steps SET lease_until = NULL, due_at = NULL"))
            connection.execute(text("UPDATE saga_locks SET waits_until = saga_now() WHERE NOT held"))
            connection.execute(text("UPDATE review_cases SET look_at = saga_now() WHERE closed_at IS NULL"))


def _slot(event_type: int, slot: int) -> dict[str, Any]:
    return {
        "event_type_id": event_type,
        "start": FIRST + timedelta(minutes=30 * slot),
        "duration_minutes": 30,
    }


@pytest.fixture
def machine(app_engine, clean, simulator, monkeypatch) -> type[Bookings]:
    """The machine on this run's database and simulator, with less patience than in earnest."""
    from sagajobs.root import servers

    monkeypatch.setattr(app_engine, "publisher", app_engine.publisher)  # each history sets its own; put back at the end
    plain = CalcomClient(servers().calcom, servers().calcom_api_key, connect_timeout=0.5, read_timeout=2)
    for kind in KINDS:
        for step in kind.definition.steps:
            if step.finder is not None:
                monkeypatch.setattr(step, "finder", replace(step.finder, over=0.0))
        # Circuit and quota are tested by themselves: here they would only make everybody wait.
        monkeypatch.setattr(kind, "services", replace(kind.services, client=lambda: plain, circuit=lambda: None))
    return type("Bookings", (Bookings,), {"engine": app_engine, "simulator": simulator, "seen": Counter()})


@pytest.mark.long
@pytest.mark.timeout(120 + 2 * EXAMPLES)
def test_whatever_happens_it_ends_well(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            derandomize=not CHAOS,
        ),
    )
    never = {what for what in EXPECTED if not machine.seen[what]}
    assert never == set(), "of what is to be survived, everything has come about"
