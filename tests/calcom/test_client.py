"""The client against a running simulator: every method, and what it must not fall for."""

from datetime import timedelta

import pytest
import requests

from sagajobs.calcom import errors
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.listing import Sort
from sagajobs.errors import ConfigurationError


def test_a_booking_is_made_read_found_and_cancelled(client, simulator, new):
    asked = new(metadata={"saga": "s-1"})

    made = client.create_booking(asked)

    assert made.status == "accepted"
    assert made.start == asked.start
    assert made.end == asked.start + timedelta(minutes=30)
    assert (made.duration, made.event_type_id, made.event_type_slug) == (30, 1, "host1-30min")
    assert made.metadata == {"saga": "s-1"}
    assert made.updated_at is None
    assert [host.id for host in made.hosts] == [1]
    assert [one.email for one in made.attendees] == [asked.attendee_email]
    assert client.get_booking(made.uid) == made
    assert client.find_bookings(event_type_id=1, attendee_email=asked.attendee_email) == [made]

    cancelled = client.cancel_booking(made.uid, "no longer needed")

    assert (cancelled.uid, cancelled.status) == (made.uid, "cancelled")
    assert cancelled.cancellation_reason == "no longer needed"
    assert client.get_booking(made.uid).status == "cancelled"
    assert [entry["what"] for entry in simulator.ledger()[0]["history"]] == ["created", "cancelled"]


def test_each_endpoint_gets_its_own_version(client, simulator, new):
    made = client.create_booking(new())
    client.get_booking(made.uid)
    client.find_bookings(event_type_id=1)
    client.cancel_booking(made.uid, "x")
    client.event_type(1)
    client.free_slots(1, made.start, made.end)
    client.me()

    assert [(call["operation"], call["version"]) for call in simulator.calls()] == [
        ("create", "2024-08-13"),
        ("get", "2024-08-13"),
        ("list", "2024-08-13"),
        ("cancel", "2024-08-13"),
        ("event_type", "2024-06-14"),
        ("slots", "2024-09-04"),
        ("me", None),
    ]


def test_phone_notes_and_length_arrive(client, simulator, new):
    client.create_booking(new(event_type_id=6, length_in_minutes=60))

    row = simulator.ledger()[0]
    assert row["duration"] == 60
    assert row["attendees"][0]["phoneNumber"] == "+4915112345678"
    assert row["bookingFieldsResponses"]["notes"] == "allergic to penguins"


def test_an_attendee_without_e_mail_can_book(client, new):
    assert client.create_booking(new(attendee_email=None)).attendees[0].phone_number == "+4915112345678"


def test_event_types_and_the_key_s_owner(client):
    assert client.me().id == 1
    assert client.event_type(6).lengths == (15, 30, 60)
    assert client.event_type(7).requires_confirmation
    assert client.event_type(8).scheduling == "roundRobin"
    with pytest.raises(errors.EventTypeNotFound):
        client.event_type(99)


def test_a_taken_slot_is_in_doubt_not_refused(client, new, tomorrow):
    client.create_booking(new(start=tomorrow))

    with pytest.raises(errors.SlotTaken) as caught:
        client.create_booking(new(start=tomorrow))

    assert caught.value.status == 400
    assert caught.value.code == "BadRequestException"
    assert caught.value.request_id


@pytest.mark.parametrize(("race", "status"), [("conflict", 409), ("redacted", 400)])
def test_a_lost_race_is_a_taken_slot(client, simulator, new, race, status):
    start = new().start
    simulator.switch(race=race)
    client.create_booking(new(start=start))

    with pytest.raises(errors.SlotTaken) as caught:
        client.create_booking(new(start=start))

    assert caught.value.status == status
    assert len(simulator.ledger()) == 1


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"event_type_id": 99}, errors.EventTypeNotFound),
        ({"attendee_time_zone": "Mars/Olympus"}, errors.CalcomRefused),
        ({"attendee_email": "nobody"}, errors.CalcomRefused),
        ({"length_in_minutes": 45}, errors.CalcomRefused),
    ],
)
def test_a_booking_refused_for_good(client, simulator, new, fields, kind):
    with pytest.raises(kind):
        client.create_booking(new(**fields))

    assert simulator.ledger() == []


def test_a_start_in_the_past_is_refused_for_good(client, new, tomorrow):
    with pytest.raises(errors.CalcomRefused, match="past"):
        client.create_booking(new(start=tomorrow - timedelta(days=3)))


def test_cancelling_again_says_so(client, new):
    uid = client.create_booking(new()).uid
    client.cancel_booking(uid, "x")

    with pytest.raises(errors.AlreadyCancelled):
        client.cancel_booking(uid, "x")


def test_what_cannot_be_cancelled(client, simulator, new):
    uid = client.create_booking(new()).uid
    with pytest.raises(errors.BookingNotFound):
        client.cancel_booking("nope", "x")
    with pytest.raises(errors.CalcomRefused, match="reason"):
        client.cancel_booking(uid, "")
    simulator.switch(clock_offset_seconds=7 * 86400)
    with pytest.raises(errors.BookingEnded):
        client.cancel_booking(uid, "x")


