"""The seed's two compensation services: each undo bears repetition, and says what could not be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from sagajobs import AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.booking.change import snapshot
from sagajobs.booking.compensation import CalcomCompensationService, DatabaseCompensationService
from sagajobs.booking.errors import BookingGone
from sagajobs.booking.local import read_appointment
from sagajobs.calcom.errors import CalcomUnavailable
from sagajobs.errors import PermanentError
from tests.support.syncing import LATER, row

HERE = {"type": "address", "place": "Private Street 1"}


@pytest.fixture
def there(simulator) -> CalcomCompensationService:
    return CalcomCompensationService(AppointmentSyncSaga.services.calcom)


@pytest.fixture
def here() -> DatabaseCompensationService:
    return DatabaseCompensationService("a test")


def test_a_location_is_restored_and_what_cannot_be_is_said(there, booked, simulator):
    appointment = booked()
    AppointmentSyncSaga.run(
        appointment.id, "update", {"location": {"type": "link", "place": "https://x"}, "guests": ["g@secret.example"]}
    )
    metadata = simulator.ledger()[0]["metadata"]
    previous = {"location": HERE, "metadata": metadata, "guests": [], "title": "as it was"}
    for _ in range(2):
        receipt = there.restore_booking_metadata(appointment.calcom_v2_booking_id, previous)
        assert receipt == {
            "uid": appointment.calcom_v2_booking_id,
            "restored": ["location", "metadata"],
            "not_restored": ["guests", "title"],
        }
    (booking,) = simulator.ledger()
    assert booking["location"] == HERE["place"]
    assert [act["what"] for act in booking["history"]].count("relocated") == 2, "the second time changes nothing"


def test_metadata_that_differ_are_not_called_restored(there, booked):
    uid = booked().calcom_v2_booking_id
    receipt = there.restore_booking_metadata(uid, {"metadata": {"sagajobs_key": "another"}})
    assert receipt["not_restored"] == ["metadata"]


def test_a_booking_is_restored_where_it_has_been_moved_to(there, booked, simulator):
    appointment = booked()
    simulator.host("move", appointment.calcom_v2_booking_id, start=(appointment.starts_at + LATER).isoformat())
    receipt = there.restore_booking_metadata(appointment.calcom_v2_booking_id, {"location": HERE})
    (live,) = simulator.standing()
    assert (receipt["uid"], live["location"]) == (live["uid"], HERE["place"])


def test_a_cancelled_booking_cannot_be_restored(there, booked, simulator):
    appointment = booked()
    simulator.host("cancel", appointment.calcom_v2_booking_id, reason="ill")
    with pytest.raises(BookingGone):
        there.restore_booking_metadata(appointment.calcom_v2_booking_id, {"location": HERE})


def test_a_booking_is_cancelled_where_it_has_been_moved_to_and_again(there, booked, simulator):
    """The trap: the old uid is refused as cancelled, like one that was cancelled before, and the live one stands."""
    appointment = booked()
    first = appointment.calcom_v2_booking_id
    second = simulator.host("move", first, start=(appointment.starts_at + LATER).isoformat())["uid"]
    third = simulator.host("move", second, start=(appointment.starts_at + 2 * LATER).isoformat())["uid"]
    for _ in range(2):
        receipt = there.cancel_calcom_booking(first, "No longer needed.")
        assert (receipt["uids"], receipt["status_read_back"]) == ([first, second, third], "cancelled")
    assert simulator.standing() == []
    assert [act["what"] for act in simulator.ledger()[-1]["history"]].count("cancelled") == 1


def test_a_booking_that_does_not_read_as_cancelled_is_not_called_so(there, booked, simulator):
    """What Cal.com answered to the cancel is no evidence: the undo is called done when the booking reads cancelled."""
    appointment = booked()
    simulator.switch(replica_stopped=True)
    with pytest.raises(CalcomUnavailable, match="still reads accepted"):
        there.cancel_calcom_booking(appointment.calcom_v2_booking_id, "No longer needed.")


def test_a_location_that_does_not_read_as_restored_is_not_called_so(there, booked, simulator):
    appointment = booked()
    simulator.switch(replica_stopped=True)
    with pytest.raises(CalcomUnavailable, match="still reads otherwise"):
        there.restore_booking_metadata(appointment.calcom_v2_booking_id, {"location": HERE})


def test_a_booking_that_a_replica_does_not_show_yet_is_cancelled_and_looked_at_again(there, simulator, booked):
    """As where one of several bookings fails at once, and the others have only just been made."""
    simulator.switch(replica_stopped=True)
    uid = booked().calcom_v2_booking_id
    with pytest.raises(CalcomUnavailable, match=r"not to be seen \(yet\)"):
        there.cancel_calcom_booking(uid, "a test")
    assert simulator.standing() == []

    simulator.switch(replica_stopped=False)
    assert there.cancel_calcom_booking(uid, "a test")["status_read_back"] == "cancelled"


def test_a_status_is_reverted_once_and_the_slot_is_free_again(here, booked, app_engine, db):
    appointment = booked()
    with Session(app_engine.database.engine) as session, session.begin():
        before = snapshot(read_appointment(session, appointment.id))
        session.execute(
            text(
                "UPDATE appointments SET status = 'confirmed', calcom_sync_status = 'pending', "
                "moving_starts_at = starts_at + interval '1 day', moving_ends_at = ends_at + interval '1 day'"
            )
        )
    for _ in range(2):
        with Session(app_engine.database.engine) as session, session.begin():
            receipt = here.revert_appointment_status(
                session, appointment.id, before, saga_id="11111111-1111-1111-1111-111111111111", reason="a test"
            )
    assert receipt == {
        "appointment_id": appointment.id,
        "status": "scheduled",
        "calcom_sync_status": "synced",
        "sync_saga_id": None,
    }
    after = row(app_engine, appointment.id)
    assert (after.status, after.calcom_sync_status, after.moving_starts_at) == ("scheduled", "synced", None)
    written = db.execute(text("SELECT detail FROM audit_log WHERE action = 'appointment.reverted'")).scalars().all()
    assert written == [{"reason": "a test", "status": "scheduled", "calcom_sync_status": "synced"}]


@contextmanager
def kept_as_it_is(app_engine, table: str) -> Iterator[Session]:
    """Something in the database keeps rows as they are, and says nothing."""
    with Session(app_engine.database.engine) as session:
        session.execute(
            text(
                "CREATE FUNCTION pg_temp.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;"
                f"CREATE TRIGGER test_keep BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION pg_temp.keep()"
            )
        )
        yield session
        session.rollback()


def test_a_status_that_does_not_read_as_reverted_is_not_called_so(here, booked, app_engine):
    appointment = booked()
    with kept_as_it_is(app_engine, "appointments") as session:
        before = snapshot(read_appointment(session, appointment.id)) | {"status": "confirmed"}
        with pytest.raises(PermanentError, match="does not read as it was"):
            here.revert_appointment_status(
                session, appointment.id, before, saga_id=appointment_saga(session), reason=""
            )


def test_an_appointment_is_deleted_once_and_leaves_its_row_and_an_audit_row(here, booked, app_engine, db):
    appointment = booked()
    saga_id = appointment_saga(db)
    receipts = []
    for _ in range(2):
        with Session(app_engine.database.engine) as session, session.begin():
            receipts.append(here.delete_appointment(session, appointment.id, saga_id=saga_id, reason="a test"))
    left = row(app_engine, appointment.id)
    assert (left.status, left.calcom_sync_status, left.calcom_v2_booking_id) == (
        "failed",
        "cancelled",
        appointment.calcom_v2_booking_id,
    )
    deleted = {"appointment_id": appointment.id, "status": "failed", "deleted_at": left.deleted_at.isoformat()}
    assert receipts == [deleted, deleted]
    (written,) = db.execute(text("SELECT * FROM audit_log WHERE action = 'appointment.deleted'")).all()
    assert (written.actor, written.entity_id, str(written.saga_id)) == ("a test", appointment.id, saga_id)
    assert written.detail == {"reason": "a test", "status_before": "scheduled"}


def test_an_appointment_that_does_not_read_as_deleted_is_not_called_so(here, booked, app_engine):
    appointment = booked()
    with (
        kept_as_it_is(app_engine, "appointments") as session,
        pytest.raises(PermanentError, match="still stands after its deletion"),
    ):
        here.delete_appointment(session, appointment.id, saga_id=appointment_saga(session), reason="")


def test_a_composite_booking_that_does_not_read_as_deleted_is_not_called_so(here, order, app_engine):
    made = CompositeBookingSaga.run(*order(2))
    with (
        kept_as_it_is(app_engine, "composite_bookings") as session,
        pytest.raises(PermanentError, match=r"composite booking \d+ still stands"),
    ):
        here.delete_composite_appointment(session, made.id, saga_id=appointment_saga(session), reason="")


def test_the_cache_forgets_once_and_again(here, booked):
    appointment, cache = booked(), AppointmentSyncSaga.services.cache
    assert cache.get(appointment.id) == appointment.summary
    forgotten = [here.invalidate_cache(cache, appointment.id)["forgotten"] for _ in range(2)]
    assert forgotten == [True, False]


def appointment_saga(session) -> str:
    return str(session.execute(text("SELECT saga_id FROM appointments LIMIT 1")).scalar_one())
