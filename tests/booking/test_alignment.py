"""Where an appointment has to be, given what Cal.com shows: whatever the order in which looks and webhooks come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagajobs.booking.alignment import Sight, Standing, aligned, differences, is_news, shows
from sagajobs.calcom.webhooks import Trigger

FIRST = datetime(2030, 1, 7, 9, tzinfo=UTC)
RANK = {"pending": 0, "scheduled": 1, "cancelled": 2}


def row(uid: str = "a", status: str = "scheduled", sync: str = "synced", start: datetime = FIRST) -> Standing:
    return Standing(uid, status, sync, start, start + timedelta(minutes=30))


def sight(*uids: str, status: str = "accepted", start: datetime = FIRST) -> Sight:
    return Sight(uids=uids, status=status, start=start, end=start + timedelta(minutes=30), host=None)


LATER = FIRST + timedelta(hours=3)


@pytest.mark.parametrize(
    ("was", "seen", "becomes"),
    [
        (row(), sight("a"), row()),
        (row(status="confirmed"), sight("a"), row(status="confirmed")),
        (row(status="pending"), sight("a"), row()),
        (row(status="pending"), sight("a", status="pending"), row(status="pending")),
        (row(), sight("a", status="pending"), row()),
        (row(), sight("a", status="cancelled"), row(status="cancelled", sync="cancelled")),
        (row(status="pending"), sight("a", status="rejected"), row(status="cancelled", sync="cancelled")),
        (row(), sight("a", "b", start=LATER), row("b", "rescheduled", start=LATER)),
        (row("b", "rescheduled", start=LATER), sight("b", start=LATER), row("b", "rescheduled", start=LATER)),
        (row(), sight("a", "b", status="pending", start=LATER), row("b", "pending", start=LATER)),
        (row(), sight("a", "b", status="cancelled", start=LATER), row("b", "cancelled", "cancelled")),
        (row(sync="error"), sight("a"), row()),
        (row(), sight("a", status="awaiting_host"), row()),
        (row("b"), sight("a"), row("b")),
        (row(status="cancelled"), sight("a"), row(status="cancelled")),
        (row(status="completed"), sight("a", status="cancelled"), row(status="completed")),
        (row(status="failed"), sight("a", "b", start=LATER), row(status="failed")),
    ],
)
def test_an_appointment_goes_where_its_booking_is_and_never_back(was, seen, becomes):
    assert aligned(was, seen) == becomes


def test_differences_are_told_by_column():
    assert differences(row(), row()) == {}
    assert differences(row(), row("b", start=LATER)) == {
        "calcom_v2_booking_id": "b",
        "starts_at": LATER,
        "ends_at": LATER + timedelta(minutes=30),
    }


@dataclass
class World:
    """Cal.com after some acts: each booking's status and what it was moved to."""

    bookings: dict[str, list]

    def look(self, uid: str) -> Sight | None:
        uids = [uid]
        if uid not in self.bookings:
            return None  # not on this replica yet
        while self.bookings[uids[-1]][1] is not None:
            uids.append(self.bookings[uids[-1]][1])
        status, _, start = self.bookings[uids[-1]]
        return sight(*uids, status=status, start=start)


def worlds(first: str, acts: list[str]) -> list[World]:
    """Return Cal.com after each act on the live booking; acts that it refuses change nothing."""
    bookings = {"u0": [first, None, FIRST]}
    history = [World({"u0": list(bookings["u0"])})]
    for act in acts:
        live = f"u{len(bookings) - 1}"
        status = bookings[live][0]
        if act == "confirm" and status == "pending":
            bookings[live][0] = "accepted"
        elif act == "decline" and status == "pending":
            bookings[live][0] = "rejected"
        elif act == "cancel" and status in ("pending", "accepted"):
            bookings[live][0] = "cancelled"
        elif act.startswith("move") and status in ("pending", "accepted"):
            moved = f"u{len(bookings)}"
            bookings[live][:2] = ["cancelled", moved]
            bookings[moved] = [act.removeprefix("move "), None, FIRST + timedelta(hours=len(bookings))]
        history.append(World({uid: list(booking) for uid, booking in bookings.items()}))
    return history


