"""POST /v2/bookings/{uid}/reschedule of the simulator: a new booking in place of the old one, or none at all."""

import concurrent.futures
from datetime import UTC, datetime, timedelta

import pytest

PENDING, ROUND_ROBIN = 7, 8


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.fixture
def later(tomorrow):
    return tomorrow + timedelta(hours=3)


@pytest.fixture
def move(simulator, later):
    """Move a booking to three hours later, or as told."""

    def post(uid, *, key="cal_test_simulator", version="2024-08-13", **fields):
        body = {"start": later.isoformat(), **fields}
        return simulator.api("POST", f"/v2/bookings/{uid}/reschedule", body, key=key, version=version)

    return post


def row(simulator, uid):
    return next(one for one in simulator.ledger() if one["uid"] == uid)


def test_a_new_booking_takes_its_place(book, move, simulator, later):
    old = book().json()["data"]

    answer = move(old["uid"], reschedulingReason="rain", rescheduledBy="ann@example.com")

    new = answer.json()["data"]
    assert answer.status_code == 201
    assert new["uid"] != old["uid"]
    assert new["id"] > old["id"]
    assert (new["start"], new["status"]) == (iso(later), "accepted")
    assert new["rescheduledFromUid"] == old["uid"]
    assert (new["reschedulingReason"], new["rescheduledByEmail"]) == ("rain", "ann@example.com")
    assert new["updatedAt"] is None
    gone = simulator.api("GET", f"/v2/bookings/{old['uid']}").json()["data"]
    assert (gone["status"], gone["rescheduledToUid"]) == ("cancelled", new["uid"])
    assert gone["cancellationReason"] == ""
    assert gone["updatedAt"] is not None
    assert gone["start"] == old["start"]


def test_what_is_kept(book, move, tomorrow):
    fields = {
        "eventTypeId": 6,
        "lengthInMinutes": 60,
        "metadata": {"saga": "s-1"},
        "guests": ["guest@example.com"],
        "bookingFieldsResponses": {"notes": "second floor"},
    }
    old = book(**fields).json()["data"]

    new = move(old["uid"]).json()["data"]

    for name in ("metadata", "guests", "bookingFieldsResponses", "duration", "attendees", "icsUid", "description"):
        assert new[name] == old[name], name
    assert new["duration"] == 60


def test_no_token_is_needed(book, move):
    assert move(book().json()["data"]["uid"], key=None).status_code == 201


def test_the_old_slot_is_free_again_and_the_new_one_taken(book, move, later):
    move(book().json()["data"]["uid"])

    assert book(start=later.isoformat()).status_code == 400
    assert book().status_code == 201


def test_each_move_makes_another_uid(book, move, tomorrow, later):
    first = book().json()["data"]["uid"]
    second = move(first).json()["data"]["uid"]

    third = move(second, start=tomorrow.isoformat()).json()["data"]

    assert len({first, second, third["uid"]}) == 3
    assert third["rescheduledFromUid"] == second


def test_its_own_time_is_not_in_the_way(book, move, tomorrow):
    uid = book().json()["data"]["uid"]

    assert move(uid, start=(tomorrow + timedelta(minutes=15)).isoformat()).status_code == 201


def test_a_taken_slot_leaves_the_old_booking_untouched(book, move, simulator, later):
    old = book().json()["data"]
    book(start=later.isoformat())

    answer = move(old["uid"])

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "User either already has booking at this time or is not available"
    assert simulator.api("GET", f"/v2/bookings/{old['uid']}").json()["data"] == old
    assert len(simulator.ledger()) == 2


@pytest.mark.parametrize(
    ("race", "status", "message"),
    [
        ("conflict", 409, "booking_conflict_error"),
        ("redacted", 400, "An error occurred while querying the database."),
    ],
)
def test_a_lost_race_leaves_the_old_booking_untouched(book, move, simulator, later, race, status, message):
    old = book().json()["data"]
    book(start=later.isoformat())
    simulator.switch(race=race)

    answer = move(old["uid"])

    assert (answer.status_code, answer.json()) == (status, {"statusCode": status, "message": message})
    assert simulator.api("GET", f"/v2/bookings/{old['uid']}").json()["data"] == old


