"""The review sweep: a look settles what it can, and takes nothing from a person who is faster."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.saga import RetryPolicy, faultpoints, step
from sagajobs.saga.faultpoints import Point
from sagajobs.saga.statements import FIRST_LOOK
from sagajobs.saga.sweeps.review import LONGEST_PAUSE
from tests.support.reviewing import ASKED, asked, history, in_doubt, sweep
from tests.support.sagas import QUICK, Scripted, record, states
from tests.support.tables import change
from tests.support.wide import Wide

pytestmark = pytest.mark.usefixtures("world", "_quiet")


def let_time_pass(app_engine, seconds: float = 7200) -> None:
    """Make every open case due, as after a long while."""
    change(
        app_engine,
        "UPDATE review_cases SET opened_at = opened_at - make_interval(secs => :s), "
        "look_at = saga_now(), alert_at = alert_at - make_interval(secs => :s)",
        s=seconds,
    )
    change(app_engine, "UPDATE saga_steps SET absent_since = absent_since - make_interval(secs => :s)", s=seconds)


def cases(db) -> list:
    return db.execute(text("SELECT * FROM review_cases ORDER BY id")).all()


def test_a_case_is_not_looked_at_just_after_its_opening(app_engine, db):
    handle = in_doubt(app_engine)
    change(app_engine, "UPDATE review_cases SET alert_at = saga_now() + interval '1 h'")
    assert sweep(app_engine) == 0
    assert cases(db)[0].looks == 0
    let_time_pass(app_engine, FIRST_LOOK + 1)
    assert sweep(app_engine) >= 1
    assert handle.status() == "running"
    app_engine.drive(Scripted, handle.id)


def test_a_step_in_doubt_that_is_found_is_done_and_the_saga_goes_on(app_engine, db, world, monkeypatch):
    settled = []
    monkeypatch.setattr(Scripted, "note_settled", lambda self, _db, step: settled.append((self.id, step)))
    handle = in_doubt(app_engine)
    let_time_pass(app_engine)
    sweep(app_engine)
    assert settled == [(handle.id, "call")]
    (case,) = cases(db)
    assert (case.closed_by, case.resolution) == ("sagajobs", "settled")
    assert case.why == "a look at step call found it done"
    assert case.closed_at is not None
    assert handle.status() == "running"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1
    assert world.local(handle.id) == ["first", "note_call", "extra", "last"]
    assert history(db, handle.id).count("review_closed") == 1


def test_a_step_in_doubt_of_a_saga_that_was_being_undone_is_undone(app_engine, db, world):
    handle = in_doubt(app_engine, was="compensating")
    let_time_pass(app_engine)
    sweep(app_engine)
    assert handle.status() == "compensating"
    assert states(handle)["call"] == "done"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/call")


def test_a_step_in_doubt_is_taken_for_absent_only_when_several_looks_see_nothing(app_engine, db, world):
    handle = in_doubt(app_engine, call=["timeout", "ok"])
    let_time_pass(app_engine)
    assert sweep(app_engine) >= 1
    assert handle.status() == ASKED, "one look is not enough: replicas lag"
    assert cases(db)[0].looks == 1
    let_time_pass(app_engine)
    sweep(app_engine)
    assert states(handle)["call"] == "waiting"
    assert cases(db)[0].why == "a look at step call found it waiting"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_a_step_in_doubt_that_had_been_refused_turns_the_saga_round_once_it_is_seen_absent(app_engine, db):
    handle = in_doubt(app_engine, call=["refused"])
    for _ in range(2):
        let_time_pass(app_engine)
        sweep(app_engine)
    assert states(handle)["call"] == "failed"
    assert handle.status() == "compensating"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"


def test_a_step_that_failed_and_is_found_after_all_is_done(app_engine, db, world):
    """Its every attempt killed its worker, so a person was asked; the last one had got through."""
    handle = in_doubt(app_engine)
    change(app_engine, "UPDATE saga_steps SET state = 'failed' WHERE saga_id = :id AND name = 'call'", id=handle.id)
    change(app_engine, """UPDATE sagas SET error = '{"step": "call", "class": "AttemptsExhausted"}'""")
    let_time_pass(app_engine)
    sweep(app_engine)
    assert states(handle)["call"] == "done"
    assert handle.record().error is None
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "completed"
    assert world.acts(handle.id).count("book") == 1


def test_a_step_that_failed_and_is_not_found_stays_a_persons_question(app_engine, db):
    handle = in_doubt(app_engine, call=["timeout"])
    change(app_engine, "UPDATE saga_steps SET state = 'failed' WHERE saga_id = :id AND name = 'call'", id=handle.id)
    for looks in (1, 2, 3, 4):
        let_time_pass(app_engine)
        sweep(app_engine)
        assert cases(db)[0].looks == looks
    assert handle.status() == ASKED


def test_an_attempt_that_is_seen_not_to_have_happened_leaves_the_question_what_to_do_without_it(app_engine, db):
    """The last delivery ended without a word, and nothing of it stands: it killed its worker each time."""
    handle = in_doubt(app_engine, call=["timeout"])
    change(
        app_engine,
        "UPDATE saga_steps SET attempts = 3, error = error || '{\"attempt\": 1}' WHERE saga_id = :id AND name = 'call'",
        id=handle.id,
    )
    for _ in range(2):
        let_time_pass(app_engine)
        sweep(app_engine)
    assert handle.status() == ASKED
    assert states(handle)["call"] == "failed"
    (case,) = cases(db)
    assert (case.reason, case.closed_at) == ("every attempt died at work", None)
    assert case.evidence["error"]["class"] == "AttemptsExhausted"


def test_a_step_past_the_pivot_that_is_seen_absent_is_marked_for_retry_as_ever(throwaway, app_engine, db, world):
    looks = []

    def call(self, key):
        raise TimeoutError

    def find(self, key):
        looks.append(key)
        if len(looks) <= QUICK.max_attempts:
            raise TimeoutError

    def mark(self, db, error):
        db.execute(text("INSERT INTO test_local (saga_id, step) VALUES (:id, 'marked')"), {"id": self.id})

    act = step(external=True, retry=QUICK)(call)
    act.probe(looks=1, over=0.0, retry=QUICK)(find)
    act.degradation(retry=RetryPolicy(max_attempts=3, base=3600.0, max_delay=3600.0, jitter=0.0))(mark)
    kind = throwaway.kind(pivot=step(pivot=True)(lambda self, db: "out"), act=act)
    handle = record(kind, {})
    app_engine.drive(kind, handle.id)
    assert handle.status() == ASKED
    change(app_engine, "UPDATE saga_steps SET attempts = :n WHERE name = 'act'", n=QUICK.max_attempts)
    let_time_pass(app_engine)
    sweep(app_engine)
    assert (handle.status(), states(handle)["act"]) == ("running", "waiting")
    assert world.local(handle.id) == ["marked"]
    assert cases(db)[0].resolution == "settled"
    wait = db.execute(
        text("SELECT extract(epoch FROM due_at - saga_now()) FROM saga_steps WHERE name = 'act'")
    ).scalar()
    assert round(float(wait)) == 3600


def test_an_undo_that_failed_is_undone_once_its_effect_is_gone(app_engine, db, world):
    handle = asked(app_engine, was="compensating", last=["bug"], cancel=["permanent"], find=["ok"])
    change(app_engine, "DELETE FROM test_world WHERE key = :k AND act IN ('book', 'cancel')", k=f"{handle.id}/call")
    let_time_pass(app_engine)
    sweep(app_engine)
    assert handle.status() == ASKED, "one look is not enough: replicas lag"
    let_time_pass(app_engine)
    sweep(app_engine)
    assert states(handle)["call"] == "undone"
    receipt = db.execute(text("SELECT receipt FROM saga_steps WHERE name = 'call'")).scalar_one()
    assert receipt == {"probe": "not there", "looks": 2}
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"


def test_an_undo_that_failed_and_whose_effect_somebody_has_taken_back(app_engine, db):
    handle = asked(app_engine, was="compensating", last=["bug"], cancel=["permanent"], find=["gone"])
    let_time_pass(app_engine)
    sweep(app_engine)
    assert states(handle)["call"] == "undone"
    app_engine.drive(Scripted, handle.id)
    assert handle.status() == "compensated"


def test_an_undo_whose_effect_still_stands_stays_a_persons_question(app_engine, db, world):
    handle = asked(app_engine, was="compensating", last=["bug"], cancel=["permanent"])
    change(app_engine, "INSERT INTO test_world (key, act) VALUES (:k, 'book'), (:k, 'book')", k=f"{handle.id}/call")
    let_time_pass(app_engine)
    sweep(app_engine)
    assert handle.status() == ASKED
    assert states(handle)["call"] == "undo_failed"


def test_looks_come_ever_more_rarely(app_engine, db):
    in_doubt(app_engine, find=["bug"])
    pauses = []
    for _ in range(9):
        let_time_pass(app_engine)
        sweep(app_engine)
        pauses.append(
            db.execute(text("SELECT extract(epoch FROM look_at - saga_now()) FROM review_cases")).scalar_one()
        )
    assert [round(float(pause)) for pause in pauses] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert round(float(pauses[-1])) == LONGEST_PAUSE


@pytest.mark.parametrize("word", ["deferred", "transient"])
def test_a_look_that_was_not_let_through_does_not_count(app_engine, db, word):
    in_doubt(app_engine, find=["timeout"] * 3 + [word])
    let_time_pass(app_engine)
    sweep(app_engine)
    (case,) = cases(db)
    assert case.looks == 0
    lease = db.execute(text("SELECT lease_until FROM saga_steps WHERE name = 'call'")).scalar_one()
    assert lease is None


def test_where_the_other_side_is_away_nothing_is_claimed(app_engine, db, monkeypatch):
    in_doubt(app_engine)
    monkeypatch.setattr(Scripted.definition.step("call"), "hold", lambda saga: 77.0)
    let_time_pass(app_engine)
    fence = db.execute(text("SELECT fence FROM saga_steps WHERE name = 'call'")).scalar_one()
    sweep(app_engine)
    assert db.execute(text("SELECT fence FROM saga_steps WHERE name = 'call'")).scalar_one() == fence
    assert cases(db)[0].looks == 0


def test_a_local_step_is_no_matter_for_a_look(app_engine, db):
    handle = record(Scripted, {})
    change(
        app_engine,
        "INSERT INTO review_cases (saga_id, step, reason, evidence) VALUES (:id, 'first', 'r', '{}')",
        id=handle.id,
    )
    change(app_engine, "UPDATE sagas SET state = 'manual_review_required', next_at = NULL")
    before = history(db, handle.id)
    let_time_pass(app_engine)
    change(app_engine, "UPDATE review_cases SET alert_at = saga_now() + interval '1 h'")
    sweep(app_engine)
    assert history(db, handle.id) == before
    assert cases(db)[0].looks == 0


def abandon(app_engine, handle) -> None:
    """What abandoning does to the table: the saga has ended where it stood, and the case is closed."""
    change(app_engine, "UPDATE sagas SET ended_at = saga_now() WHERE id = :id", id=handle.id)
    change(
        app_engine,
        "UPDATE review_cases SET closed_at = saga_now(), closed_by = 'me', resolution = 'abandon' WHERE saga_id = :id",
        id=handle.id,
    )


def turn(app_engine, handle) -> None:
    """What any other remedy does: the fence is raised, the case closed, the saga under way."""
    change(app_engine, "UPDATE saga_steps SET fence = fence + 1 WHERE saga_id = :id AND name = 'call'", id=handle.id)
    change(app_engine, "UPDATE sagas SET state = 'compensating', next_at = saga_now() WHERE id = :id", id=handle.id)
    change(
        app_engine,
        "UPDATE review_cases SET closed_at = saga_now(), closed_by = 'me', resolution = 'retry' WHERE saga_id = :id",
        id=handle.id,
    )


@pytest.mark.parametrize(("remedy", "end"), [(abandon, ASKED), (turn, "compensating")])
@pytest.mark.parametrize("point", [Point.AFTER_CLAIM, Point.AFTER_CALL])
def test_a_person_who_is_faster_than_the_look_wins(app_engine, db, point, remedy, end):
    handle = in_doubt(app_engine)
    let_time_pass(app_engine)
    came = []

    def meanwhile(at: Point, _saga_id: str, step: str) -> None:
        if (at, step) == (point, "call") and not came:
            came.append(at)
            remedy(app_engine, handle)

    with faultpoints.installed(meanwhile):
        sweep(app_engine)
    assert came == [point]
    assert handle.status() == end
    assert states(handle)["call"] == "unknown"
    assert cases(db)[0].closed_by == "me"
    if end != ASKED:
        change(app_engine, "UPDATE saga_steps SET lease_until = NULL")
        app_engine.drive(Scripted, handle.id)


def test_one_beside_it_that_fails_during_the_look_turns_the_saga_round(app_engine, world):
    """Its call was out when the person was asked, and comes back refused while the other one is looked at."""
    handle = record(Wide, {"items": 2, "script": {"book[0]": ["book+timeout"], "book[1]": ["permanent"]}})

    def deliver(name: str) -> None:
        app_engine.executor.forward(Wide, Wide.definition.step(name), handle.id)

    for name in ("start", "beside", "extra", "book[0]"):
        deliver(name)
    claimed, answered = threading.Event(), threading.Event()
    in_flight = threading.Thread(target=deliver, args=("book[1]",))

    def hook(point: Point, _saga_id: str, name: str) -> None:
        if (point, name) == (Point.AFTER_CLAIM, "book[1]"):
            claimed.set()
            assert answered.wait(60)
        elif (point, name) == (Point.AFTER_CALL, "book[0]") and not answered.is_set():
            answered.set()
            in_flight.join(60)

    faultpoints.install(hook)
    try:
        in_flight.start()
        assert claimed.wait(60)
        change(app_engine, "UPDATE saga_steps SET probes = 99, due_at = NULL WHERE name = 'book[0]'")
        deliver("book[0]")
        assert handle.status() == ASKED
        let_time_pass(app_engine)
        sweep(app_engine)
    finally:
        faultpoints.install(None)
        answered.set()
    assert states(handle)["book[1]"] == "failed"
    change(app_engine, "UPDATE saga_steps SET lease_until = NULL")
    let_time_pass(app_engine)
    sweep(app_engine)
    app_engine.drive(Wide, handle.id)
    assert handle.status() == "compensated"
    assert not world.stands(f"{handle.id}/book[0]")


def test_two_sweeps_at_once_look_once(app_engine, db, world):
    handles = [in_doubt(app_engine) for _ in range(5)]
    let_time_pass(app_engine)
    looks = world.acts().count("try:find")
    sweeps = [threading.Thread(target=lambda: sweep(app_engine)) for _ in range(4)]
    for one in sweeps:
        one.start()
    for one in sweeps:
        one.join()
    assert world.acts().count("try:find") == looks + 5
    assert [case.resolution for case in cases(db)] == ["settled"] * 5
    for handle in handles:
        app_engine.drive(Scripted, handle.id)
        assert handle.status() == "completed"


def test_one_case_that_cannot_be_looked_at_does_not_keep_the_sweep_from_the_others(app_engine, db):
    bad, good = in_doubt(app_engine), in_doubt(app_engine)
    change(app_engine, "UPDATE saga_steps SET name = 'former' WHERE saga_id = :id AND name = 'extra'", id=bad.id)
    let_time_pass(app_engine)
    sweep(app_engine)
    assert (bad.status(), good.status()) == (ASKED, "running")
    app_engine.drive(Scripted, good.id)
