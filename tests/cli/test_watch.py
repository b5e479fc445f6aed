"""`sagas watch`: in a pipe a line for each change, on a terminal a picture; and with what it ends."""

from __future__ import annotations

import json
import re

import pexpect
from sqlalchemy import text

from sagajobs.desk.watching import AllEvents
from tests.cli.inprocess import sagajobs
from tests.cli.terminal import at_terminal
from tests.support.asked import ask

_EVENT = text("INSERT INTO saga_events (saga_id, event) VALUES (:id, :event)")


def _ended(engine, state: str) -> str:
    statement = text("""
        INSERT INTO sagas (id, name, version, definition, state, input, ended_at)
        VALUES (gen_random_uuid(), 'appointment_creation', 1, 'd', :state, '{}', saga_now()) RETURNING id
    """)
    with engine.database.transaction() as db:
        saga_id = str(db.execute(statement, {"state": state}).scalar_one())
        for event in ("saga_created", f"saga_{state}"):
            db.execute(_EVENT, {"id": saga_id, "event": event})
    return saga_id


def test_of_one_at_rest_the_history_is_told_and_how_it_ended(nobody_told):
    done = {state: _ended(nobody_told, state) for state in ("completed", "compensated")}
    asked = ask(nobody_told).saga
    for saga_id, status in ((done["completed"], 0), (done["compensated"], 4), (asked, 5)):
        watched = sagajobs("sagas", "watch", saga_id[:8])
        assert watched.status == status, watched.err
        assert all(line.split("  ")[1:3] == [saga_id, "appointment_creation"] for line in watched.out.splitlines())
    events = [line.split("  ")[3:] for line in watched.out.splitlines()]
    assert events == [
        ["saga_created", "-", "-"],
        ["step_failed", "create_customer", "-"],
        ["review_required", "create_customer", "-"],
    ]
    lines = sagajobs("sagas", "watch", done["completed"], "--json").out.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["saga_created", "saga_completed"]
    assert set(json.loads(lines[0])) == {"saga", "name", "state", "at", "event", "step", "attempt"}
    assert "there is no saga ffffffff" in sagajobs("sagas", "watch", "ffffffff").err


def test_what_is_committed_late_is_told_all_the_same(nobody_told):
    saga_id = _ended(nobody_told, "completed")
    engine = nobody_told.database.engine
    with nobody_told.database.reading() as db, engine.connect() as late, engine.connect() as rolled_back:
        events = AllEvents(db)
        assert events.look(db) == []
        late.execute(_EVENT, {"id": saga_id, "event": "step_retry"})
        rolled_back.execute(_EVENT, {"id": saga_id, "event": "step_unknown"})
        with engine.begin() as other:
            other.execute(_EVENT, {"id": saga_id, "event": "step_completed"})
        assert [event.event for event in events.look(db)] == ["step_completed"]
        assert events.look(db) == []
        late.commit()
        rolled_back.rollback()
        assert [event.event for event in events.look(db)] == ["step_retry"]
        assert events.look(db) == []


def test_every_change_is_an_object_until_somebody_ends_it(nobody_told):
    saga_id = _ended(nobody_told, "completed")
    with at_terminal("sagas", "watch", "--interval", "0.1", "--json") as watch:
        seen = 1
        while seen:  # nobody sees when it begins to look
            with nobody_told.database.transaction() as db:
                db.execute(_EVENT, {"id": saga_id, "event": "step_probed"})
            seen = watch.expect_exact(['"event": "step_probed"', pexpect.TIMEOUT], timeout=0.2)
        watch.interrupt()
        assert watch.ends() == 0
    assert "\x1b" not in watch.read_so_far


def test_a_terminal_shows_what_is_at_work_until_somebody_ends_it(nobody_told):
    asked, gone = ask(nobody_told), _ended(nobody_told, "completed")
    with at_terminal("sagas", "watch", "--interval", "0.1", NO_COLOR="1") as watch:
        watch.says("┏", gone, asked.saga, "manual_review_required", "Ctrl-C ends this")
        nobody_told.review.retry(asked.case, who="Ann", why="again")
        watch.says(asked.saga, "running", "Ctrl-C ends this")
        watch.interrupt()
        assert watch.ends() == 0
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", watch.read_so_far) is None, "no colours"
    assert "\x1b[2J" not in watch.read_so_far, "it is drawn over, and not cleared, which flickers"


def test_a_terminal_shows_one_until_it_is_at_rest(nobody_told):
    asked = ask(nobody_told)
    nobody_told.review.retry(asked.case, who="Ann", why="again")
    with at_terminal("sagas", "watch", asked.saga[:8], "--interval", "0.1") as watch:
        watch.says("customer sees", "create_customer", "review_closed")
        with nobody_told.database.transaction() as db:
            db.execute(text("UPDATE sagas SET state = 'compensating' WHERE id = :id"), {"id": asked.saga})
            db.execute(
                text("UPDATE sagas SET state = 'compensated', next_at = NULL, ended_at = saga_now() WHERE id = :id"),
                {"id": asked.saga},
            )
            db.execute(_EVENT, {"id": asked.saga, "event": "saga_compensated"})
        watch.says("saga_compensated")
        assert watch.ends() == 4
    assert re.search(r"state +compensated\n", watch.text)
