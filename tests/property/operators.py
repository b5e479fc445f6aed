"""The rules of operators: they pause, resume, cancel, and settle what waits for a person; they err, but do not lie.

What can be looked up at Cal.com they look up, in the ledger itself, and what they say was done or undone they have done
there. Where nothing can be looked up their word is taken, and the verdict passes over what it was about.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from requests import RequestException

from sagajobs import AppointmentSyncSaga
from sagajobs.booking import AppointmentFollowSaga
from sagajobs.errors import RemedyRefused, StepError
from sagajobs.saga import SagaState
from sagajobs.saga.declaration import base_and_item
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.review import Opened
from sagajobs.saga.states import StepState
from tests.property.machinery import faults, operations, whens
from tests.property.world import SIGNED, World, index, perhaps_a_case, something, stands


class Operators(World):
    """What operators do."""

    # --- with sagas that are under way ---

    @something
    @rule(which=index)
    def operator_pauses_or_resumes(self, which: int) -> None:
        handle = self.saga(which)
        if handle is not None:
            with contextlib.suppress(RemedyRefused):  # one that waits for a person
                (handle.resume if handle.status() is SagaState.PAUSED else handle.pause)(**SIGNED)

    @something
    @rule(which=index)
    def operator_cancels(self, which: int) -> None:
        handle = self.saga(which)
        if handle is not None:
            with contextlib.suppress(RemedyRefused):  # past the pivot
                handle.cancel(**SIGNED)

    @something
    @rule(which=index)
    def deadline_passes(self, which: int) -> None:
        handle = self.saga(which)
        if handle is not None:
            self.change(f"UPDATE sagas SET useful_until = saga_now() - interval '1 s' WHERE id = '{handle.id}'")

    # --- with those that wait for a person ---

    @something
    @rule(
        operation=operations,
        kind=faults,
        when=whens,
        lags=st.booleans(),
        over=st.booleans(),
        choices=st.lists(index, min_size=3, max_size=3),
    )
    def outage(self, *, operation: str, kind: str, when: str, lags: bool, over: bool, choices: list[int]) -> None:
        """Cal.com fails for hours, and in the end persons look at what has come of it, perhaps before it is over."""
        if lags:
            self.lag()
        self.simulator.fault(operation, kind, when, count=60)
        self.settle()
        self.waited = True
        if over:
            self.simulator.heal()
        for number, choice in enumerate(choices):
            self.operator_settles(number, choice)

    @perhaps_a_case
    @rule()
    def operator_tries_again(self) -> None:
        for (case,) in self.rows("SELECT id FROM review_cases WHERE closed_at IS NULL"):
            with contextlib.suppress(RemedyRefused):  # while it is paused
                self.engine.review.retry(case, **SIGNED)

    @perhaps_a_case
    @rule(which=index, choice=index)
    def operator_settles(self, which: int, choice: int) -> None:
        cases = self.rows("SELECT id FROM review_cases WHERE closed_at IS NULL ORDER BY id")
        if not cases:
            return
        number = cases[which % len(cases)][0]
        try:
            taken = self.engine.review.options(number).resolutions
        except RemedyRefused:
            return  # while it is paused
        opened = self.engine.review.open(number)
        remedies = [remedy for remedy in Remedy if remedy in taken]
        if Remedy.SKIP in remedies:  # which few cases take
            remedies += [Remedy.SKIP] * 3
        remedy = remedies[choice % len(remedies)]
        settle = {
            Remedy.MARK_DONE: self._say_done,
            Remedy.MARK_UNDONE: self._say_undone,
            Remedy.SKIP: self._skip,
            Remedy.ABANDON: self._abandon,
        }.get(remedy)
        if settle is not None:
            settle(opened)

    def _abandon(self, opened: Opened) -> None:
        self.engine.review.abandon(opened.case.number, **SIGNED)
        self._note(opened, Remedy.ABANDON, on_his_word=True)

    def _skip(self, opened: Opened) -> None:
        row = opened.situation.saga.steps[opened.case.step]
        with contextlib.suppress(RemedyRefused):
            self.engine.review.skip(opened.case.number, **SIGNED)
            # A call that failed leaves nothing to be done without; local writes that are missing stay so.
            self._note(opened, Remedy.SKIP, on_his_word=not opened.step.external or row.state is StepState.DONE)

    def _say_done(self, opened: Opened) -> None:
        reference = self._done_by_hand(opened) if opened.step.taker is not None else None
        try:
            self.engine.review.mark_done(opened.case.number, reference=reference or "by hand", **SIGNED)
        except (RemedyRefused, StepError):  # the local writes are; it is not what was asked for, or cannot be seen now
            if self.by_hand.pop(reference, None):
                self.simulator.host("cancel", reference)
            return
        assert reference or opened.step.taker is None, "nobody has done it, and his word was taken"
        self._note(opened, Remedy.MARK_DONE, on_his_word=opened.step.taker is None)

    def _say_undone(self, opened: Opened) -> None:
        if not self._undone_by_hand(opened):
            self._say_done(opened)
            return
        with contextlib.suppress(RemedyRefused):
            self.engine.review.mark_undone(opened.case.number, **SIGNED)
            self._note(opened, Remedy.MARK_UNDONE, on_his_word=False)

    def _note(self, opened: Opened, remedy: Remedy, *, on_his_word: bool) -> None:
        self.seen[f"remedy {remedy}"] += 1
        saga = opened.situation.saga
        if on_his_word:
            self.declared.add(saga.id)
            if saga.name in (AppointmentSyncSaga.name, AppointmentFollowSaga.name):
                self.targets[saga.id] = saga.input["appointment_id"]

    # --- at Cal.com, by hand ---

    def _done_by_hand(self, opened: Opened) -> str | None:
        """Find what the step was to do, or do it; return the booking that shows it, None if it cannot be done."""
        ledger = self.simulator.ledger()
        found = self.under(_key(opened), ledger)
        if found:
            return found[0]["uid"]
        if opened.situation.saga.name == AppointmentSyncSaga.name:
            return self._changed_by_hand(opened, ledger)
        request = opened.restore().input
        _, item = base_and_item(opened.case.step)
        slot = request if item is None else request.segments[item]
        return self._booked_by_hand(opened, ledger, slot.event_type_id, slot.start, request.customer.email)

    def _changed_by_hand(self, opened: Opened, ledger: list[dict]) -> str | None:
        wanted, before = _change(opened)
        if wanted.operation == "create":
            start = datetime.fromisoformat(before["starts_at"])
            return self._booked_by_hand(opened, ledger, before["event_type_id"], start, before["customer_email"])
        booking = self.last(before["uid"], ledger)
        if stands(booking):
            with contextlib.suppress(AssertionError):  # the host is not free then
                if wanted.operation == "cancel":
                    self.simulator.host("cancel", booking["uid"])
                elif wanted.operation == "reschedule" and not _is_at(booking, wanted.data.start):
                    self.simulator.host("move", booking["uid"], start=wanted.data.start.isoformat())
        return booking["uid"]

    def _booked_by_hand(
        self, opened: Opened, ledger: list[dict], event_type: int, start: datetime, email: str
    ) -> str | None:
        with contextlib.suppress(AssertionError, RequestException):  # the host is not free then, or Cal.com fails
            self.simulator.book(event_type_id=event_type, start=start.isoformat(), email=email)
        # He looks what is there, whatever he was told. Where bookings are confirmed first there may be nothing new:
        # Cal.com answers with an earlier one of the same person and time.
        known = {booking["uid"] for booking in ledger}
        made = next((booking["uid"] for booking in self.simulator.ledger() if booking["uid"] not in known), None)
        if made is not None:
            self.by_hand[made] = opened.case.saga_id
        return made

    def _undone_by_hand(self, opened: Opened) -> bool:
        """See to it that nothing of a step stands; False if it does, and cannot be undone."""
        if not opened.step.external:
            return True
        ledger = self.simulator.ledger()
        standing = self.under(_key(opened), ledger)
        if opened.output and opened.situation.saga.name != AppointmentSyncSaga.name:
            standing.append(self.last(opened.output["uid"], ledger))  # perhaps one that was made by hand
        for booking in standing:
            with contextlib.suppress(AssertionError):  # it is cancelled already
                self.simulator.host("cancel", booking["uid"])
        if opened.situation.saga.name != AppointmentSyncSaga.name:
            return True
        wanted, before = _change(opened)
        if wanted.operation == "create":
            return True
        booking = self.last(before["uid"], ledger)
        if wanted.operation == "cancel":
            return stands(booking)
        return wanted.operation == "update" or not _is_at(booking, wanted.data.start)


def _key(opened: Opened) -> str:
    return f"{opened.case.saga_id}/{opened.case.step}"


def _change(opened: Opened) -> tuple[Any, dict]:
    """Return what a change asks for, and the appointment before it."""
    saga = opened.restore()
    return saga.input.root, saga.results["lock_appointment"]["before"]


def _is_at(booking: dict, start: datetime) -> bool:
    return stands(booking) and datetime.fromisoformat(booking["start"]) == start
