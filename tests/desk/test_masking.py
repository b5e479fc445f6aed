"""What is on record as it is shown to whoever looks: nothing in it is about a person."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.desk.documents import LONGEST, data_of, saga_document
from sagajobs.desk.masking import masked

LONG = {"input": {"uid": ["x" * 9] * 1000}, "steps": [{"name": "one", "output": {"uid": "u1"}, "receipt": None}]}
PLACE = {"type": "address", "place": "Private Street 1"}


def test_what_is_long_is_cut_and_says_so():
    (_, cut), (_, whole) = data_of(LONG)
    assert len(cut) < LONGEST + 100
    assert cut.endswith("… (11004 characters in all; `sagajobs sagas show --json` has them)")
    assert whole == "uid=u1"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"uid": "u1", "notes": "n"}, {"uid": "u1", "notes": "…"}),
        ({"uid": ["u1", "u2"], "guests": ["g1", "g2"]}, {"uid": ["u1", "u2"], "guests": ["…", "…"]}),
        ({"uid": {"email": "e", "uid": 7}}, {"uid": {"email": "…", "uid": 7}}),
        ({"uid": [{"email": "e"}]}, {"uid": [{"email": "…"}]}),
        ({"before": {"uid": None, "phone": None}}, {"before": {"uid": None, "phone": "…"}}),
        ({"ada@secret.example": {"uid": "u1"}, "Müller": 1}, {"…": "…"}),
        (["text"], ["…"]),
        ("text", "…"),
        (None, "…"),
    ],
)
def test_what_is_not_named_is_masked(value, shown):
    assert masked(value, {"uid"}) == shown


def test_of_an_appointments_life_only_what_is_about_nobody_is_shown(app_engine, db, booking, clean):
    made = AppointmentCreationSaga.run(booking(notes="Private note"))
    later = made.starts_at + timedelta(days=1)
    for operation, data, asked in (
        (
            "update",
            {"location": PLACE, "guests": ["guest@private.example"], "notes": "Private too"},
            "data=(notes=…, guests=[…], location=(type=…, place=…)), operation=update",
        ),
        ("reschedule", {"start": later, "reason": "Private reason"}, "data=(start=20"),
        ("cancel", {"reason": "Private reason"}, "data=(reason=…), operation=cancel"),
    ):
        ran = AppointmentSyncSaga.run(made.id, operation, data)["saga_id"]
        lines = dict(data_of(saga_document(db, app_engine, ran, private=False)))
        assert asked in lines["Input"]
        assert f"appointment_id={made.id}" in lines["Input"]
        assert {"Result of lock_appointment", "Result of call_calcom", "Result of update_local"} <= set(lines)
        assert "uid=" in lines["Result of call_calcom"]
        assert "rivate" in str(SagaHandle(ran).record().input)
        assert "rivate" not in str(lines)
        assert "@" not in str(lines)
