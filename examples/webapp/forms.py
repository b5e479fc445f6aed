"""What was filled in: read, checked, and said in words where it was refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import cast

from examples.webapp.offers import OFFERS
from sagajobs import AppointmentCreationSaga, BookingRequest, InvalidInput

ADVICE = {
    "customer.name": "Name: please say how we may call you, in 200 characters at the most.",
    "customer.email": "E-mail: please give an address such as name@example.com.",
    "customer.time_zone": "Time zone: please choose one from the list.",
    "event_type_id": "What: please choose one from the list.",
    "start": "Time: please choose one of the free times.",
}
"""What a customer is told of a field that was refused."""

FORM_KEY = re.compile(r"[A-Za-z0-9_-]{22}")
"""What makes a form one order, however often it is sent: 128 bits in URL-safe base64."""


def wanted_of(sent: Mapping[str, str]) -> BookingRequest:
    """Return what a form asks for; raises `InvalidInput`."""
    offer = int(sent["offer"]) if sent.get("offer", "") in map(str, OFFERS) else None
    request = {
        "customer": {name: sent.get(name, "") for name in ("name", "email", "time_zone")},
        "event_type_id": offer,
        "start": sent.get("start", ""),
        "duration_minutes": 0 if offer is None else OFFERS[offer].minutes,
    }
    return cast("BookingRequest", AppointmentCreationSaga.parse(request))


def advice_on(error: InvalidInput) -> list[str]:
    """Return what the customer can do about what was refused, in the order of the form."""
    refused = {problem.partition(":")[0] for problem in error.problems}
    return [advice for field, advice in ADVICE.items() if field in refused] or [ADVICE["start"]]


def day_of(text: str | None) -> date:
    """Return the day that somebody asks for; today, if that is none within a year."""
    today = datetime.now(UTC).date()
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        return today
    return day if today <= day <= today + timedelta(days=365) else today
