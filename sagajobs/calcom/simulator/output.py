"""The JSON in which the API shows bookings, event types and users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from sagajobs.calcom.simulator.ledger import Person, Row
    from sagajobs.calcom.simulator.world import EventType, Host, World

VIDEO = "https://cal.example.com/video/"
"""How the links of the service's own video calls begin."""

_TEAM = {
    "id": 1,
    "slug": "team-one",
    "bannerUrl": "",
    "name": "Team One",
    "logoUrl": "",
    "weekStart": "Monday",
    "brandColor": "#000000",
    "darkBrandColor": "#ffffff",
    "theme": "light",
}


def moment(value: datetime) -> str:
    """Write a point in time as the API does: UTC, milliseconds, Z."""
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def booking(row: Row, world: World) -> dict[str, Any]:
    """Return a booking as the 2024-08-13 version shows it."""
    event_type = world.event_type(row.event_type_id)
    host = world.host(row.host_id)
    shown = {
        "id": row.id,
        "uid": row.uid,
        "title": row.title,
        "description": str(row.responses.get("notes", "")),
        "hosts": [user(host) | {"username": host.username, "timeZone": host.time_zone}],
        "status": row.status,
        "cancellationReason": row.cancellation_reason,
        "cancelledByEmail": row.cancelled_by,
        "start": moment(row.start),
        "end": moment(row.end),
        "duration": round((row.end - row.start).total_seconds() / 60),
        "eventTypeId": row.event_type_id,
        "eventType": {"id": row.event_type_id, "slug": event_type.slug if event_type else ""},
        "meetingUrl": row.location,
        "location": row.location,
        "absentHost": row.absent_host,
        "createdAt": moment(row.created_at),
        "updatedAt": moment(row.updated_at) if row.updated_at else None,
        # The one reserved key: the server writes it, and does not show it here.
        "metadata": {key: value for key, value in row.metadata.items() if key != "videoCallUrl"},
        "icsUid": row.ics_uid,
        # Guests are attendees in the database, and shown in both places.
        "attendees": [_person(one) for one in row.people],
        "guests": [one.email for one in row.guests],
        "bookingFieldsResponses": {
            "email": row.attendee.email,
            "name": row.attendee.name,
            **row.responses,
        },
    }
    moves = {
        "rescheduledFromUid": row.rescheduled_from,
        "rescheduledToUid": row.rescheduled_to,
        "rescheduledByEmail": row.rescheduled_by,
        "reschedulingReason": row.rescheduling_reason,
    }
    return shown | {name: value for name, value in moves.items() if value}


def _person(one: Person) -> dict[str, Any]:
    shown = {
        "name": one.name,
        "email": one.email,
        "displayEmail": one.email,
        "timeZone": one.time_zone,
        "language": one.language,
        "absent": one.absent,
    }
    if one.phone:
        shown["phoneNumber"] = one.phone
    return shown


def attendee(one: Person) -> dict[str, Any]:
    """Return an attendee as the endpoints for attendees show him."""
    return {"id": one.id, **_person(one)}


def user(host: Host) -> dict[str, Any]:
    """Return a user as far as every answer shows him."""
    return {"id": host.id, "name": host.name, "email": host.email, "displayEmail": host.email}


def event_type(one: EventType, world: World) -> dict[str, Any]:
    """Return an event type as the 2024-06-14 version shows it."""
    hosts = [world.host(host_id) for host_id in one.hosts]
    shown: dict[str, Any] = {
        "id": one.id,
        "lengthInMinutes": one.length,
        "title": one.title,
        "slug": one.slug,
        "description": "",
        "locations": [{"type": "integration", "integration": "cal-video"}],
        "bookingFields": [],
        "disableGuests": False,
        "minimumBookingNotice": one.minimum_notice,
        "recurrence": None,
        "metadata": {},
        "price": 0,
        "currency": "usd",
        "lockTimeZoneToggleOnBookingPage": False,
        "forwardParamsSuccessRedirect": None,
        "successRedirectUrl": None,
        "isInstantEvent": False,
        "scheduleId": None,
        "hidden": False,
        "bookingRequiresAuthentication": False,
        "confirmationPolicy": _confirmation(one),
    }
    if one.lengths:
        shown["lengthInMinutesOptions"] = list(one.lengths)
    if one.round_robin:
        return shown | {
            "teamId": _TEAM["id"],
            "team": _TEAM,
            "schedulingType": "roundRobin",
            "hosts": [host.username for host in hosts],
        }
    owner = hosts[0]
    return shown | {
        "ownerId": owner.id,
        "users": [owner.username],
        "bookingUrl": f"https://cal.example.com/{owner.username}/{one.slug}",
    }


def _confirmation(one: EventType) -> dict[str, Any]:
    if not one.requires_confirmation:
        return {"disabled": True}
    return {"type": "always", "blockUnconfirmedBookingsInBooker": False}


def me(host: Host) -> dict[str, Any]:
    """Return a user as GET /v2/me shows him."""
    return {
        "id": host.id,
        "username": host.username,
        "email": host.email,
        "name": host.name,
        "avatarUrl": None,
        "bio": None,
        "timeFormat": 24,
        "defaultScheduleId": None,
        "weekStart": "Monday",
        "timeZone": host.time_zone,
        "organizationId": None,
    }
