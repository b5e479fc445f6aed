"""What a saga costs, counted exactly (SPEC 8): messages, commits, queries."""

from __future__ import annotations

from collections import Counter

import psycopg2
import pytest
from celery.signals import before_task_publish
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.testing.waiting import wait_for
from tests.support.syncing import OPERATIONS, change

BOOKING_QUERIES = {
    "create_customer": 1,  # the insert; a customer who is known costs a read more
    "create_appointment": 2,  # the insert, the lock on the appointment
    "book_calcom": 2,  # the update of the appointment and its audit row
    "assign_staff": 2,  # the match and the update
}
"""What the four steps ask the database for themselves."""

ONCE = ("query SELECT pg_catalog.pg_class", "query SELECT alembic_version", "query PREPARE")
"""Beginnings of what a process asks once in its life, whether an embedded database has the tables of its version, and a
connection in its: the engine's statements, to be planned once."""


@pytest.fixture
def counted(workers, tmp_path):
    """A worker that counts, and the counts of this process and of the worker together."""
    counts = tmp_path / "counts.log"
    counts.touch()
    # With much patience: a call that was not answered in time would be counted, too, and nobody sweeps.
    worker = workers(COUNT_FILE=str(counts), SAGAJOBS_CALCOM_READ_TIMEOUT="60")
    here: list[str] = []
    listeners = [
        (Engine, "before_cursor_execute", lambda *args: here.append(f"query {' '.join(args[2].split())[:60]}")),
        (Engine, "commit", lambda _connection: here.append("commit ")),
    ]

    def published(sender=None, **_):
        here.append(f"message {sender}")

    before_task_publish.connect(published)
    for listener in listeners:
        event.listen(*listener)

    class Counts:
        folder = worker.folder

        def lines(self) -> list[str]:
            return counts.read_text().splitlines() + here

        def reset(self) -> None:
            counts.write_text("")
            here.clear()

        def kinds(self) -> dict[str, int]:
            lines = [line for line in self.lines() if not line.startswith(ONCE)]
            return dict(Counter(line.partition(" ")[0] for line in lines))

    yield Counts()
    for listener in listeners:
        event.remove(*listener)
    before_task_publish.disconnect(published)


@pytest.fixture
def look(app_engine):
    """Ask the database without being counted."""
    url = app_engine.database.engine.url
    connection = psycopg2.connect(**url.translate_connect_args(username="user", database="dbname"), **url.query)
    connection.autocommit = True

    def ask(query: str, *values):
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchone()[0]

    yield ask
    connection.close()


def _run(counted, look, request, **start) -> dict[str, int]:
    AppointmentCreationSaga.services.event_types.get(request["event_type_id"])
    counted.reset()
    handle = AppointmentCreationSaga.enqueue(request, **start)
    if "session" in start:
        counted.reset()  # what the caller's own transaction had cost
        start["session"].commit()
    wait_for(lambda: look("SELECT state FROM sagas WHERE id = %s", handle.id) == "completed")
    return counted.kinds()


def test_four_steps_of_which_one_external_cost_four_messages_and_six_commits(counted, look, booking, staff):
    counts = _run(counted, look, booking(staff_id=staff[0]))
    assert counts["message"] == 4, "n, none for start or end"
    assert counts["commit"] == 1 + 3 + 2 * 1
    start, staff_check, release = 1, 1, 1
    assert counts["query"] == start + staff_check + 3 * 2 + 1 * 3 + sum(BOOKING_QUERIES.values()) + release


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_change_costs_as_much_and_one_that_was_made_before_no_intent(counted, look, planted, unbooked, operation):
    appointment = unbooked() if operation == "create" else planted()
    AppointmentSyncSaga.services.event_types.get(appointment.event_type_id)
    handles = []
    for _ in range(1 if operation == "create" else 2):
        counted.reset()
        handles.append(AppointmentSyncSaga.enqueue(appointment.id, operation, change(appointment, operation)))
        wait_for(lambda: look("SELECT state FROM sagas WHERE id = %s", handles[-1].id) == "completed")
        counts = counted.kinds()
        again = len(handles) == 2 and operation != "update"
        assert counts["message"] == 4
        assert counts["commit"] == 1 + 3 + (1 if again else 2)


def test_the_start_in_the_callers_transaction_costs_no_commit_of_its_own(counted, look, booking, app_engine):
    with Session(app_engine.database.engine) as session:
        counts = _run(counted, look, booking(), session=session)
    assert counts["message"] == 4
    callers_own = 1
    assert counts["commit"] == callers_own + 3 + 2 * 1


