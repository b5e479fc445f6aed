"""Reconciling with Cal.com, both ways.

A booking under our key that no appointment has; an appointment whose booking was cancelled, moved, confirmed or given
to another host behind our back; one that a saga has left out of step, as it was abandoned, say. The sweep walks through
the days one by one, one list call each, at the lowest priority. What it finds it never settles by itself: a booking is
not cancelled on the strength of a look, and an appointment is brought up to date by the saga that follows Cal.com,
under the appointment's lock. What a saga is at work on, or has just been, is passed over.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, text

from sagajobs.booking.alerts import alert, once_a_day
from sagajobs.booking.alignment import GONE
from sagajobs.booking.findings import MISSING, ORPHAN, OUT_OF_STEP
from sagajobs.booking.follow import AppointmentFollowSaga, Hint
from sagajobs.booking.local import staff_of_hosts
from sagajobs.booking.outside import LONGEST_TRAIL, METADATA_KEY, STANDING, WITHOUT_SAGA
from sagajobs.booking.request import MAX_DURATION
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.errors import BookingNotFound
from sagajobs.calcom.models import Booking, BookingStatus
from sagajobs.errors import TransientError
from sagajobs.saga import SagaHandle, SagaState
from sagajobs.saga.sweeps import Swept

if TYPE_CHECKING:
    from sagajobs.saga import Engine

log = logging.getLogger(__name__)

WINDOW = timedelta(days=1)
"""Starts that one run looks at: at 40 pages of 250 that is 10,000 bookings a day, and mostly it is one call."""

BEHIND = timedelta(days=1)
"""How far back a round begins: what is over is no customer in front of a closed door."""

AHEAD = timedelta(days=90)
"""How far ahead a round goes; what was booked for later comes into it in time."""

LONGEST = timedelta(minutes=MAX_DURATION)
"""Cal.com's list asks for the end, and an appointment that starts in the window ends by then."""

QUIET = timedelta(seconds=60)
"""For how long a booking or an appointment must have been left alone: replicas lag, and webhooks are on their way."""

_AT_WORK = """
    (a.updated_at > saga_now() - make_interval(secs => :quiet)
        OR EXISTS (SELECT FROM saga_locks l WHERE l.resource = 'appointment:' || a.id AND l.held)
        OR EXISTS (SELECT FROM sagas g WHERE g.id IN (a.saga_id, a.sync_saga_id) AND g.ended_at IS NULL))
"""

APPOINTMENTS = text(f"""
    SELECT a.id, a.calcom_v2_booking_id AS uid, a.starts_at, a.ends_at, a.status, a.staff_id, a.calcom_sync_status,
        coalesce(a.sync_saga_id, a.saga_id) AS saga_id
    FROM appointments a
    WHERE a.starts_at >= :first AND a.starts_at < :last
        AND a.deleted_at IS NULL AND a.status NOT IN ('cancelled', 'failed') AND a.status <> 'completed'
        AND (a.calcom_v2_booking_id IS NOT NULL OR a.calcom_sync_status IN ('error', 'manual_review_required'))
        AND NOT {_AT_WORK}
    ORDER BY a.starts_at, a.id
""")  # noqa: S608 - no value in it
"""Appointments of the window that have a booking, or that a saga has left out of step; the partial index on what is
live serves it. One that has neither was never booked, and may wait for that as long as its application likes."""

NAMED = text("""
    SELECT a.id, a.calcom_v2_booking_id AS uid FROM appointments a
    WHERE a.calcom_v2_booking_id = ANY(:uids) AND a.deleted_at IS NULL AND a.status NOT IN ('cancelled', 'failed')
""")
"""Which of some bookings a live appointment has, whatever its time."""

MAKER = text(f"""
    SELECT
        EXISTS (SELECT FROM sagas g WHERE g.id = CAST(:saga AS uuid)
            AND (g.ended_at IS NULL OR g.ended_at > saga_now() - make_interval(secs => :quiet)))
        OR EXISTS (SELECT FROM appointments a
            WHERE (a.saga_id = CAST(:saga AS uuid) OR a.calcom_v2_booking_id = :uid) AND {_AT_WORK}) AS at_work,
        (SELECT g.state FROM sagas g WHERE g.id = CAST(:saga AS uuid)) AS state
""")  # noqa: S608 - no value in it
"""How it stands with the saga that made a booking: whether it, or another one, is at work; its state, null if gone."""


@dataclass(frozen=True, slots=True)
class Window:
    """Starts from `first` on and before `last`, at the time `now` of the database."""

    first: datetime
    last: datetime
    now: datetime

    @classmethod
    def after(cls, cursor: Mapping[str, Any] | None, now: datetime) -> Window:
        """Return the window that comes after the last one; past the horizon the round begins anew."""
        floor = now - BEHIND
        noted = (cursor or {}).get("first")
        first = max(floor, datetime.fromisoformat(noted)) if noted else floor
        if first >= now + AHEAD:
            first = floor
        return cls(first, first + WINDOW, now)

    def cursor(self) -> dict[str, str]:
        """Return where the next window begins."""
        return {"first": self.last.isoformat()}


