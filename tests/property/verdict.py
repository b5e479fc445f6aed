"""The verdict on a random history: the faults are over, everything is delivered, and now it has to have ended well."""

from __future__ import annotations

from datetime import datetime

from sagajobs import AppointmentSyncSaga
from sagajobs.booking import AppointmentFollowSaga, invariants
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.saga import SagaHandle
from tests.property.machinery import Machinery
from tests.property.operators import Operators
from tests.property.traffic import Traffic
from tests.property.world import SIGNED, stands

AT_REST = ("completed", "compensated", "manual_review_required")

_HERE = """
    SELECT id, calcom_v2_booking_id, starts_at, CASE status WHEN 'pending' THEN 'pending' ELSE 'accepted' END
    FROM appointments
    WHERE deleted_at IS NULL AND status NOT IN ('cancelled', 'failed') AND calcom_v2_booking_id IS NOT NULL
"""
"""Appointments that stand, with what their bookings must show."""

_OPEN_ENDS = """
    SELECT s.name FROM saga_steps s JOIN sagas g ON g.id = s.saga_id
    WHERE s.state IN ('running', 'unknown', 'undoing', 'undo_failed') AND g.state IN ('completed', 'compensated')
"""

_ASKED = "SELECT id FROM sagas WHERE state = 'manual_review_required' AND ended_at IS NULL"

_CASES = "SELECT saga_id AS id FROM review_cases WHERE closed_at IS NULL AND reason <> ''"

_HELD = "SELECT l.resource FROM saga_locks l JOIN sagas g ON g.id = l.saga_id WHERE ended_at IS NOT NULL"

_EVENTS = r"SELECT event, substring(detail->>'error' FROM '\w+$') FROM saga_events"

_NOT_FOUND = "SELECT event FROM saga_events WHERE event ~ 'failed$' AND detail->>'error' ~ 'BookingNotFound$'"

_STALE = """
    SELECT count(*) FROM saga_events e JOIN saga_steps s ON s.saga_id = e.saga_id AND s.name = e.step
    WHERE e.event = 'step_unknown' AND e.detail->>'probe' = 'nothing there' AND s.attempts = e.attempt
        AND s.state = 'done'
"""
"""Looks that saw nothing of what was there."""


class Bookings(Traffic, Operators, Machinery):
    """What web application, hosts, broker, workers, operators and Cal.com do to each other, and what comes of it."""

    def teardown(self) -> None:
        for (saga_id,) in self.rows("SELECT id FROM sagas WHERE state = 'paused'"):
            SagaHandle(str(saga_id), engine=self.engine).resume(**SIGNED)
        self.settle()
        self.simulator.heal()
        self.catch_up()
        self.operator_tries_again()
        self.settle()
        self._follow()
        self._judge_sagas()
        self._judge_bookings()
        self._count()

    def _follow(self) -> None:
        """Take up, as reconciling or a webhook would, what hosts have changed behind our back."""
        shown = {booking["uid"]: _shown(booking) for booking in self.simulator.ledger()}
        for number, uid, *here in self.rows(_HERE):
            if shown[uid] != tuple(here):
                AppointmentFollowSaga.enqueue({"appointment_id": number, "booking_uid": uid, "seen": "reconciliation"})
        self.settle()

    def _judge_sagas(self) -> None:
        for saga_id, error in self.broker.errors.items():
            if saga_id not in self.declared:  # what a person calls done without a result, later steps may stumble over
                raise error
        assert {state for (state,) in self.rows("SELECT state FROM sagas")} <= set(AT_REST)
        assert self.rows(_OPEN_ENDS) == [], "an end is one"
        assert sorted(self.rows(_ASKED)) == sorted(self.rows(_CASES)), "who waits for a person has a case"
        assert self.rows(_HELD) == [], "an ended saga holds nothing"
        assert self.rows(_NOT_FOUND) == [], "a replica that lags is waited for"

    def _judge_bookings(self) -> None:
        with self.engine.database.reading() as connection:
            assert [violation.rows for violation in invariants.check(connection)] == [0, 0, 0]
        sagas, numbers = self._left_to_persons()
        ledger = {booking["uid"]: booking for booking in self.simulator.ledger()}
        table = {uid: tuple(here) for number, uid, *here in self.rows(_HERE) if number not in numbers}
        standing = {
            uid: _shown(booking)
            for uid, booking in ledger.items()
            if stands(booking) and self._maker(uid, ledger) not in (None, *sagas)
        }
        assert table == standing, f"the table and the ledger agree: {table} {standing}"
        orphans = self.rows("SELECT detail->>'uid' FROM audit_log WHERE action = 'reconcile.orphan'")
        assert {self._maker(uid, ledger) for (uid,) in orphans} <= sagas, "nobody is called for nothing"
        assert self.rows("SELECT entity_id FROM audit_log WHERE action = 'reconcile.missing'") == []
        self.seen["judged beside what a person has to settle"] += bool(sagas and table)

    def _left_to_persons(self) -> tuple[set[str], set[int]]:
        """Return the sagas whose bookings nothing can be said of, and their appointments.

        Those that a person is asked about or has settled by his word, and whatever was at work on the same ones.
        """
        appointments = self.rows("SELECT id, saga_id::text FROM appointments")
        sagas = self.declared | {str(saga_id) for (saga_id,) in self.rows(_ASKED)}
        changing = (AppointmentSyncSaga.name, AppointmentFollowSaga.name)
        targets = self.targets | dict(
            self.rows(f"SELECT id::text, (input->>'appointment_id')::bigint FROM sagas WHERE name IN {changing}")
        )
        numbers: set[int] = set()
        while True:
            numbers = {number for number, maker in appointments if maker in sagas}
            numbers |= {targets[saga_id] for saga_id in sagas if saga_id in targets}
            wider = sagas | {maker for number, maker in appointments if number in numbers}
            wider |= {saga_id for saga_id, number in targets.items() if number in numbers}
            if wider == sagas:
                return sagas, numbers
            sagas = wider

    def _maker(self, uid: str, ledger: dict[str, dict]) -> str | None:
        """Return the saga that a booking was made by or for, None if it is nobody's of ours."""
        while (booking := ledger[uid]).get("rescheduledFromUid"):
            uid = booking["rescheduledFromUid"]
        key = booking["metadata"].get(METADATA_KEY)
        return key.partition("/")[0] if key else self.by_hand.get(uid)

    def _count(self) -> None:
        self.seen.update(f"{name} {state}" for name, state in self.rows("SELECT name, state FROM sagas"))
        self.seen["deaths"] += self.broker.deaths
        self.seen["strays"] += self.broker.strays
        self.seen.update(" ".join(filter(None, row)) for row in self.rows(_EVENTS))
        self.seen["stale looks"] += self.rows(_STALE)[0][0]


def _shown(booking: dict) -> tuple[datetime, str]:
    return datetime.fromisoformat(booking["start"]), booking["status"]
