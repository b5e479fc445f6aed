"""Five problems as operators meet them, brought about for real, with a worker that is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaCompensationException, SagaHandle
from sagajobs.calcom.errors import CalcomUnavailable
from sagajobs.saga import RetryPolicy, SagaState
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.sweeps import run
from sagajobs.testing import deaths
from sagajobs.testing.waiting import wait_for
from tests.support.circuits import await_trial
from tests.support.sagas import record
from tests.support.tables import change

BRIEF = RetryPolicy(max_attempts=2, base=0.01, max_delay=0.02, deferral=0.01)
NOTED = """
    INSERT INTO sweeps (name, ran_at, seconds) VALUES (:name, saga_now(), 0)
    ON CONFLICT (name) DO UPDATE SET ran_at = saga_now()
"""
ASKED = SagaState.MANUAL_REVIEW_REQUIRED


class Problems:
    """Brings them about, and does what is not an operator's: what workers, hosts and Cal.com do."""

    def __init__(self, engine, simulator, booking, workers, publisher, monkeypatch) -> None:
        self._publisher = publisher
        self.engine = engine
        self.simulator = simulator
        self._booking = booking
        self._workers = workers
        self._monkeypatch = monkeypatch

    def failed_compensation(self) -> SagaHandle:
        """A booking was to be cancelled at Cal.com, as a later step had failed, and Cal.com does not do it."""
        last = AppointmentCreationSaga.definition.step("assign_staff")
        with self._monkeypatch.context() as later:
            later.setattr(last, "optional", False)
            later.setattr(last, "method", _fails)
            self.simulator.fault("cancel", "http_503", "before", count=50)
            handle = record(AppointmentCreationSaga, self._booking())
            self.go_on(handle)
        assert handle.status() == ASKED
        return handle

    def tried_in_vain(self) -> SagaHandle:
        """A change that Cal.com has failed at so often that nobody tries any more."""
        appointment = AppointmentCreationSaga.run(self._booking())
        self.simulator.fault("location", "http_503", "before", count=1000)
        data = {"location": {"type": "address", "place": "Private Street 1"}}
        with pytest.raises(SagaCompensationException) as caught:
            AppointmentSyncSaga.run(appointment.id, "update", data)
        return SagaHandle(caught.value.saga_id)

    def dead_worker(self) -> SagaHandle:
        """The only worker is killed while it books at Cal.com."""
        worker = self._workers(concurrency=1)
        handle = record(AppointmentCreationSaga, self._booking())
        deaths.plan(worker.folder, handle.id, "book_calcom", Point.AFTER_CALL, "worker")
        self._publisher.steps(AppointmentCreationSaga, handle.id, ["create_customer"])
        wait_for(lambda: not worker.alive)
        change(self.engine, "UPDATE saga_steps SET lease_until = saga_now() WHERE lease_until IS NOT NULL")
        return handle

    def circuit_open(self) -> SagaHandle:
        """Cal.com is away, everybody has been told to leave it alone, and a booking waits for it."""
        from sagajobs.root import calcom, circuit

        self.simulator.fault("any", "http_503", "before", count=1000)
        while circuit().snapshot().state == "closed":
            with pytest.raises(CalcomUnavailable):
                calcom().get_booking("nosuchbooking")
        handle = record(AppointmentCreationSaga, self._booking())
        self.engine.drive(AppointmentCreationSaga, handle.id, patience=0.0)
        return handle

    def changed_behind_our_back(self) -> SagaHandle:
        """Nobody knows whether a booking was made; it was, and by now its host has cancelled it at Cal.com."""
        handle = record(AppointmentCreationSaga, self._booking())
        self.simulator.fault("create", "timeout", "after", count=1)
        self.simulator.fault("list", "http_503", "before", count=2)
        self.go_on(handle)
        assert handle.status() == ASKED
        [booked] = self.simulator.standing()
        self.simulator.host("cancel", booked["uid"])
        return handle

    # --- what others do ---

    def calcom_is_well(self) -> None:
        """Have Cal.com do what it is asked for, and the circuit be tried again."""
        from sagajobs.root import circuit

        self.simulator.heal()
        await_trial(circuit())

    def go_on(self, handle: SagaHandle) -> None:
        """Carry a saga on as a worker would."""
        change(self.engine, "UPDATE saga_steps SET due_at = NULL")
        kind = self.engine.kinds[handle.record().name]
        self.engine.drive(kind, handle.id)

    def sweep(self, name: str) -> None:
        """Have a sweep come about."""
        run(self.engine, self.engine.sweeps[name])

    def all_swept(self) -> None:
        """Have every sweep come about, as beat would have it: none is late then."""
        for sweep in self.engine.sweeps.values():
            if sweep.publishes:  # there is nobody to publish to
                change(self.engine, NOTED, name=sweep.name)
            else:
                run(self.engine, sweep)

    def start_worker(self) -> Callable[[], object]:
        """Start a worker, with beat, which tells Flower of its tasks."""
        return self._workers(beat=True, talkative=True)


def _fails(_saga, _db):
    raise ValueError("required, and fails")


@pytest.fixture
def problems(app_engine, simulator, booking, workers, monkeypatch, impatient_sync, db):
    """Problems, in a system whose policies have little patience and whose workers are the test's own."""
    step = AppointmentCreationSaga.definition.step("book_calcom")
    monkeypatch.setattr(step, "finder", replace(step.finder, over=0.05, retry=BRIEF))
    monkeypatch.setattr(step, "retry", BRIEF)
    monkeypatch.setattr(step.undo, "retry", BRIEF)
    for name in ("call_calcom", "update_local"):
        one = AppointmentSyncSaga.definition.step(name)
        monkeypatch.setattr(one, "degraded", replace(one.degraded, retry=replace(BRIEF, max_attempts=1)))
    publisher = app_engine.publisher
    monkeypatch.setattr(app_engine, "publisher", None)
    made = Problems(app_engine, simulator, booking, workers, publisher, monkeypatch)
    yield made
    simulator.heal()
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))