class Reconciliation:
    """One run over one window.

    Args:
        engine: whose database and sagas.
        client: Cal.com's, at the priority that its calls are to have.
        window: which starts.
    """

    def __init__(self, engine: Engine, client: CalcomClient, window: Window) -> None:
        self._engine = engine
        self._calcom = client
        self._window = window
        self._staff: dict[int, int] = {}

    def run(self) -> int:
        """Compare both sides; return how many differences there were to say or to follow.

        Raises:
            CalcomError: Cal.com cannot be asked now; what was found until then stands.
        """
        listed = self._calcom.find_bookings(after_start=self._window.first, before_end=self._window.last + LONGEST)
        bookings = {booking.uid: booking for booking in listed if booking.start < self._window.last}
        with self._engine.database.reading() as connection:
            ours = connection.execute(
                APPOINTMENTS,
                {"first": self._window.first, "last": self._window.last, "quiet": QUIET.total_seconds()},
            ).all()
            standing = [uid for uid, booking in bookings.items() if booking.status in STANDING]
            named = {row.uid for row in connection.execute(NAMED, {"uids": standing})}
            self._staff = staff_of_hosts(connection, _hosts(bookings.values()))
        found = 0
        for uid in standing:
            if uid not in named and METADATA_KEY in bookings[uid].metadata:
                found += self._each(self._unknown, bookings[uid], f"booking number {bookings[uid].id}")
        for row in ours:
            known = bookings.get(row.uid)
            if row.uid is None:
                found += self._each(self._unbooked, row, f"appointment {row.id}")
            elif known is None or self._difference(row, known) is not None:
                found += self._each(self._changed, row, f"the booking of appointment {row.id}")
        return found

    def _each(self, compare: Callable[[Any], bool], what: Any, called: str) -> bool:
        """Compare one of many; whatever is wrong with it, the others must be compared, unless Cal.com is away.

        In the log it is `called` by a number: whoever knows a uid can cancel the booking (SPEC G7).
        """
        try:
            return compare(what)
        except TransientError:
            raise
        except Exception as error:  # noqa: BLE001 - as the docstring says
            log.warning("%s could not be compared now: %s", called, type(error).__name__)
            return False

    # --- a booking under our key that no appointment has ---

    def _unknown(self, booking: Booking) -> bool:
        saga_id, appointment_id = _maker_of(booking)
        if (saga_id is None and appointment_id is None) or not self._left_alone(booking):
            return False
        with self._engine.database.reading() as connection:
            maker = connection.execute(
                MAKER, {"saga": saga_id, "uid": booking.uid, "quiet": QUIET.total_seconds()}
            ).one()
        if maker.at_work:
            return False
        before = self._before(booking)
        if before is not None:
            return self._follow(before.id, self._calcom.get_booking(before.uid), "moved").created
        if self._calcom.get_booking(booking.uid).status not in STANDING:
            return False  # cancelled since it was listed
        made_by = f"saga_id: {saga_id}, {maker.state or 'not here any more'}"
        if saga_id is None:
            made_by = f"made without a saga for appointment {appointment_id}"
        return self._say(
            ORPHAN,
            f"Cal.com has booking number {booking.id} under our key and no live appointment has it "
            f"({made_by}); see whether it is to be cancelled by hand: "
            "`sagajobs findings list` has its uid",
            entity=("calcom_booking", booking.id),
            saga_id=saga_id if maker.state else None,
            uid=booking.uid,
            starts_at=booking.start.isoformat(),
        )

    def _before(self, booking: Booking) -> Row[Any] | None:
        """Return the live appointment that has an earlier uid of a booking which was moved; its key moved along."""
        for _ in range(LONGEST_TRAIL):
            if booking.rescheduled_from_uid is None:
                return None
            with self._engine.database.reading() as connection:
                row = connection.execute(NAMED, {"uids": [booking.rescheduled_from_uid]}).first()
            if row is not None:
                return row
            booking = self._calcom.get_booking(booking.rescheduled_from_uid)
        return None

    # --- an appointment whose booking is not as it was ---

    def _changed(self, row: Row[Any]) -> bool:
        """Look at the booking itself, for a list may be older than what it is compared with."""
        try:
            booking = self._calcom.get_booking(row.uid)
        except BookingNotFound:
            return self._say(
                MISSING,
                f"Cal.com does not know the booking of appointment {row.id}; "
                "see whether SAGAJOBS_CALCOM_API_KEY is of the account that it was made with",
                entity=("appointment", row.id),
                saga_id=row.saga_id,
                uid=row.uid,
            )
        if booking.hosts and booking.hosts[0].id not in self._staff:  # in the list there was another one, or none
            with self._engine.database.reading() as connection:
                self._staff |= staff_of_hosts(connection, _hosts([booking]))
        difference = self._difference(row, booking)
        if difference is None or not self._left_alone(booking):
            return False
        following = self._follow(row.id, booking, difference)
        if following.created or row.calcom_sync_status == "synced":
            return following.created
        return self._was_given_up(following) and self._out_of_step(row, difference)

    def _was_given_up(self, following: SagaHandle) -> bool:
        """Tell whether a saga that follows has ended, and left things as they are; one that waits still may not."""
        state = following.status()
        if state is SagaState.MANUAL_REVIEW_REQUIRED:
            return not self._engine.review.of(following.id).open
        return state is SagaState.COMPLETED

    def _unbooked(self, row: Row[Any]) -> bool:
        return self._out_of_step(row, "it has no booking")

    def _out_of_step(self, row: Row[Any], why: str) -> bool:
        """Say of an appointment that nothing but a person brings into step any more."""
        return self._say(
            OUT_OF_STEP,
            f"appointment {row.id} is {row.calcom_sync_status} and no saga is at work on it ({why}); see what the last "
            f"one came to (saga_id: {row.saga_id}), and book, move or cancel the appointment",
            entity=("appointment", row.id),
            saga_id=row.saga_id,
            uid=row.uid,
        )

    def _difference(self, row: Row[Any], booking: Booking) -> str | None:
        """Return in a word how a booking differs from what its appointment says, None if it does not.

        A host who is none of our staff is no difference: there is nobody to be assigned.
        """
        host = booking.hosts[0].id if booking.hosts else None
        differences = {
            "moved": booking.rescheduled_to_uid is not None,
            str(booking.status): booking.status in GONE,
            "other start": booking.start != row.starts_at,
            "other end": booking.end != row.ends_at,
            "confirmed": booking.status == BookingStatus.ACCEPTED and row.status == "pending",
            "other host": self._staff.get(host or 0, row.staff_id) != row.staff_id,
            f"left {row.calcom_sync_status} by {row.saga_id}": row.calcom_sync_status != "synced",
        }
        return next((word for word, differs in differences.items() if differs), None)

    def _follow(self, appointment_id: int, booking: Booking, seen: str) -> SagaHandle:
        """Return the saga that follows, started now unless it was before: once for each state of the booking.

        One that has given up, as it does after half a minute of looks that fail, is started again.
        """
        hint = Hint(appointment_id=appointment_id, booking_uid=booking.uid, seen=seen)
        changed = booking.updated_at.isoformat() if booking.updated_at else ""
        earlier = 0
        while True:
            key = f"reconcile:{booking.uid}:{changed}:{seen}:{earlier}"
            handle = self._engine.enqueue(AppointmentFollowSaga, hint, idempotency_key=key)
            if handle.created or handle.status() is not SagaState.COMPENSATED:
                return handle
            earlier += 1

    # --- what both share ---

    def _left_alone(self, booking: Booking) -> bool:
        changed = booking.updated_at or booking.created_at
        return changed is None or changed < self._window.now - QUIET

    def _say(
        self, what: str, sentence: str, *, entity: tuple[str, int], saga_id: str | None, **detail: str | None
    ) -> bool:
        """Leave something to a person: see `findings`."""
        kind, number = entity
        with self._engine.database.transaction() as connection:
            new = once_a_day(
                connection,
                action=what,
                entity=kind,
                entity_id=number,
                saga_id=saga_id,
                detail=detail,
            )
        if new:
            alert(what.replace(".", "_"), sentence, saga_id=saga_id)
        return new