class TestRefusals:
    def refused(self, answer, status, message):
        assert answer.status_code == status
        assert answer.json()["error"]["message"] == message
        assert answer.json()["error"]["details"]["statusCode"] == status

    def test_an_unknown_uid(self, move):
        self.refused(move("nope"), 404, "Booking with uid=nope was not found in the database")

    def test_a_cancelled_one(self, book, move, simulator):
        uid = book().json()["data"]["uid"]
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})

        self.refused(
            move(uid),
            400,
            f"Can't reschedule booking with uid={uid} because it has been cancelled. "
            "Please provide uid of a booking that is not cancelled.",
        )

    def test_one_that_was_moved_is_told_where_to(self, book, move):
        old = book().json()["data"]["uid"]
        new = move(old).json()["data"]["uid"]

        answer = move(old)

        assert answer.status_code == 400
        assert f"rescheduled already to booking with uid={new}" in answer.json()["error"]["message"]

    def test_one_that_was_declined(self, book, move, simulator):
        uid = book(eventTypeId=PENDING).json()["data"]["uid"]
        simulator.control("POST", "host/decline", {"uid": uid})

        answer = move(uid)

        assert answer.status_code == 404
        assert answer.json() == {"statusCode": 404, "message": "Could not find original booking"}

    def test_a_start_in_the_past(self, book, move, tomorrow):
        uid = book().json()["data"]["uid"]

        answer = move(uid, start=(tomorrow - timedelta(days=2)).isoformat())

        self.refused(answer, 400, "Attempting to book a meeting in the past.")

    @pytest.mark.parametrize(
        "fields",
        [
            {"start": "soon"},
            {"start": None},
            {"metadata": {"k": "v"}},
            {"lengthInMinutes": 60},
            {"eventTypeId": 2},
            {"rescheduledBy": "ann"},
            {"reschedulingReason": 7},
        ],
    )
    def test_a_wrong_body(self, book, move, simulator, fields):
        uid = book().json()["data"]["uid"]

        answer = move(uid, **fields)

        assert answer.status_code == 400
        assert " property is wrong," in answer.json()["error"]["message"]
        assert len(simulator.ledger()) == 1

    def test_a_seat_is_not_simulated(self, book, move):
        answer = move(book().json()["data"]["uid"], seatUid="s")

        assert answer.status_code == 501
        assert "not simulated" in answer.json()["message"]

    @pytest.mark.parametrize("version", [None, "2026-02-25"])
    def test_another_version_leads_nowhere(self, book, move, version):
        assert move(book().json()["data"]["uid"], version=version).status_code == 404


class TestBounds:
    @pytest.fixture
    def world(self, simulator):
        """Event type 1, of Host One, with bounds."""

        def reset(**bounds):
            host = {"id": 1, "name": "Host One", "email": "host1@example.com", "username": "host1"}
            event_type = {"id": 1, "slug": "x", "title": "X", "length": 30, "hosts": [1], **bounds}
            simulator.reset(world={"hosts": [host], "event_types": [event_type]})

        return reset

    @pytest.mark.parametrize("bounds", [{"minimum_notice": 7 * 1440}, {"days_ahead": 5}])
    def test_a_start_too_early_or_too_late(self, book, move, simulator, world, tomorrow, bounds):
        world(**bounds)
        near, far = ((tomorrow + timedelta(days=days)).isoformat() for days in (1, 8))
        good, bad = (far, near) if "minimum_notice" in bounds else (near, far)
        uid = book(start=good).json()["data"]["uid"]

        for answer in (book(start=bad), move(uid, start=bad)):
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(
                'The event type can\'t be booked at the "start" time provided.'
            )
        assert len(simulator.ledger()) == 1

    def test_slots_keep_to_the_bounds(self, simulator, world, tomorrow):
        world(days_ahead=3, minimum_notice=2 * 1440)
        asked = {"start": tomorrow.date(), "end": tomorrow.date() + timedelta(days=9)}
        before = datetime.now(UTC)

        days = simulator.api("GET", "/v2/slots", version="2024-09-04", eventTypeId=1, **asked).json()["data"]

        after = datetime.now(UTC)
        starts = [datetime.fromisoformat(slot["start"]) for slots in days.values() for slot in slots]
        assert len(starts) > 10
        assert min(starts) >= before + timedelta(days=2)
        assert max(starts) <= after + timedelta(days=3)

    def test_shortly_before_the_start_only_the_host_moves_it(self, book, move, world, tomorrow):
        world(reschedule_notice=7 * 1440)
        uid = book().json()["data"]["uid"]

        refused = move(uid, key=None)

        assert refused.status_code == 403
        assert refused.json() == {
            "statusCode": 403,
            "message": "Rescheduling is not allowed within the minimum notice period before the event",
        }
        assert move(uid).status_code == 201