def test_neither_does_that_of_a_change_or_of_a_composite_booking(counted, look, planted, order, app_engine):
    appointment, wanted = planted(), order(SEGMENTS)
    with Session(app_engine.database.engine) as session:
        handles = [
            AppointmentSyncSaga.enqueue(appointment.id, "cancel", session=session),
            CompositeBookingSaga.enqueue(*wanted, session=session),
        ]
        counted.reset()
        session.commit()
    for handle in handles:
        wait_for(lambda handle=handle: look("SELECT state FROM sagas WHERE id = %s", handle.id) == "completed")
    counts = counted.kinds()
    callers_own = 1
    assert counts["message"] == 4 + 3 + SEGMENTS
    assert counts["commit"] == callers_own + (3 + 2 * 1) + (3 + 2 * SEGMENTS)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_duplicate_message_costs_one_query_and_no_commit_and_its_chain_ends(
    counted, look, booking, staff, app_engine, stage
):
    """A whole chain is sent again from some step on: its first message finds nothing, and no second one follows."""
    _run(counted, look, booking(staff_id=staff[0]))
    done = 4
    wait_for(lambda: _succeeded(counted) == done)  # the saga has ended before its last task has
    counted.reset()
    app_engine.hint(AppointmentCreationSaga, str(look("SELECT id FROM sagas")), stage)
    wait_for(lambda: _succeeded(counted) == done + 1)
    assert counted.kinds() == {"message": 1, "query": 1}


@pytest.mark.parametrize("step", ["lock_appointment", "call_calcom", "update_local", "invalidate_cache"])
def test_a_duplicate_of_a_changes_message_costs_no_more(counted, look, planted, app_engine, step):
    appointment = planted()
    handle = AppointmentSyncSaga.enqueue(appointment.id, "reschedule", change(appointment, "reschedule"))
    _assert_duplicates_cost_a_query_each(counted, look, app_engine, handle, [step])


@pytest.mark.parametrize("step", ["create_customer", "create_appointments", "book_segment", "assign_staff"])
def test_nor_does_one_of_a_composite_bookings(counted, look, order, app_engine, step):
    handle = CompositeBookingSaga.enqueue(*order(SEGMENTS))
    steps = [name for name in handle.record().steps if name.partition("[")[0] == step]
    assert len(steps) == (SEGMENTS if step == "book_segment" else 1)
    _assert_duplicates_cost_a_query_each(counted, look, app_engine, handle, steps)


def test_nor_does_one_of_an_undo(counted, look, booking, staff, app_engine):
    first = booking(staff_id=staff[0])
    _run(counted, look, first)
    handle = AppointmentCreationSaga.enqueue(booking(staff_id=staff[0], start=first["start"], event_type_id=2))
    wait_for(lambda: look("SELECT state FROM sagas WHERE id = %s", handle.id) == "compensated")
    done = 4 + 1 + 1  # the first saga; the customer of the second, whose next step failed, and its undo
    wait_for(lambda: _succeeded(counted) == done)
    counted.reset()
    app_engine.publisher.compensation(AppointmentCreationSaga, handle.id)
    wait_for(lambda: _succeeded(counted) == done + 1)
    assert counted.kinds() == {"message": 1, "query": 1}


def _assert_duplicates_cost_a_query_each(counted, look, app_engine, handle, steps: list[str]) -> None:
    """Send the messages of these steps again, once their saga has ended, each with the rest of its chain on it."""
    wait_for(lambda: look("SELECT state FROM sagas WHERE id = %s", handle.id) == "completed")
    done = look("SELECT count(*) FROM saga_steps WHERE saga_id = %s", handle.id)
    wait_for(lambda: _succeeded(counted) == done)
    kind = app_engine.kinds[handle.record().name]
    counted.reset()
    app_engine.publisher.steps(kind, handle.id, steps)
    wait_for(lambda: _succeeded(counted) == done + len(steps))
    assert counted.kinds() == {"message": len(steps), "query": len(steps)}


SEGMENTS = 3
COMPOSITE_QUERIES = {
    "create_customer": 1,
    # The composite booking, the staff members' turns; of each segment the insert and the lock.
    "create_appointments": 1 + SEGMENTS + 2 * SEGMENTS,
    "book_segment": 2 * SEGMENTS,
    # Who the hosts are; of each segment the turn, and the update.
    "assign_staff": 1 + 2 * SEGMENTS,
}


def test_a_composite_of_three_segments_costs_six_messages_and_ten_commits(counted, look, order, staff):
    wanted = order(SEGMENTS)
    for number, segment in enumerate(wanted.segments):
        CompositeBookingSaga.services.event_types.get(segment["event_type_id"])
        wanted = wanted.changed(number, staff_id=staff[number])
    counted.reset()
    handle = CompositeBookingSaga.enqueue(*wanted)
    wait_for(lambda: look("SELECT state FROM sagas WHERE id = %s", handle.id) == "completed")
    counts = counted.kinds()
    assert counts["message"] == 3 + SEGMENTS, "one a step, those side by side counted singly; none to join them"
    assert counts["commit"] == 1 + 3 + 2 * SEGMENTS
    start, staff_check, release = 1, 1, 1
    engine = start + 3 * 2 + SEGMENTS * 3 + release
    assert counts["query"] == engine + staff_check + sum(COMPOSITE_QUERIES.values())


def _succeeded(counted) -> int:
    """Return how many tasks the worker is done with; it says so after it has sent what follows."""
    return sum(log.read_text().count("] succeeded in") for log in counted.folder.glob("worker-*.log"))
