"""Properties of the simulated service that can be set while it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Switches(BaseModel):
    """How the service behaves; the defaults are those of a quiet day.

    Attributes:
        lag_ms: how far the read replica is behind, which GET and list read from. lag_fails_create: a create
        answers 500 when its read-back does not find the booking on the replica. lag_blinds_cancel: a cancel
        looks the booking up on the replica, too, before it works on the primary. race: creates get past the
        availability check, as racing ones do, and meet the unique key: "conflict" answers
            409, "redacted" the 400 of a server that hides database errors.
        bookings_version_known: False for a server older than the bookings version clients ask for.
        fallback: what a list of bookings in an unknown version gives: "unfiltered" or "not_found".
        clock_offset_seconds: added to the time of day, to make bookings end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lag_ms: int = Field(default=0, ge=0)
    lag_fails_create: bool = False
    lag_blinds_cancel: bool = False
    race: Literal["off", "conflict", "redacted"] = "off"
    bookings_version_known: bool = True
    fallback: Literal["unfiltered", "not_found"] = "unfiltered"
    clock_offset_seconds: float = 0.0
