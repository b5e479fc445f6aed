"""Random operations on appointments, with random faults, lost and doubled messages, deaths, sweeps and hosts' acts.

Operators pause, resume, cancel and settle by hand, webhooks say what is true or not, sweeps meet each other, and what
is old is purged. Whatever happened: when the faults are over and everything has been delivered, each saga has ended or
waits for a person with a reason, the ledger of Cal.com agrees with the table, the invariants hold, and no lock is left.

The same histories each time; `PROPERTY_EXAMPLES` (`make chaos`) sets how many others are tried.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import event

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga
from sagajobs.booking import AppointmentFollowSaga, services
from sagajobs.calcom.client import CalcomClient
from tests.property.verdict import Bookings
from tests.property.world import EVENT_TYPES

CHAOS = "PROPERTY_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "200"))
KINDS = (AppointmentCreationSaga, AppointmentSyncSaga, CompositeBookingSaga, AppointmentFollowSaga)
SLOW_TRIES = 3
EXPECTED = {
    "deaths",
    *(f"{kind.name} completed" for kind in KINDS),
    *(f"{kind.name} compensated" for kind in KINDS if kind is not AppointmentFollowSaga),
    *("step_unknown", "step_probed", "step_failed SlotTaken", "compensation_started"),
    *("saga_paused", "saga_resumed", "saga_cancelled", "review_closed"),
    *(f"remedy {remedy}" for remedy in ("abandon", "skip", "mark_done", "mark_undone")),
    *("purged", "purged beside live ones", "strays"),
    *("asked again of one that is kept", "asked again of one that was purged", "webhook told again"),
    *("invariants checked", "differences reconciled", "reconciling without Cal.com"),
    *(f"host: {act}" for act in ("cancel", "move", "confirm", "decline")),
    *("step_retry CalcomUnavailable", "step_retry CalcomRateLimited", "stale looks"),
    "judged beside what a person has to settle",
}
"""What a run of this test must have met at least once, or it has tried too little."""
MANY = 1000
RARE = {"remedy skip", "remedy mark_done", "webhook told again", "asked again of one that was purged"}
"""What only so many histories meet for sure."""


@pytest.fixture
def machine(app_engine, clean, simulator, monkeypatch) -> type[Bookings]:
    """The machine on this run's database and simulator, with less patience than in earnest."""
    from sagajobs.root import servers

    monkeypatch.setattr(app_engine, "publisher", app_engine.publisher)  # each history sets its own; put back at the end
    plain = CalcomClient(servers().calcom, servers().calcom_api_key, connect_timeout=60, read_timeout=60)
    # Known before Cal.com fails, and for as long as this lasts: that it is asked no more for some seconds is real time.
    monkeypatch.setattr(services, "KNOWN_FOR", 86400.0)
    event_types = services.EventTypes(lambda: plain)
    for number in EVENT_TYPES:
        event_types.get(number)
    for kind in KINDS:
        # Circuit and quota are tested by themselves: here they would only make everybody wait.
        given = replace(kind.services, client=lambda: plain, event_types=event_types, circuit=lambda: None)
        monkeypatch.setattr(kind, "services", given)
        for step in kind.definition.steps:
            if step.degraded is not None:  # a day of slow tries would be most of the time, and leave persons nothing
                retry = replace(step.degraded.retry, max_attempts=SLOW_TRIES)
                monkeypatch.setattr(step, "degraded", replace(step.degraded, retry=retry))
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # else each call looks through the whole environment for one
    engine = app_engine.database.engine
    event.listen(engine, "connect", _hurry)
    engine.dispose()
    with app_engine.database.reading() as db:
        given = {"engine": app_engine, "db": db, "simulator": simulator, "calcom": plain, "seen": Counter()}
        yield type("Bookings", (Bookings,), given)
    event.remove(engine, "connect", _hurry)
    engine.dispose()
    plain.close()


def _hurry(connection, _record) -> None:
    """Have commits not wait for the disk: the server is not to die here, and everybody sees them at once."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


@pytest.mark.long
@pytest.mark.timeout(600 + 4 * EXAMPLES)
def test_whatever_happens_it_ends_well(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            derandomize=not CHAOS,
        ),
    )
    expected = EXPECTED if EXAMPLES >= MANY else EXPECTED - RARE
    never = {what for what in expected if not machine.seen[what]}
    assert never == set(), "of what is to be survived, everything has come about"
