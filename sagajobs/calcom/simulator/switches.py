"""Properties of the simulated service that can be set while it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Switches(BaseModel):
    """How the service behaves; the defaults are those of a quiet day without a rate limit.

    Attributes:
        lag_ms: how far the read replica is behind, which GET and list read from.
        replica_stopped: it takes up nothing more from now on, until this is set back to False.
        lag_fails_create: a create or reschedule answers 500 when its read-back does not find the booking on the
            replica.
        lag_blinds_cancel: a cancel or reschedule looks the booking up on the replica, too, before it works on the
            primary.
        race: creates and reschedules get past the availability check, as racing ones do, and meet the unique key:
            "conflict" answers 409, "redacted" the 400 of a server that hides database errors.
        bookings_version_known: False for a server older than the bookings version clients ask for.
        fallback: what a list of bookings in an unknown version gives: "unfiltered" or "not_found".
        clock_offset_seconds: added to the time of day, to make bookings end.
        rate_limit_per_minute: calls in a window for each API key, and for each address without one; the real figure
            is 120. 0 is no limit, and no headers about it.
        rate_limit_window_seconds: how long a window is; it opens with its first call.
        rate_limit_block_seconds: how long whoever went over the limit is refused.
        webhooks_lost: every n-th delivery is never sent. 0 is none, here and in the two below.
        webhooks_doubled: every n-th delivery is sent twice.
        webhooks_reordered: every n-th delivery is held back until one that is not has gone out, or until this is set
            to 0; of several held ones the last goes first.
        webhooks_before_reply: the API answers when the receivers have; otherwise they are told afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lag_ms: int = Field(default=0, ge=0)
    replica_stopped: bool = False
    lag_fails_create: bool = False
    lag_blinds_cancel: bool = False
    race: Literal["off", "conflict", "redacted"] = "off"
    bookings_version_known: bool = True
    fallback: Literal["unfiltered", "not_found"] = "unfiltered"
    clock_offset_seconds: float = 0.0
    rate_limit_per_minute: int = Field(default=0, ge=0)
    rate_limit_window_seconds: float = Field(default=60.0, gt=0)
    rate_limit_block_seconds: float = Field(default=60.0, gt=0)
    webhooks_lost: int = Field(default=0, ge=0)
    webhooks_doubled: int = Field(default=0, ge=0)
    webhooks_reordered: int = Field(default=0, ge=0)
    webhooks_before_reply: bool = True
