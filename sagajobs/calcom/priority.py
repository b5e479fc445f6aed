"""Whose turn it is when there are fewer calls to Cal.com than are wanted."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

SOON = timedelta(hours=24)
"""An appointment that starts within this time is near: the customer is about to set out."""


class Priority(StrEnum):
    """How urgent a call is, the most urgent first.

    Attributes:
        UNDO: takes something back, or looks how a call of ours ended: the world is inconsistent until then.
        NEAR: about an appointment that starts soon, or somebody is waiting for the answer.
        FAR: all the rest.
    """

    UNDO = "undo"
    NEAR = "near"
    FAR = "far"

    @classmethod
    def of(cls, start: datetime, now: datetime) -> Priority:
        """Return the priority of a call that is to get an appointment done.

        Args:
            start: of the appointment, aware; one that has begun is near.
            now: aware.
        """
        return cls.NEAR if start - now <= SOON else cls.FAR
