"""/v2/slots of the simulator, and reservations, which hide slots and lock nothing."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

VERSION = "2024-09-04"
ROUND_ROBIN = 8
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def day():
    """The day after tomorrow, in Berlin, where the hosts are."""
    return (datetime.now(BERLIN) + timedelta(days=2)).date()


@pytest.fixture
def at(day):
    """Name a time of that day in Berlin."""

    def clock(text):
        hour, minute = map(int, text.split(":"))
        return datetime(day.year, day.month, day.day, hour, minute, tzinfo=BERLIN)

    return clock


@pytest.fixture
def slots(simulator, day):
    def ask(**query):
        query = {"eventTypeId": 1, "start": day.isoformat(), "end": day.isoformat(), **query}
        return simulator.api("GET", "/v2/slots", version=VERSION, key=None, **query)

    return ask


@pytest.fixture
def shown(slots, day):
    """Ask for that day in Berlin, and return the times of the slots."""

    def ask(**query):
        answer = slots(timeZone="Europe/Berlin", **query)
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert set(data) <= {day.isoformat()}
        return [datetime.fromisoformat(one["start"]).strftime("%H:%M") for one in data.get(day.isoformat(), [])]

    return ask


@pytest.fixture
def reserve(simulator, at):
    def post(clock="10:00", *, key="cal_test_simulator", version=VERSION, **fields):
        body = {"eventTypeId": 1, "slotStart": at(clock).isoformat(), **fields}
        return simulator.api("POST", "/v2/slots/reservations", body, key=key, version=version)

    return post


class TestSlots:
    def test_a_day_from_nine_to_five(self, shown):
        times = shown()

        assert (times[0], times[1], times[-1], len(times)) == ("09:00", "09:30", "16:30", 16)

    def test_how_they_are_written(self, slots, at, day):
        key = day.isoformat()
        utc = slots().json()["data"][key][0]
        local = slots(timeZone="Europe/Berlin").json()["data"][key][0]
        with_end = slots(timeZone="Europe/Berlin", format="range").json()["data"][key][0]

        assert utc == {"start": at("9:00").astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")}
        assert local == {"start": at("9:00").isoformat(timespec="milliseconds")}
        assert with_end == {**local, "end": at("9:30").isoformat(timespec="milliseconds")}

    def test_a_slot_is_shown_on_its_day_where_it_is_asked_for(self, slots, day):
        answer = slots(timeZone="Pacific/Kiritimati", start=f"{day}T00:00:00Z", end=f"{day}T20:00:00Z")

        assert (day + timedelta(days=1)).isoformat() in answer.json()["data"]

    def test_a_booking_takes_its_slots_across_event_types_and_gives_them_back(self, book, simulator, at, shown):
        uid = book(eventTypeId=6, lengthInMinutes=60, start=at("9:15").isoformat()).json()["data"]["uid"]

        assert shown()[:2] == ["10:30", "11:00"]
        assert shown(bookingUidToReschedule=uid)[0] == "09:00"
        simulator.api("POST", f"/v2/bookings/{uid}/cancel", {"cancellationReason": "x"})
        assert shown()[0] == "09:00"

    def test_a_pending_booking_takes_none(self, book, at, shown):
        book(eventTypeId=7, start=at("9:00").isoformat())

        assert shown(eventTypeId=7)[0] == "09:00"

    def test_other_lengths(self, shown):
        assert len(shown(eventTypeId=6, duration=60)) == 8
        assert len(shown(eventTypeId=6)) == 16

    def test_a_round_robin_has_a_slot_while_one_host_is_free(self, book, at, shown):
        for host in (3, 4):
            book(eventTypeId=host, start=at("9:00").isoformat())
        assert shown(eventTypeId=ROUND_ROBIN)[0] == "09:00"

        book(eventTypeId=5, start=at("9:00").isoformat())
        assert shown(eventTypeId=ROUND_ROBIN)[0] == "09:30"

    def test_none_in_the_past(self, slots, simulator, day):
        simulator.switch(clock_offset_seconds=9 * 86400)

        assert slots().json() == {"status": "success", "data": {}}

    def test_by_slug_and_user(self, shown):
        assert len(shown(eventTypeId=None, eventTypeSlug="host1-30min", username="host1")) == 16

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"eventTypeId": 99}, 404),
            ({"eventTypeId": "one"}, 400),
            ({"eventTypeId": None}, 400),
            ({"start": "soon"}, 400),
            ({"end": None}, 400),
            ({"start": "2999-01-02", "end": "2999-01-01"}, 400),
            ({"start": "2999-01-02", "end": "3999-01-01"}, 400),
            ({"timeZone": "Mars/Olympus"}, 400),
            ({"duration": 45}, 400),
            ({"duration": "long"}, 400),
            ({"format": "list"}, 400),
            ({"teamSlug": "team-one", "eventTypeSlug": "x"}, 501),
            ({"usernames": "host1,host2"}, 501),
        ],
    )
    def test_what_is_refused(self, slots, query, status):
        assert slots(**query).status_code == status

    @pytest.mark.parametrize("version", [None, "2024-08-13", "2024-04-15"])
    def test_another_version_leads_nowhere(self, simulator, version):
        answer = simulator.api("GET", "/v2/slots", version=version, eventTypeId=1)

        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "Cannot GET /v2/slots?eventTypeId=1"


class TestReservations:
    def test_one_is_made_shown_and_dropped(self, reserve, simulator, at):
        answer = reserve()

        data = answer.json()["data"]
        assert answer.status_code == 201
        assert data["eventTypeId"] == 1
        assert data["slotStart"] == at("10:00").astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        assert (data["slotDuration"], data["reservationDuration"]) == (30, 5)
        path = f"/v2/slots/reservations/{data['reservationUid']}"
        kept = simulator.api("GET", path, version=VERSION, key=None).json()["data"]
        assert kept == {name: value for name, value in data.items() if name != "reservationDuration"}
        for _ in range(2):
            gone = simulator.api("DELETE", path, version=VERSION, key=None)
            assert (gone.status_code, gone.json()) == (200, {"status": "success"})
        answer = simulator.api("GET", path, version=VERSION, key=None)
        assert (answer.status_code, answer.json()) == (200, {"status": "success", "data": None})

    def test_it_hides_the_slot_of_this_event_type_from_everybody(self, reserve, shown):
        assert reserve().ok

        assert "10:00" not in shown()
        assert "10:00" in shown(eventTypeId=6)

    def test_it_locks_nothing(self, reserve, book, at, simulator):
        uid = reserve(key=None).json()["data"]["reservationUid"]

        assert book(start=at("10:00").isoformat()).status_code == 201
        kept = simulator.api("GET", f"/v2/slots/reservations/{uid}", version=VERSION).json()["data"]
        assert kept["reservationUid"] == uid

    def test_it_ends_by_itself(self, reserve, shown, simulator):
        uid = reserve(reservationDuration=10).json()["data"]["reservationUid"]
        simulator.switch(clock_offset_seconds=9 * 60)
        assert "10:00" not in shown()

        simulator.switch(clock_offset_seconds=11 * 60)

        assert "10:00" in shown()
        assert simulator.api("GET", f"/v2/slots/reservations/{uid}", version=VERSION).json()["data"] is None
        assert reserve().status_code == 201

    def test_an_own_duration_needs_a_token(self, reserve):
        assert reserve(key=None, reservationDuration=10).status_code == 401
        assert reserve(key=None).status_code == 201

    def test_an_own_length(self, reserve):
        assert reserve(eventTypeId=6, slotDuration=60).json()["data"]["slotDuration"] == 60
        assert reserve(slotDuration=30).status_code == 400
        assert reserve("12:00", eventTypeId=6, slotDuration=45).status_code == 400

    def test_what_is_reserved_or_booked_is_refused(self, reserve, book, at):
        reserve()
        book(start=at("11:00").isoformat())

        reserved, booked = reserve("9:45"), reserve("11:15")

        for answer, message in ((reserved, "already reserved by another user"), (booked, "already booked")):
            assert answer.status_code == 422
            assert answer.json()["error"]["code"] == "UnprocessableEntityException"
            assert message in answer.json()["error"]["message"]

    def test_a_round_robin_is_reserved_once_for_each_free_host(self, reserve, book, at):
        book(eventTypeId=3, start=at("10:00").isoformat())

        assert [reserve(eventTypeId=ROUND_ROBIN).status_code for _ in range(3)] == [201, 201, 422]

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({"eventTypeId": None}, 400),
            ({"eventTypeId": "1"}, 400),
            ({"eventTypeId": 99}, 404),
            ({"slotStart": "soon"}, 400),
            ({"slotDuration": "30"}, 400),
            ({"reservationDuration": 0}, 400),
        ],
    )
    def test_a_wrong_body(self, reserve, fields, status):
        assert reserve(**fields).status_code == status

    @pytest.mark.parametrize("version", [None, "2024-08-13"])
    def test_another_version_leads_nowhere(self, reserve, version):
        assert reserve(version=version).status_code == 404