def test_an_unknown_booking_is_not_found(client):
    with pytest.raises(errors.BookingNotFound):
        client.get_booking("nope")


def test_a_uid_that_would_leave_its_place_in_the_path_is_not_sent(client, simulator):
    for uid in ("", "..", "a/cancel", "a?b=c"):
        with pytest.raises(errors.InvalidRequest):
            client.get_booking(uid)
        with pytest.raises(errors.InvalidRequest):
            client.cancel_booking(uid, "x")
    assert simulator.calls() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client, new: client.create_booking(new()),
        lambda client, _: client.get_booking("x"),
        lambda client, _: client.find_bookings(),
        lambda client, _: client.cancel_booking("x", "y"),
        lambda client, _: client.event_type(1),
        lambda client, _: client.me(),
    ],
)
def test_a_wrong_key_is_bad_credentials_everywhere(simulator, new, call):
    with (
        CalcomClient(simulator.url, "cal_wrong") as stranger,
        pytest.raises(errors.BadCredentials) as caught,
    ):
        call(stranger, new)

    assert caught.value.status == 401
    assert simulator.ledger() == []


def test_a_version_the_server_does_not_know_is_no_missing_booking(client, simulator, new):
    uid = client.create_booking(new()).uid
    simulator.switch(bookings_version_known=False)

    for call in (
        lambda: client.get_booking(uid),
        lambda: client.cancel_booking(uid, "x"),
        lambda: client.create_booking(new()),
    ):
        with pytest.raises(errors.CalcomRefused) as caught:
            call()
        assert type(caught.value) is errors.CalcomRefused


class TestFinding:
    def test_cancelled_and_pending_ones_are_found_too(self, client, new):
        gone = client.create_booking(new())
        client.cancel_booking(gone.uid, "x")
        waiting = client.create_booking(new(event_type_id=7))

        found = client.find_bookings(attendee_email=new().attendee_email)

        assert {(one.uid, one.status) for one in found} == {
            (gone.uid, "cancelled"),
            (waiting.uid, "pending"),
        }

    def test_each_filter_counts(self, client, new, tomorrow):
        mine = client.create_booking(new(start=tomorrow))
        client.create_booking(new(start=tomorrow, event_type_id=2))
        client.create_booking(new(start=tomorrow, event_type_id=3, attendee_email="other@example.com"))
        client.create_booking(new(start=tomorrow + timedelta(hours=5)))
        client.create_booking(new(start=tomorrow - timedelta(hours=2)))

        exact = {"event_type_id": 1, "attendee_email": new().attendee_email}
        window = {"after_start": mine.start, "before_end": mine.end}

        assert client.find_bookings(**exact, **window) == [mine]
        assert len(client.find_bookings()) == 5
        assert len(client.find_bookings(**exact)) == 3
        assert len(client.find_bookings(**window)) == 3
        assert len(client.find_bookings(after_start=mine.start)) == 4
        assert len(client.find_bookings(before_end=mine.end)) == 4
        assert client.find_bookings(attendee_email=new().attendee_email.upper()) == []

    def test_both_ends_of_the_window_belong_to_it(self, client, new, tomorrow):
        start = tomorrow.replace(microsecond=123456)
        mine = client.create_booking(new(start=start))

        # The microseconds are ours alone: Cal.com's start is a little before what we asked for.
        assert mine.start < start
        assert client.find_bookings(after_start=start, before_end=start + timedelta(minutes=30)) == [mine]
        late = tomorrow + timedelta(milliseconds=124)
        assert client.find_bookings(after_start=late) == []

    def test_all_pages_are_read(self, client, simulator, new, tomorrow):
        for number in range(251):
            start = (tomorrow + timedelta(hours=number)).isoformat()
            simulator.api("POST", "/v2/bookings", new().to_json() | {"start": start}).raise_for_status()

        found = client.find_bookings(event_type_id=1)

        assert len({one.uid for one in found}) == len(found) == 251
        assert [call["operation"] for call in simulator.calls()[-2:]] == ["list", "list"]

    def test_a_short_page_is_the_last_one(self, client, simulator, new):
        client.create_booking(new())
        client.find_bookings()

        assert [call["operation"] for call in simulator.calls()] == ["create", "list"]

    def test_rows_that_do_not_match_are_dropped_when_the_server_ignores_the_filter(
        self, client, simulator, new, caplog
    ):
        mine = client.create_booking(new())
        client.create_booking(new(attendee_email="other@example.com"))
        client.create_booking(new(event_type_id=2))
        simulator.switch(bookings_version_known=False)

        found = client.find_bookings(event_type_id=1, attendee_email=new().attendee_email)

        assert found == [mine]
        assert "2 bookings dropped, 1 kept" in caplog.text
        # The page was short, but a server that ignores filters may ignore page sizes too: read to the end.
        assert [call["operation"] for call in simulator.calls()[-2:]] == ["list", "list"]

    def test_a_list_the_server_does_not_have_is_no_empty_list(self, client, simulator):
        simulator.switch(bookings_version_known=False, fallback="not_found")

        with pytest.raises(errors.CalcomRefused):
            client.find_bookings(event_type_id=1)

    def test_a_lagging_replica_shows_nothing_and_then_something(self, client, simulator, new):
        simulator.switch(lag_ms=60_000)
        made = client.create_booking(new())

        assert client.find_bookings(event_type_id=1) == []
        with pytest.raises(errors.BookingNotFound):
            client.get_booking(made.uid)

        simulator.switch(lag_ms=0)
        assert client.find_bookings(event_type_id=1) == [made]


