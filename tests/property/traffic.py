"""The rules of those who book: the web application, hosts in Cal.com's own one, and Cal.com's webhooks about it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.booking.inbound import Taken, take
from sagajobs.calcom.models import timestamp
from sagajobs.calcom.webhooks import Trigger, Webhook
from sagajobs.errors import InvalidInput
from tests.property.world import CUSTOMERS, World, event_types, index, slot_at, slots, something, start_of

BY_HOSTS = 10
"""Slots from this one on are hosts' to move a booking to."""


class Traffic(World):
    """What web application, hosts and webhooks do."""

    # --- the web application ---

    @rule(event_type=event_types, slot=slots, customer=st.sampled_from(CUSTOMERS), staff=st.booleans())
    def book(self, event_type: int, slot: int, customer: dict, staff: bool) -> None:  # noqa: FBT001 - a rule's, by name
        request = {"customer": customer, **slot_at(event_type, slot), "staff_id": 1 if staff else None}
        key = f"form {len(self.asked)}"
        handle = AppointmentCreationSaga.enqueue(request, idempotency_key=key)
        self.asked.append((key, request, handle.id))
        self.booked = True

    @precondition(lambda self: self.asked)
    @rule(which=index)
    def ask_again(self, which: int) -> None:
        """A form sent twice books once, for as long as its saga is kept."""
        there = {str(saga_id) for (saga_id,) in self.rows("SELECT id FROM sagas")}
        gone = [place for place, (_, _, saga_id) in enumerate(self.asked) if saga_id not in there]
        place = gone[which % len(gone)] if gone and which % 2 else which % len(self.asked)
        key, request, saga_id = self.asked[place]
        kept = saga_id in there
        handle = AppointmentCreationSaga.enqueue(request, idempotency_key=key)
        assert handle.created is not kept, "a key leads to its saga until that is purged"
        assert (handle.id == saga_id) is kept
        self.asked[place] = (key, request, handle.id)
        self.seen["asked again of one that is kept" if kept else "asked again of one that was purged"] += 1

    @rule(
        which=st.lists(st.tuples(event_types, slots), min_size=2, max_size=3, unique=True),
        customer=st.sampled_from(CUSTOMERS),
    )
    def combine(self, which: list, customer: dict) -> None:
        with contextlib.suppress(InvalidInput):  # segments that overlap for one person
            CompositeBookingSaga.enqueue(customer, [slot_at(*one) for one in which])
            self.booked = True

    @something
    @rule(which=index)
    def sync(self, which: int) -> None:
        self._change(which, "create", {})

    @something
    @rule(which=index)
    def invite(self, which: int) -> None:
        self._change(which, "update", {"guests": ["guest@secret.example"], "notes": "bring a friend"})

    @something
    @rule(which=index)
    def cancel(self, which: int) -> None:
        self._change(which, "cancel", {"reason": "cannot come"})

    @something
    @rule(which=index, slot=slots)
    def move(self, which: int, slot: int) -> None:
        self._change(which, "reschedule", {"start": start_of(slot)})

    def _change(self, which: int, operation: str, data: dict) -> None:
        ids = self.appointments()
        if ids:
            number = ids[which % len(ids)]
            with contextlib.suppress(InvalidInput):  # what makes no sense as it stands is refused beforehand
                self.targets[AppointmentSyncSaga.enqueue(number, operation, data).id] = number

    # --- hosts ---

    @something
    @rule(which=index, act=st.sampled_from(["cancel", "move"]), slot=slots)
    def host_acts(self, which: int, act: str, slot: int) -> None:
        standing = self.simulator.standing()
        if standing:
            how = {"start": start_of(slot + BY_HOSTS).isoformat()} if act == "move" else {}
            self._by_host(act, standing[which % len(standing)], **how)

    @something
    @rule(which=index, act=st.sampled_from(["confirm", "decline"]))
    def host_decides(self, which: int, act: str) -> None:
        pending = [booking for booking in self.simulator.standing() if booking["status"] == "pending"]
        if pending:
            self._by_host(act, pending[which % len(pending)])

    def _by_host(self, act: str, booking: dict, **how: Any) -> None:
        with contextlib.suppress(AssertionError):  # the other time is not free for him either
            self.simulator.host(act, booking["uid"], **how)
            self.seen[f"host: {act}"] += 1

    # --- webhooks ---

    @something
    @rule(which=index, trigger=st.sampled_from(Trigger), twice=st.booleans())
    def webhook(self, which: int, trigger: Trigger, twice: bool) -> None:  # noqa: FBT001 - a rule's, by name
        """Signed, and about a booking that there is; what it says of it need not be so."""
        ledger = self.simulator.ledger()
        if not ledger:
            return
        booking = ledger[which % len(ledger)]
        told = Webhook.model_validate(
            {
                "trigger": trigger,
                "createdAt": datetime.now(UTC),
                "uid": booking["uid"],
                "rescheduleUid": booking.get("rescheduledFromUid"),
                "metadata": booking["metadata"],
            }
        )
        self.told.append(told)
        take(told)
        if twice:
            self.webhook_again(-1)

    @something
    @rule(which=index)
    def webhook_again(self, which: int) -> None:
        """The same one starts nothing a second time, as long as the saga that it started is kept."""
        if not self.told:
            return
        told = self.told[which % len(self.told)]
        started = {"booking_uid": told.uid, "trigger": told.trigger, "seen": timestamp(told.created_at)}
        kept = self.rows(f"SELECT id FROM sagas WHERE input @> '{json.dumps(started)}'")
        taken = take(told)
        assert not kept or taken is not Taken.FOLLOWED, "a copy is known"
        self.seen["webhook told again"] += bool(kept)
