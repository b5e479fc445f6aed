"""The client against the simulator: bookings moved, confirmed, declined, relocated, with guests."""

from datetime import timedelta

import pytest

from sagajobs.calcom import errors
from sagajobs.calcom.models import Location, LocationType
from sagajobs.errors import AmbiguousRefusal
from sagajobs.testing.waiting import wait_for

PENDING = 7


@pytest.fixture
def later(tomorrow):
    return tomorrow + timedelta(hours=5)


def test_a_moved_booking_lives_on_under_another_uid(client, simulator, new, later):
    old = client.create_booking(new(metadata={"saga": "s-1"}))

    moved = client.reschedule_booking(old.uid, later, reason="rain")

    assert moved.uid != old.uid
    assert (moved.start, moved.duration, moved.status) == (later, 30, "accepted")
    assert (moved.metadata, moved.attendees) == ({"saga": "s-1"}, old.attendees)
    assert (moved.rescheduled_from_uid, moved.rescheduling_reason) == (old.uid, "rain")
    gone = client.get_booking(old.uid)
    assert (gone.status, gone.rescheduled_to_uid) == ("cancelled", moved.uid)


def test_a_second_move_and_a_move_of_a_cancelled_booking_are_told_apart(client, new, later):
    old = client.create_booking(new())
    moved = client.reschedule_booking(old.uid, later, reason="rain")

    with pytest.raises(errors.AlreadyRescheduled):
        client.reschedule_booking(old.uid, later, reason="rain")
    client.cancel_booking(moved.uid, "snow")
    with pytest.raises(errors.AlreadyCancelled):
        client.reschedule_booking(moved.uid, later, reason="rain")
    with pytest.raises(errors.BookingNotFound):
        client.reschedule_booking("unheard-of", later, reason="rain")


def test_a_declined_booking_is_not_found(client, new, later):
    uid = client.create_booking(new(event_type_id=PENDING)).uid
    client.decline_booking(uid, "ill")

    with pytest.raises(errors.BookingNotFound):
        client.reschedule_booking(uid, later, reason="rain")


def test_a_move_to_a_taken_slot_is_in_doubt_and_leaves_the_booking(client, new, later):
    old = client.create_booking(new())
    client.create_booking(new(start=later))

    with pytest.raises(errors.SlotTaken) as caught:
        client.reschedule_booking(old.uid, later, reason="rain")

    assert isinstance(caught.value, AmbiguousRefusal)
    assert client.get_booking(old.uid).status == "accepted"


@pytest.mark.parametrize("race", ["conflict", "redacted"])
def test_a_move_that_lost_a_race_is_a_taken_slot(client, simulator, new, later, race):
    old = client.create_booking(new())
    client.create_booking(new(start=later))
    simulator.switch(race=race)

    with pytest.raises(errors.SlotTaken):
        client.reschedule_booking(old.uid, later, reason="rain")


def test_a_move_into_the_past_is_refused_for_good(client, new, tomorrow):
    old = client.create_booking(new())

    with pytest.raises(errors.CalcomRefused, match="past"):
        client.reschedule_booking(old.uid, tomorrow - timedelta(days=3), reason="rain")


@pytest.mark.parametrize("kind", ["timeout", "drop", "http_500", "http_503", "http_524", "malformed"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_move_without_an_answer_is_settled_by_a_look(hasty, client, simulator, new, later, kind, when):
    old = client.create_booking(new())
    simulator.fault("reschedule", kind, when)

    with pytest.raises(errors.CalcomOutcomeUnknown):
        hasty.reschedule_booking(old.uid, later, reason="rain")

    wait_for(lambda: len(simulator.calls()) == 2)
    seen = client.get_booking(old.uid)
    if when == "before":
        assert (seen.status, seen.rescheduled_to_uid) == ("accepted", None)
    else:
        assert client.get_booking(seen.rescheduled_to_uid).start == later
        with pytest.raises(errors.AlreadyRescheduled):
            client.reschedule_booking(old.uid, later, reason="rain")


def test_who_moves_a_booking_decides_whether_it_needs_confirming(client, new, later):
    moved = client.reschedule_booking(
        client.create_booking(new(event_type_id=PENDING)).uid, later, reason="rain", rescheduled_by="a@example.com"
    )
    own = client.reschedule_booking(
        client.create_booking(new()).uid, later + timedelta(hours=1), reason="rain", rescheduled_by="a@example.com"
    )

    assert (moved.status, own.status) == ("pending", "accepted")


def test_a_pending_booking_is_confirmed_once(client, new):
    uid = client.create_booking(new(event_type_id=PENDING)).uid

    assert client.confirm_booking(uid).status == "accepted"
    with pytest.raises(errors.AlreadyConfirmed):
        client.confirm_booking(uid)
    with pytest.raises(errors.AlreadyConfirmed):
        client.decline_booking(uid, "ill")
    with pytest.raises(errors.BookingNotFound):
        client.confirm_booking("unheard-of")


def test_a_pending_booking_is_declined(client, new):
    uid = client.create_booking(new(event_type_id=PENDING)).uid

    assert client.decline_booking(uid, "ill").status == "rejected"


def test_a_booking_gets_another_place(client, new):
    uid = client.create_booking(new()).uid

    placed = client.set_location(uid, Location(LocationType.LINK, "https://meet.example/1"))

    assert placed.location == "https://meet.example/1"
    assert client.get_booking(uid).location == "https://meet.example/1"


def test_guests_are_added(client, new):
    uid = client.create_booking(new()).uid

    client.add_guests(uid, ["a@example.com", "b@example.com"])

    assert set(client.get_booking(uid).guests) == {"a@example.com", "b@example.com"}
    assert [found.uid for found in client.find_bookings(attendee_email="b@example.com")] == [uid]


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("confirm", lambda client, uid: client.confirm_booking(uid)),
        ("decline", lambda client, uid: client.decline_booking(uid, "ill")),
        ("location", lambda client, uid: client.set_location(uid, Location(LocationType.LINK, "https://m.example"))),
        ("guests", lambda client, uid: client.add_guests(uid, ["a@example.com"])),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_each_change_without_an_answer_is_in_doubt(hasty, client, simulator, new, operation, call, when):
    uid = client.create_booking(new(event_type_id=PENDING)).uid
    simulator.fault(operation, "drop", when)

    with pytest.raises(errors.CalcomOutcomeUnknown):
        call(hasty, uid)


def test_what_mails_people_has_a_limit_of_its_own_at_cal_com(client, simulator, new):
    simulator.switch(rate_limit_per_minute=120)
    uid = client.create_booking(new()).uid
    for number in range(5):
        client.add_guests(uid, [f"{number}@example.com"])

    with pytest.raises(errors.CalcomRateLimited) as caught:
        client.add_guests(uid, ["6@example.com"])

    assert 0 < caught.value.retry_after <= 60
    assert client.get_booking(uid).uid == uid
