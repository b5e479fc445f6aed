"""`sagas watch`: in a pipe a line for each change, on a terminal a picture; and with what it ends."""

from __future__ import annotations

import json
import re

import pexpect
import pytest
from rich.cells import cell_len
from sqlalchemy import text

from sagajobs.desk.watching import AllEvents
from tests.cli.inprocess import sagajobs
from tests.cli.terminal import Terminal, at_terminal
from tests.support.asked import ask
from tests.support.tables import change

_STEP = text("""
    INSERT INTO saga_steps (saga_id, name, position, stage, external, state)
    VALUES (:id, :name, :n, :n, false, :state)
""")
_STATES = {"create_customer": "done", "create_appointment": "done", "book_calcom": "failed", "assign_staff": "waiting"}
_EVENT = text("INSERT INTO saga_events (saga_id, event) VALUES (:id, :event)")


def _ended(engine, state: str) -> str:
    """Record a saga that is at rest, and is shown as one that just came to it, however late somebody looks."""
    statement = text("""
        INSERT INTO sagas (id, name, version, definition, state, input, ended_at)
        VALUES (gen_random_uuid(), 'appointment_creation', 1, 'd', :state, '{}', saga_now() + interval '1 h')
        RETURNING id
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
    change(nobody_told, "UPDATE sagas SET updated_at = updated_at + interval '1 h'")  # by when it came to rest
    with at_terminal("sagas", "watch", "--interval", "0.1", NO_COLOR="1") as watch:
        watch.says("─", gone[:8], asked.saga[:8], "manual_review_required", "Ctrl-C ends this")
        nobody_told.review.retry(asked.case, who="Ann", why="again")
        watch.says(asked.saga[:8], "running", "Ctrl-C ends this")
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


def test_a_small_terminal_shows_a_line_for_each_saga_and_wraps_none(nobody_told):
    ids = [_ended(nobody_told, "completed") for _ in range(5)]
    with at_terminal("sagas", "watch", "--interval", "0.1", lines=6, columns=50) as watch:
        watch.says("Ctrl-C ends this")
        watch.interrupt()
        assert watch.ends() == 0
    picture = _last_picture(watch, "id")
    assert [line.split()[0] for line in picture] == ["id", *(one[:8] for one in reversed(ids[2:])), "Ctrl-C"]
    assert max(map(len, picture)) <= 50


def _last_picture(watch: Terminal, first: str) -> list[str]:
    """Return the lines of what was drawn last, which begins with a word."""
    lines = [line.rstrip() for line in watch.text.splitlines()]
    begins = max(number for number, line in enumerate(lines) if line.startswith(f"{first} "))
    return [line for line in lines[begins:] if line]


@pytest.mark.parametrize(
    ("lines", "columns", "left_out"), [(6, 50, 4), (12, 50, 0), (12, 80, 1), (12, 170, 1), (24, 80, 0)]
)
def test_on_a_small_terminal_the_newest_is_what_is_seen_of_one(nobody_told, lines, columns, left_out):
    saga_id = _ended(nobody_told, "compensated")
    with nobody_told.database.transaction() as db:
        for number, (name, state) in enumerate(_STATES.items()):
            db.execute(_STEP, {"id": saga_id, "name": name, "n": number, "state": state})
        for event in ("step_completed",) * 12 + ("step_failed", "saga_compensated"):
            db.execute(_EVENT, {"id": saga_id, "event": event})
    with at_terminal("sagas", "watch", saga_id[:8], lines=lines, columns=columns) as watch:
        watch.says("compensated")
        assert watch.ends() == 4
    picture = _last_picture(watch, "saga")
    assert len(picture) < lines
    assert max(map(cell_len, picture)) <= columns
    assert picture[-1].endswith("saga_compensated")
    assert picture[-2].endswith("step_failed")
    assert picture[0].startswith(f"saga           {saga_id[:30]}")
    assert picture[2].split() == ["state", "compensated"]
    shown = [line.split()[0] for line in picture if line.split()[0] in _STATES]
    assert shown == list(_STATES)[left_out:]


def test_an_interval_that_is_no_number_is_refused():
    done = sagajobs("sagas", "watch", "--interval", "nan")
    assert done.status == 2
    assert done.err.splitlines()[-1] == "Error: Invalid value for '--interval': 'nan' is no number of seconds"
