"""The demonstration itself: a stack, bookings, accidents, and the wait until everything is at rest."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import text

from sagajobs.booking import AppointmentCreationSaga, AppointmentSyncSaga, BookingRequest, CompositeBookingSaga
from sagajobs.cli import application
from sagajobs.cli.demo import scenario, tally
from sagajobs.cli.demo.accidents import Killer
from sagajobs.cli.demo.progress import Teller
from sagajobs.cli.stack import FLOWER_PORT, Stack, flower_url, port_for
from sagajobs.runtime.processes import Supervisor

WORKERS = ("worker-1", "worker-2")

PATIENCE = 60.0
"""Seconds that the sagas get to come to rest after the last start; what has not by then counts as lost."""

_LOOK_EVERY = 0.2

_BOOKED = text("SELECT id FROM appointments WHERE status = 'scheduled' ORDER BY id")


@dataclass(frozen=True)
class Result:
    """What was counted at the end.

    Attributes:
        tally: what became of the sagas.
        faults: what Cal.com did wrong, and how often.
        taken: bookings that somebody else had made at Cal.com.
        killed: processes that were killed at work.
    """

    tally: tally.Tally
    faults: dict[str, int]
    taken: int
    killed: int


def perform(bookings: int, teller: Teller) -> Result:
    """Run the demonstration in this process's home; everything that it started has stopped on return.

    Raises:
        ConfigurationError: a server cannot run here.
        ChildError: a program does not start.
    """
    with Supervisor() as supervisor, teller:
        stack = Stack(application.settings().home, grace=5.0)
        teller.say("starting PostgreSQL, Redis, Cal.com's simulator, two workers, beat and Flower")
        stack.prepare()
        port = port_for(None, FLOWER_PORT, "Flower")
        for program in (*(stack.worker(name) for name in WORKERS), stack.beat(), stack.flower(port)):
            supervisor.start(program)
        teller.say(f"Flower shows the workers until the end: {flower_url(port)}")
        return _Performance(bookings, teller, Killer(application.engine().database, supervisor, WORKERS)).run()


class _Performance:
    def __init__(self, bookings: int, teller: Teller, killer: Killer) -> None:
        self._requests = list(scenario.bookings(scenario.first_slot(), bookings))
        self._teller = teller
        self._killer = killer
        self._database = application.engine().database
        self._control = scenario.Control(application.servers().calcom)
        self._started: list[str] = []

    def run(self) -> Result:
        with self._database.transaction() as connection:
            scenario.hire(connection)
        taken = scenario.book_as_somebody_else(application.calcom(), self._requests)
        half = len(self._requests) // 2
        self._control.spoil(scenario.FIRST_FAULTS)
        self._book(self._requests[:half])
        self._tell(self._killer.kill_child())
        self._await_rest(half // 2)
        self._control.spoil(scenario.SECOND_FAULTS)
        self._book(self._requests[half:])
        self._tell(self._killer.kill_worker())
        self._await_rest(len(self._requests))
        self._control.spoil(scenario.THIRD_FAULTS)
        self._change()
        self._await_rest(scenario.sagas(len(self._requests)))
        with self._database.reading() as connection:
            counted = tally.count(connection, self._control.ledger(), self._started)
        return Result(counted, self._control.fired(), taken, self._killer.killed)

    def _book(self, requests: list[BookingRequest]) -> None:
        for request in requests:
            self._started.append(AppointmentCreationSaga.enqueue(request).id)

    def _change(self) -> None:
        """Move and cancel some of what was booked, and book several at once, two orders for the same slot in turn."""
        first = self._requests[0].start
        self._teller.say("moving and cancelling appointments, and booking several at once")
        with self._database.reading() as connection:
            booked = connection.scalars(_BOOKED).all()
        for appointment, operation, data in scenario.changes(booked, len(self._requests), first):
            self._started.append(AppointmentSyncSaga.enqueue(appointment, operation, data).id)
        for customer, segments in scenario.orders(first, len(self._requests)):
            self._started.append(CompositeBookingSaga.enqueue(customer, segments).id)

    def _tell(self, line: str | None) -> None:
        self._teller.say(line or "found nobody at work to kill")

    def _await_rest(self, wanted: int) -> None:
        """Wait until so many sagas are at rest, `PATIENCE` seconds at most."""
        give_up_at = time.monotonic() + PATIENCE
        while time.monotonic() < give_up_at:
            with self._database.reading() as connection:
                resting = tally.at_rest(connection)
            self._teller.at_rest(resting)
            if resting >= wanted:
                return
            time.sleep(_LOOK_EVERY)