class TestConfirmation:
    def test_without_the_host_the_new_one_is_pending_and_the_old_one_gone(self, book, move, simulator):
        old = book(eventTypeId=PENDING).json()["data"]["uid"]
        simulator.control("POST", "host/confirm", {"uid": old})

        new = move(old).json()["data"]

        assert new["status"] == "pending"
        assert row(simulator, old)["status"] == "cancelled"

    def test_with_the_host_s_address_it_is_accepted(self, book, move):
        old = book(eventTypeId=PENDING).json()["data"]["uid"]

        assert move(old, rescheduledBy="host2@example.com").json()["data"]["status"] == "accepted"

    def test_with_the_host_s_token_it_is_accepted(self, book, move, simulator):
        host = {"id": 1, "name": "Host One", "email": "host1@example.com", "username": "host1"}
        event_type = {"id": 1, "slug": "x", "title": "X", "length": 30, "hosts": [1], "requires_confirmation": True}
        simulator.reset(world={"hosts": [host], "event_types": [event_type]})
        uids = [book(attendee=attendee(number)).json()["data"]["uid"] for number in range(2)]

        assert move(uids[0], key=None).json()["data"]["status"] == "pending"
        assert move(uids[1]).json()["data"]["status"] == "accepted"

    def test_a_decline_then_leaves_nothing(self, book, move, simulator):
        new = move(book(eventTypeId=PENDING).json()["data"]["uid"]).json()["data"]["uid"]

        simulator.control("POST", "host/decline", {"uid": new})

        assert {one["status"] for one in simulator.ledger()} == {"cancelled", "rejected"}


def attendee(number):
    return {"name": f"A {number}", "email": f"a{number}@example.com", "timeZone": "UTC"}


class TestRoundRobin:
    def test_the_host_may_change(self, book, move, simulator, later):
        old = book(eventTypeId=ROUND_ROBIN).json()["data"]
        host = old["hosts"][0]["id"]
        book(eventTypeId=host, start=later.isoformat())

        new = move(old["uid"]).json()["data"]

        assert new["hosts"][0]["id"] != host
        assert new["icsUid"] != old["icsUid"]
        assert new["hosts"][0]["name"] in new["title"]

    def test_the_host_himself_keeps_it(self, book, simulator, later):
        old = book(eventTypeId=ROUND_ROBIN).json()["data"]

        moved = simulator.control("POST", "host/move", {"uid": old["uid"], "start": later.isoformat()})

        assert moved["hosts"] == old["hosts"]
        assert moved["icsUid"] == old["icsUid"]


class TestFaultsAndLag:
    @pytest.mark.parametrize(("kind", "status"), [("http_500", 500), ("http_503", 503), ("http_524", 524)])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_fault_strikes_before_or_after_the_move(self, book, move, simulator, kind, status, when):
        uid = book().json()["data"]["uid"]
        simulator.fault("reschedule", kind, when)

        assert move(uid).status_code == status

        rows = simulator.ledger()
        assert len(rows) == (2 if when == "after" else 1)
        assert rows[0]["status"] == ("cancelled" if when == "after" else "accepted")

    def test_a_malformed_answer_has_the_status_of_a_good_one(self, book, move, simulator):
        uid = book().json()["data"]["uid"]
        simulator.fault("reschedule", "malformed", "after")

        answer = move(uid)

        assert answer.status_code == 201
        assert len(simulator.ledger()) == 2

    def test_a_read_back_that_lags_fails_what_was_done(self, book, move, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(lag_ms=60_000, lag_fails_create=True)

        assert move(uid).status_code == 500
        assert row(simulator, uid)["status"] == "cancelled"

    def test_a_lagging_replica_blinds_it_on_request(self, book, move, simulator):
        uid = book().json()["data"]["uid"]
        simulator.switch(lag_ms=60_000, lag_blinds_cancel=True)

        assert move(uid).status_code == 404

    def test_past_a_lagging_replica_a_booking_is_moved_twice_and_a_cancelled_one_refused(
        self, book, move, simulator, tomorrow, later
    ):
        moved = book().json()["data"]["uid"]
        cancelled = book(eventTypeId=2).json()["data"]["uid"]
        simulator.switch(replica_stopped=True, lag_blinds_cancel=True)

        first = move(moved).json()["data"]
        simulator.api("POST", f"/v2/bookings/{cancelled}/cancel", {"cancellationReason": "x"})
        second = move(moved, start=(later + timedelta(hours=1)).isoformat())
        refused = move(cancelled)

        assert second.status_code == 201
        assert second.json()["data"]["rescheduledFromUid"] == moved
        assert row(simulator, moved)["rescheduledToUid"] == first["uid"]
        assert refused.json() == {"statusCode": 400, "message": "cancelled_bookings_cannot_be_rescheduled"}

    def test_of_many_moves_at_once_one_is_made(self, book, move, simulator, later):
        uid = book().json()["data"]["uid"]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: move(uid).status_code, range(8)))

        assert sorted(answers) == [201] + [400] * 7
        assert len(simulator.ledger()) == 2


def test_the_history_of_both_names_the_call(book, move, simulator):
    old = book().json()["data"]["uid"]
    new = move(old).json()["data"]["uid"]

    made, moved = simulator.calls()
    assert moved["operation"] == "reschedule"
    assert [(one["what"], one["requestId"]) for one in row(simulator, old)["history"]] == [
        ("created", made["request_id"]),
        ("rescheduled", moved["request_id"]),
    ]
    assert [(one["what"], one["requestId"]) for one in row(simulator, new)["history"]] == [
        ("rescheduled", moved["request_id"])
    ]
