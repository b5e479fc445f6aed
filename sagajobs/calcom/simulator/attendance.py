"""Who attends: guests and attendees added and removed, and who did not come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sagajobs.calcom.simulator import notices
from sagajobs.calcom.simulator.fields import (
    read_email,
    read_flag,
    read_language,
    read_object,
    read_phone,
    read_text,
    read_zone,
    wrong,
)
from sagajobs.calcom.simulator.ledger import Person, Row
from sagajobs.calcom.simulator.replies import nest, plain, trpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagajobs.calcom.simulator.state import State

MAX_GUESTS_A_CALL = 10
MAX_PEOPLE = 30
"""Attendees of a booking, who booked it among them; only the call that adds guests checks it."""


def attendees(state: State, uid: str) -> tuple[Person, ...]:
    """Return everybody who attends.

    Raises:
        Refusal: 403, for a booking that does not exist, too.
    """
    row = state.ledger.get(uid, lag=state.lag)
    if row is None or not state.administers(uid):
        owner = state.world.hosts[0].id
        raise nest(403, f"BookingPbacGuard - user with id={owner} does not have access to booking with uid={uid}")
    return row.people


def attendee(state: State, uid: str, ref: str) -> Person:
    """Return one who attends, by his id.

    Raises:
        Refusal: 403 as above; 404.
    """
    number = _number(ref)
    found = next((one for one in attendees(state, uid) if one.id == number), None)
    if found is None:
        raise nest(404, f"Attendee with id {ref} not found in booking {uid}")
    return found


def add_guests(state: State, uid: str, content: bytes, request_id: str) -> Row:
    """Add guests to a booking; who attends already is left out.

    Raises:
        Refusal: why not.
    """
    given = read_object(content).get("guests")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_GUESTS_A_CALL:
        raise wrong("guests", f"guests must contain at least 1 and no more than {MAX_GUESTS_A_CALL} elements")
    people = [_guest(one) for one in given]
    row = _existing(state, uid)
    if len(row.people) + len(people) > MAX_PEOPLE:
        raise nest(
            400,
            f"Cannot add {len(people)} guests. This booking already has {len(row.people)} attendees. Maximum total "
            f"guests allowed is {MAX_PEOPLE}. You can add up to {max(0, MAX_PEOPLE - len(row.people))} more guests.",
        )
    row = _added(state, row, people, request_id)
    return state.ledger.get(uid, lag=state.lag) or row


def add_attendee(state: State, uid: str, content: bytes, request_id: str) -> tuple[Row, Person]:
    """Add an attendee, of whom name and time zone are known; he is shown among the guests, too.

    Raises:
        Refusal: why not.
    """
    attendees(state, uid)
    body = read_object(content)
    person = _guest(body)
    for name, value in (("name", person.name), ("timeZone", person.time_zone)):
        if not value:
            raise wrong(name, f"{name} should not be empty")
    row = _added(state, _existing(state, uid), [replace(person, phone=read_phone(body, "phoneNumber"))], request_id)
    return row, row.guests[-1]


def remove_attendee(state: State, uid: str, ref: str, request_id: str) -> tuple[Row, Person]:
    """Remove an attendee, and return him.

    Raises:
        Refusal: why not.
    """
    number = _number(ref)
    row = _existing(state, uid)
    _refuse_stranger(state, uid)
    if row.attendee.id == number:
        raise nest(400, "cannot_remove_primary_attendee")
    found = next((one for one in row.guests if one.id == number), None)
    if found is None:
        raise nest(404, "attendee_not_found")
    row = replace(row, guests=tuple(one for one in row.guests if one != found), updated_at=state.now)
    state.ledger.commit("attendee removed", request_id, row)
    return row, found


async def mark_absent(state: State, uid: str, content: bytes, request_id: str) -> Row:
    """Note who did not come; of whom nobody knows, nothing is noted.

    Raises:
        Refusal: why not.
    """
    body = read_object(content)
    host, absent = read_flag(body, "host"), _absences(body.get("attendees"))
    row = state.ledger.get(uid)
    if row is None:
        raise nest(404, f"Booking with uid={uid} not found.")
    if state.now < row.start:
        raise nest(400, "Bookings can only be marked as absent after their scheduled start time.")
    if not state.administers(uid):
        # The service turns its own refusal into this.
        raise plain(500, "Failed to update no-show status")
    people = [replace(one, absent=absent.get(one.email, one.absent)) for one in row.people]
    row = replace(
        row,
        attendee=people[0],
        guests=tuple(people[1:]),
        absent_host=row.absent_host if host is None else host,
        updated_at=state.now,
    )
    state.ledger.commit("marked absent", request_id, row)
    if absent:
        await state.deliveries.tell(notices.absent(row, [one for one in people if one.email in absent]))
    return state.ledger.get(uid, lag=state.lag) or row


def _number(ref: str) -> int:
    if not ref.isdecimal():
        raise nest(400, "Validation failed (numeric string is expected)")
    return int(ref)


def _existing(state: State, uid: str) -> Row:
    row = state.ledger.get(uid)
    if row is None:
        raise nest(404, f"Booking with uid {uid} not found")
    return row


def _refuse_stranger(state: State, uid: str) -> None:
    if not state.administers(uid):
        raise trpc(403, "you_do_not_have_permission")


def _guest(value: Any) -> Person:
    if not isinstance(value, dict):
        raise wrong("guests", "each value in guests must be an object")
    email = read_email(value, "email")
    if not email:
        raise wrong("email", "email must be an email")
    read_phone(value, "phoneNumber")
    return Person(
        name=read_text(value, "name") or "",
        email=email,
        time_zone=read_zone(value, "timeZone") or "",
        language=read_language(value, "language") or "en",
    )


def _added(state: State, row: Row, people: Sequence[Person], request_id: str) -> Row:
    _refuse_stranger(state, row.uid)
    known = {_mailbox(one.email) for one in row.people}
    # Of several with one mailbox the last is taken.
    fresh = {_mailbox(one.email): one for one in people if _mailbox(one.email) not in known}
    if not fresh:
        raise trpc(400, "emails_must_be_unique_valid")
    zone = state.world.host(row.host_id).time_zone
    enrolled = [state.ledger.enrolled(replace(one, time_zone=one.time_zone or zone)) for one in fresh.values()]
    row = replace(row, guests=(*row.guests, *enrolled), updated_at=state.now)
    state.ledger.commit("attendees added", request_id, row)
    return row


def _mailbox(email: str) -> str:
    """Return an address without what follows a + in it, which is the same mailbox."""
    local, _, domain = email.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _absences(value: Any) -> dict[str, bool]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise wrong("attendees", "attendees must be an array")
    absent = {}
    for one in value:
        email = read_text(one, "email") if isinstance(one, dict) else None
        is_absent = read_flag(one, "absent") if isinstance(one, dict) else None
        if email is None or is_absent is None:
            raise wrong("attendees", "each value in attendees must have email and absent")
        absent[email] = is_absent
    return absent
