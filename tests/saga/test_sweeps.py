"""The frame of the sweeps: a run is noted, what goes wrong in one stays there, beat and workers know them all."""

from __future__ import annotations

import logging

import pytest
from celery import Celery
from celery.beat import Scheduler
from sqlalchemy import text

from sagajobs.errors import DefinitionError, PermanentError, TransientError
from sagajobs.root import app
from sagajobs.saga import Engine
from sagajobs.saga.canvas import SWEEP_QUEUE, Canvas
from sagajobs.saga.sweeps import Sweep, Swept, run
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import Scripted, record

pytestmark = pytest.mark.usefixtures("world")


def counting(_engine, cursor) -> Swept:
    return Swept(2, {"at": (cursor or {"at": 0})["at"] + 1})


def test_a_run_is_noted_with_its_cursor(app_engine, db):
    sweep = Sweep(name="counting", body=counting, every=1, what="things")
    for expected in (1, 2, 3):
        noted = run(app_engine, sweep)
        row = db.execute(text("SELECT * FROM sweeps WHERE name = 'counting'")).one()
        assert (row.found, row.cursor, row.seconds) == (2, {"at": expected}, noted.seconds)
        assert row.ran_at is not None


def test_a_run_that_breaks_off_is_not_noted(app_engine, db):
    def fail(_engine, _cursor):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - raised three lines above
        run(app_engine, Sweep(name="failing", body=fail, every=1, what="things"))
    assert db.execute(text("SELECT count(*) FROM sweeps")).scalar_one() == 0


def test_two_sweeps_of_one_name_are_refused(app_engine):
    with pytest.raises(DefinitionError, match="recover"):
        app_engine.schedule(Sweep(name="recover", body=counting, every=1, what="things"))


def test_beat_has_each_sweep_done_by_its_task(app_engine):
    schedule = app.conf.beat_schedule
    assert set(schedule) == set(app_engine.sweeps) >= {"recover", "review", "purge"}
    for name, entry in schedule.items():
        assert entry["task"] in app.tasks
        assert entry["schedule"] == app_engine.sweeps[name].every
        assert entry["options"]["queue"] == SWEEP_QUEUE
        assert 10 <= entry["options"]["expires"] <= 300


def test_a_beat_that_remembers_nothing_has_every_sweep_done_at_once(app_engine):
    # Else a new system is called late for an hour.
    entries = Scheduler(app).schedule  # from the same configuration as beat's own, which also keeps a file
    assert {name for name, entry in entries.items() if entry.is_due().is_due} >= set(app_engine.sweeps)


def test_what_a_sweep_says_of_its_failure_does_not_get_out(app_engine, caplog, monkeypatch):
    private = "confi" + "dential"  # a traceback quotes source lines, which hold nobody's data

    def fail(_engine, _cursor):
        raise ValueError(private)

    sweep = app_engine.sweeps["purge"]
    monkeypatch.setattr("sagajobs.saga.canvas.run", fail)
    with caplog.at_level(logging.WARNING):
        app.tasks[sweep.task]()
    assert "ValueError in sweep purge" in caplog.text
    assert private not in caplog.text


def test_beat_and_a_worker_sweep(worker, db, app_engine):
    handle = record(Scripted, {})
    assert handle.wait(90) == "completed"
    wait_for(lambda: db.execute(text("SELECT count(*) FROM sweeps WHERE name = 'recover'")).scalar_one() == 1)
    wait_for(lambda: db.execute(text("SELECT count(*) FROM sweeps WHERE name = 'review'")).scalar_one() == 1)


@pytest.mark.parametrize(
    ("fails", "name", "level"),
    [
        (lambda: _raise(TransientError("it quotes a customer")), "TransientError", "WARNING"),
        (lambda: _raise(PermanentError("it quotes a customer")), "PermanentError", "ERROR"),
        (lambda: "SELECT pg_terminate_backend(pg_backend_pid())", "OperationalError", "WARNING"),
        (lambda: "SELECT name FROM not_there", "UndefinedTable", "ERROR"),
    ],
)
def test_a_worker_says_in_one_line_what_broke_a_sweep_off(app_engine, clean, caplog, fails, name, level):
    def body(engine, _cursor):
        with engine.database.reading() as connection:
            connection.execute(text(fails()))

    engine = Engine(app_engine.database)
    engine.schedule(Sweep(name="failing", body=body, every=1, what="things"))
    celery = Celery("sweeps", set_as_current=False)
    Canvas(celery, engine)
    celery.tasks["saga.failing"].run()
    said = [(line.levelname, line.message) for line in caplog.records]
    assert said == [(level, f"sweep failing broke off ({name}); the next one tries again")]


def _raise(error):
    raise error
