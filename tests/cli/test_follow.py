"""`sagajobs sagas follow`: an appointment whose webhook was lost."""

from __future__ import annotations

from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, AppointmentFollowSaga
from tests.cli.inprocess import sagajobs

WHY = ("--who", "Ann", "--why", "the customer rang")


def test_what_was_done_at_cal_com_is_done_here_when_a_person_asks(app_engine, clean, booking, simulator, db, one_line):
    made = AppointmentCreationSaga.run(booking())
    simulator.host("cancel", made.calcom_v2_booking_id, reason="ill")

    done = sagajobs("sagas", "follow", str(made.id), *WHY, "--json").json
    assert done.items() >= {"appointment": made.id, "who": "Ann", "why": "the customer rang"}.items()
    record = text("SELECT actor, saga_id::text, detail FROM audit_log WHERE action = 'appointment.asked_about'")
    assert db.execute(record).one() == ("Ann", done["saga"], {"why": "the customer rang"})
    app_engine.drive(AppointmentFollowSaga, done["saga"])
    db.rollback()
    assert db.execute(text("SELECT status FROM appointments")).scalar_one() == "cancelled"

    one_line(sagajobs("follow", str(made.id), *WHY), f"appointment {made.id} is cancelled: it follows nothing any more")
    one_line(sagajobs("follow", "4711", *WHY), "there is no appointment 4711")
    assert db.execute(text("SELECT count(*) FROM sagas WHERE name = 'appointment_follow'")).scalar_one() == 1


def test_one_that_was_never_booked_has_nothing_to_follow(nobody_told, booking, one_line):
    made = AppointmentCreationSaga.run(booking())
    with nobody_told.database.transaction() as connection:
        connection.execute(text("UPDATE appointments SET calcom_v2_booking_id = NULL, status = 'pending'"))
    one_line(sagajobs("follow", str(made.id), *WHY), "has no booking at Cal.com that it could follow")