ACTS = st.lists(st.sampled_from(["confirm", "decline", "cancel", "move accepted", "move pending"]), max_size=6)


@given(st.sampled_from(["pending", "accepted"]), ACTS, st.lists(st.integers(0, 6), max_size=12))
def test_stale_looks_in_any_order_end_where_the_newest_look_alone_ends(first, acts, order):
    history = worlds(first, acts)
    at = row("u0", "pending" if first == "pending" else "scheduled")
    straight = aligned(at, history[-1].look("u0"))
    for when in order:
        seen = history[min(when, len(history) - 1)].look(at.calcom_v2_booking_id)
        if seen is None:
            continue
        after = aligned(at, seen)
        if after.calcom_v2_booking_id == at.calcom_v2_booking_id:
            rank = [RANK[one.status.replace("rescheduled", "scheduled")] for one in (at, after)]
            assert rank[0] <= rank[1], "per uid only forward"
        else:
            assert int(after.calcom_v2_booking_id[1:]) > int(at.calcom_v2_booking_id[1:])
        at = after
    at = aligned(at, history[-1].look(at.calcom_v2_booking_id))
    same = ("calcom_v2_booking_id", "calcom_sync_status", "starts_at", "ends_at")
    if straight.status != "cancelled":
        assert [getattr(at, name) for name in same] == [getattr(straight, name) for name in same]
    assert at.status.replace("rescheduled", "scheduled") == straight.status.replace("rescheduled", "scheduled")
    assert at == aligned(at, history[-1].look(at.calcom_v2_booking_id)), "a second look changes nothing"


@pytest.mark.parametrize(
    ("trigger", "uid", "seen", "fits"),
    [
        (None, "a", sight("a"), True),
        ("BOOKING_PAID", "a", sight("a", status="pending"), True),
        ("BOOKING_CANCELLED", "a", sight("a"), False),
        ("BOOKING_CANCELLED", "a", sight("a", status="cancelled"), True),
        ("BOOKING_CANCELLED", "a", sight("a", "b"), True),
        ("BOOKING_CANCELLED", "b", sight("a"), False),
        ("BOOKING_REJECTED", "a", sight("a", status="pending"), False),
        ("BOOKING_REJECTED", "a", sight("a", status="rejected"), True),
        ("BOOKING_RESCHEDULED", "b", sight("a"), False),
        ("BOOKING_RESCHEDULED", "b", sight("a", "b"), True),
        ("BOOKING_RESCHEDULED", "b", sight("a", "b", "c"), True),
        ("BOOKING_REQUESTED", "b", sight("a", "b", status="pending"), True),
        ("BOOKING_CREATED", "a", sight("a", status="pending"), False),
        ("BOOKING_CREATED", "a", sight("a"), True),
        ("BOOKING_CREATED", "a", sight("a", status="cancelled"), True),
    ],
)
def test_whether_a_look_shows_what_the_webhook_said(trigger, uid, seen, fits):
    assert shows(trigger, uid, seen) is fits


@pytest.mark.parametrize(
    ("trigger", "uid", "at", "news"),
    [
        (Trigger.CREATED, "a", row(), False),
        (Trigger.CREATED, "a", row(status="pending"), True),
        (Trigger.PAID, "a", row(status="pending"), True),
        (Trigger.REQUESTED, "a", row(status="pending"), False),
        (Trigger.RESCHEDULED, "b", row("b", "rescheduled"), False),
        (Trigger.RESCHEDULED, "b", row(), True),
        (Trigger.CANCELLED, "a", row(), True),
        (Trigger.CANCELLED, "a", row(status="cancelled", sync="cancelled"), False),
        (Trigger.REJECTED, "a", row(status="pending"), True),
        (Trigger.REASSIGNED, "a", row(), True),
        (Trigger.CREATED, "a", row(sync="error"), True),
        (Trigger.CANCELLED, "a", row(status="completed"), False),
    ],
)
def test_the_echo_of_what_we_did_ourselves_is_no_news(trigger, uid, at, news):
    assert is_news(trigger, uid, at) is news