def reconciling(client: Callable[[], CalcomClient]) -> Callable[[Engine, Any], Swept]:
    """Return the body of the sweep that compares one day with Cal.com, and the next day at the next run."""

    def body(engine: Engine, cursor: Any) -> Swept:
        with engine.database.reading() as connection:
            window = Window.after(cursor, connection.execute(text("SELECT saga_now()")).scalar_one())
        # Where Cal.com fails, the sweep has not run: its cursor stays, so the next one comes back to the same day.
        return Swept(Reconciliation(engine, client(), window).run(), window.cursor())

    return body


def _hosts(bookings: Iterable[Booking]) -> list[dict[str, Any]]:
    """Return who the bookings are with, each once."""
    return list({host.id: {"id": host.id, "email": host.email} for one in bookings for host in one.hosts[:1]}.values())


def _maker_of(booking: Booking) -> tuple[str | None, int | None]:
    """Return the saga that a booking's key names, or the appointment, where no saga was; neither if it is not ours."""
    maker, _, rest = str(booking.metadata[METADATA_KEY]).partition("/")
    if maker == WITHOUT_SAGA:
        return None, int(rest) if rest.isascii() and rest.isdecimal() else None
    try:
        return str(uuid.UUID(maker)) if rest else None, None
    except ValueError:
        return None, None
