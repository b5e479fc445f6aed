"""The review sweep: open cases are looked at again, and alerted about once nobody has answered in time.

Many a question answers itself: Cal.com is back, a lagging replica has caught up, a person has cancelled the booking by
hand. What a look can settle needs no person any more, and the saga goes on.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from sagajobs.errors import ClaimLost
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.statements import FIRST_LOOK, RESPONSE_TIME, URGENT_BEFORE
from sagajobs.saga.states import FORWARD, SagaState
from sagajobs.saga.store import Store
from sagajobs.saga.sweeps import statements
from sagajobs.saga.sweeps.examination import Case, Seen, examine
from sagajobs.saga.sweeps.sweep import Swept

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

log = logging.getLogger(__name__)

BATCH = 20
"""Cases in one sweep: each look is a call outside."""

BUDGET = 120.0
"""Seconds after which one sweep looks no further: a look may last as long as its step's time-out."""

TAKEN_FOR = 300.0
"""Seconds for which a case is one sweep's: as long as a sweep can last."""

LONGEST_PAUSE = 3600.0
"""Seconds, at most, between two looks: they double from `FIRST_LOOK` on."""

LONGEST_SILENCE = 4 * 3600.0
"""Seconds, at most, between two alerts for one case."""

_ALERTS = {"response": RESPONSE_TIME, "near": URGENT_BEFORE}


def review(engine: Engine, _cursor: Any) -> Swept:
    """Look at the cases that are due for it, then raise the alerts that are."""
    return Swept(_look(engine) + _alert(engine))


def _look(engine: Engine) -> int:
    began = time.monotonic()
    with engine.database.reading() as connection:
        found = connection.execute(statements.CASES_DUE, {"batch": BATCH, "known": [*engine.kinds, ""]})
        due = [row.id for row in found]
    looked = 0
    for number in due:
        if time.monotonic() - began > BUDGET:
            break
        try:
            looked += _look_at(engine, number)
        except ClaimLost:
            log.info("review case %d: somebody was faster than the look", number)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, the others must be looked at
            log.warning("review case %d could not be looked at now: %s", number, type(error).__name__)
    return looked


def _look_at(engine: Engine, number: int) -> bool:
    """Look at one case; False if another sweep has it. One that fails is due again when its time here is over."""
    with engine.database.transaction() as connection:
        row = connection.execute(statements.TAKE_CASE, {"id": number, "lease": TAKEN_FOR}).first()
    if row is None:
        return False
    case = Case(row.id, str(row.saga_id), row.step, SagaState(row.was))
    kind = engine.kinds[row.name]
    seen = examine(engine.executor, kind, case)
    if seen.settled:
        emit(Lifecycle.REVIEW_CLOSED, saga=kind.name, saga_id=case.saga_id, step=case.step)
        _send_on(engine, case.saga_id)
        return True
    with engine.database.transaction() as connection:
        connection.execute(
            statements.PUT_BACK, {"id": case.id, "counted": int(seen.counted), "delay": _pause(seen, row.looks)}
        )
    return True


def _pause(seen: Seen, looks: int) -> float:
    """Return the seconds until the next look: what the look itself asks for, or ever more."""
    if seen.again_in is not None:
        return seen.again_in
    return min(FIRST_LOOK * 2.0 ** min(looks, 20), LONGEST_PAUSE)


def _send_on(engine: Engine, saga_id: str) -> None:
    """Hint at a saga that goes on; should that be lost, the recovery sweep does it."""
    with engine.database.reading() as connection:
        record = Store(connection).read(saga_id)
    kind = engine.kinds[record.name].of(record)
    if engine.publisher is None:
        return
    if record.state in FORWARD and record.open_steps:
        engine.publisher.steps(kind, saga_id, record.open_steps)
    elif record.state is SagaState.COMPENSATING:
        engine.publisher.compensation(kind, saga_id)


def _alert(engine: Engine) -> int:
    """Say it again of each case that is over its response time, the nearest appointment first."""
    with engine.database.reading() as connection:
        overdue = [row.id for row in connection.execute(statements.OVERDUE, {"batch": BATCH})]
    alerted = 0
    for number in overdue:
        try:
            with engine.database.transaction() as connection:
                row = connection.execute(
                    statements.TAKE_OVERDUE, {"id": number, "longest": LONGEST_SILENCE, **_ALERTS}
                ).first()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, the others must be said
            log.warning("no alert could be raised for review case %d: %s", number, type(error).__name__)
            continue
        if row is not None:
            emit(Lifecycle.REVIEW_OVERDUE, saga=row.name, saga_id=str(row.saga_id), step=row.step, attempt=row.alerts)
            alerted += 1
    return alerted