def test_a_create_under_lag_may_fail_and_be_done(client, simulator, new):
    simulator.switch(lag_ms=60_000, lag_fails_create=True)

    with pytest.raises(errors.CalcomOutcomeUnknown):
        client.create_booking(new())

    assert len(simulator.ledger()) == 1


def test_a_cancel_under_lag_shows_the_booking_as_it_was(client, simulator, new):
    uid = client.create_booking(new()).uid
    simulator.switch(lag_ms=60_000)

    client.cancel_booking(uid, "x")

    assert simulator.ledger()[0]["status"] == "cancelled"
    with pytest.raises(errors.AlreadyCancelled):
        client.cancel_booking(uid, "x")


@pytest.mark.parametrize("event_type_id", [7, 8])
def test_a_repeated_create_may_give_the_first_booking(client, simulator, new, tomorrow, event_type_id):
    first = client.create_booking(new(event_type_id=event_type_id, start=tomorrow, metadata={"saga": "first"}))
    second = client.create_booking(new(event_type_id=event_type_id, start=tomorrow, metadata={"saga": "second"}))

    assert (second.uid, second.metadata) == (first.uid, {"saga": "first"})
    assert len(simulator.ledger()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.cal.com",
        "ftp://api.cal.com",
        "http://",
        "https://user:hunter2@api.cal.com",
        "https://api.cal.com/?key=hunter2",
        "https://api.cal.com/#x",
        "http://host:port",
    ],
)
def test_a_wrong_url_is_found_at_once_and_not_quoted(url):
    with pytest.raises(ConfigurationError) as caught:
        CalcomClient(url, "cal_x")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "cal_ x", "cal_hunter2\n", "cal_hünter2"])
def test_a_wrong_key_format_is_found_at_once_and_not_quoted(key):
    with pytest.raises(ConfigurationError) as caught:
        CalcomClient("https://api.cal.com", key)

    assert "nter2" not in str(caught.value)


def test_a_url_with_a_path_or_a_slash_at_its_end_works(simulator):
    for url in (f"{simulator.url}/", f"{simulator.url}/api/"):
        with CalcomClient(url, "cal_test_simulator") as client:
            assert client.me().id == 1


def test_a_netrc_does_not_replace_the_key(simulator, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(simulator.url)

    with CalcomClient(simulator.url, "cal_test_simulator") as client:
        assert client.me().id == 1


@pytest.mark.parametrize("sort", list(Sort))
def test_all_bookings_of_a_time_come_in_pages(client, simulator, tomorrow, book, sort):
    """More than a page, without an attendee's address, and one of them moved out of the time asked for."""
    starts = [tomorrow + timedelta(minutes=30 * number) for number in range(52)]
    for number, start in enumerate(starts):
        for event_type in range(1, 6):
            attendee = {"name": "Ann", "email": f"{number}.{event_type}@example.com", "timeZone": "UTC"}
            assert book(eventTypeId=event_type, start=start.isoformat(), attendee=attendee).status_code == 201

    found = client.find_bookings(after_start=starts[0], before_end=starts[50] + timedelta(minutes=30), sort=sort)

    assert len(found) == len({booking.uid for booking in found}) == 51 * 5
    assert {booking.start for booking in found} == set(starts[:51])
    assert [call["operation"] for call in simulator.calls()].count("list") == 2
    if sort is Sort.CREATED:
        assert [booking.id for booking in found] == sorted(booking.id for booking in found)


def test_free_slots_are_those_that_can_be_booked(client, new, tomorrow):
    first = (tomorrow + timedelta(days=1)).replace(hour=0, minute=0)
    starts = client.free_slots(1, first, first + timedelta(days=1))
    assert len(starts) == 16, "half hours from nine to five"
    assert starts == sorted(starts)
    client.create_booking(new(start=starts[3]))
    assert client.free_slots(1, first, first + timedelta(days=1)) == [*starts[:3], *starts[4:]]
    with pytest.raises(errors.EventTypeNotFound):
        client.free_slots(99, first, first + timedelta(days=1))
