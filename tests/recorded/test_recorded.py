"""Every prefix of every recorded history, restored, is finished by the present code as by the one that began it."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import text

from sagajobs.booking import invariants
from sagajobs.saga import SagaHandle, SagaState, inflight
from sagajobs.testing.trial import Trial
from sagajobs.testing.verdict import Verdict
from tests.recorded import snapshot
from tests.recorded.history import FOLDER, History, path, read
from tests.recorded.recording import STORIES

RECORDED = sorted(FOLDER.glob("*.jsonl"))

STRANDED = (
    "the present code refuses a saga that version {version} of {kind} has begun: {reason}. Where such sagas may be in "
    "flight, keep the former class (`former=` of `Engine.register`), and this file. Where none can be, raise `version` "
    "and make the recordings anew: python -m tests.recorded"
)

HERE = text("""
    SELECT calcom_v2_booking_id, starts_at, CASE status WHEN 'pending' THEN 'pending' ELSE 'accepted' END
    FROM appointments
    WHERE deleted_at IS NULL AND status NOT IN ('cancelled', 'failed') AND calcom_v2_booking_id IS NOT NULL
""")

COME_TO = text("""
    SELECT starts_at, status, calcom_sync_status, location, deleted_at IS NULL, moving_starts_at FROM appointments
    ORDER BY id
""")


def test_there_is_a_recording_of_each_story():
    """Whoever raises a version records it, and keeps what the version before has left."""
    assert set(RECORDED) >= {path(story, kind.version) for story, (kind, _, _) in STORIES.items()}


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_each_prefix_is_finished(app_engine, simulator, saga_clock, clean, file):
    history = read(file)
    came_to = None
    for number in reversed(range(len(history.prefixes))):  # its end first: what the others are to come to
        place, state = history.prefixes[number]
        snapshot.put_back(app_engine, simulator, state)
        found = _finish(app_engine, simulator, saga_clock, history, f"restored as it was at {place}")
        if came_to is None:
            came_to = found
        if history.state() == "completed" or history.state(number) in ("compensating", "compensated"):
            assert found == came_to, place


def test_code_that_cannot_finish_a_recorded_saga_is_told_what_to_do(app_engine, simulator, saga_clock, clean):
    history = read(path("creation", 1))
    _, state = history.prefixes[1]
    (row,) = state["sagas"]
    snapshot.put_back(app_engine, simulator, state | {"sagas": [row | {"definition": "v,u,xup,-"}]})
    with pytest.raises(pytest.fail.Exception, match=r"create_customer is the pivot; .* keep the former class .* anew"):
        _finish(app_engine, simulator, saga_clock, history, "restored")
    assert SagaHandle(history.saga, engine=app_engine).record().steps["create_appointment"].attempts == 0
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def _finish(app_engine, simulator, saga_clock, history: History, place: str) -> tuple[list, list]:
    """Carry a restored saga to its end and return what stands then, here and at Cal.com."""
    (held,) = [one.reason for one in inflight.check(app_engine).stranded] or [None]
    if held is not None:
        pytest.fail(STRANDED.format(version=history.version, kind=history.kind, reason=held))
    handle = SagaHandle(history.saga, engine=app_engine)
    kind = app_engine.kinds[history.kind].of(handle.record())
    verdict = Verdict(handle, kind, place, standing=lambda _saga_id: (), invariants=lambda: None)
    backward = handle.status() in (SagaState.COMPENSATING, SagaState.COMPENSATED)
    trial = Trial(app_engine, saga_clock, kind)
    trial.handle = handle
    with trial.installed():
        trial.settle()
        verdict.assert_end(SagaState.COMPENSATED if backward else SagaState.COMPLETED)
    return _judge(app_engine, simulator, verdict)


def _judge(app_engine, simulator, verdict: Verdict) -> tuple[list, list]:
    with app_engine.database.reading() as connection:
        here = sorted((uid, start.timestamp(), status) for uid, start, status in connection.execute(HERE))
        come_to = [tuple(row) for row in connection.execute(COME_TO)]
        violated = [violation.rows for violation in invariants.check(connection)]
    there = sorted((one["uid"], _seconds(one["start"]), one["status"]) for one in simulator.standing())
    if here != there:
        raise verdict.failure(f"the table and the ledger do not agree: {here} {there}")
    if violated != [0, 0, 0]:
        raise verdict.failure(f"rows that break the invariants: {violated}")
    return come_to, sorted((one["start"], one["status"], len(one["history"])) for one in simulator.ledger())


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()
