"""The purge: what ended long ago goes, what is still asked about stays, and no total falls."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from sagajobs.saga.sweeps import run
from sagajobs.saga.sweeps.purge import purge, purgeable, purging
from sagajobs.saga.sweeps.sweep import Sweep
from tests.support.sagas import Scripted, record
from tests.support.tables import change
from tests.support.totalling import ends

pytestmark = pytest.mark.usefixtures("world", "_quiet")


def ended(app_engine, *, days: float, **script: list[str]):
    """A saga that came to rest so many days ago."""
    handle = record(Scripted, {"script": script})
    app_engine.drive(Scripted, handle.id)
    change(
        app_engine,
        "UPDATE sagas SET ended_at = saga_now() - make_interval(secs => :s) WHERE id = :id AND ended_at IS NOT NULL",
        s=days * 86400,
        id=handle.id,
    )
    return handle


def left(db, table: str = "sagas", column: str = "id") -> set[str]:
    return {str(one) for one in db.execute(text(f"SELECT {column} FROM {table}")).scalars()}


def test_what_ended_longer_ago_goes_with_all_that_is_its_own(app_engine, db):
    old, young = ended(app_engine, days=91), ended(app_engine, days=89)
    change(
        app_engine,
        "INSERT INTO review_cases (saga_id, reason, evidence, closed_at, resolution) "
        "VALUES (:id, 'r', '{}', saga_now(), 'settled')",
        id=old.id,
    )
    assert purge(app_engine, older_than_days=90) == {("scripted", "completed"): 1}
    for table, column in (("sagas", "id"), ("saga_steps", "saga_id"), ("saga_events", "saga_id")):
        assert left(db, table, column) == {young.id}
    assert left(db, "review_cases") == set()


def test_what_is_asked_about_or_under_way_stays_and_what_was_abandoned_goes(app_engine, db):
    trouble = {"last": ["bug"], "cancel": ["permanent"]}
    asked, abandoned = ended(app_engine, days=0, **trouble), ended(app_engine, days=0, **trouble)
    waiting = record(Scripted, {})
    questioned = ended(app_engine, days=500)
    change(app_engine, "UPDATE sagas SET created_at = created_at - interval '500 days'")
    change(app_engine, "UPDATE sagas SET ended_at = saga_now() - interval '500 days' WHERE id = :id", id=abandoned.id)
    change(
        app_engine,
        "UPDATE review_cases SET closed_at = saga_now(), resolution = 'abandon' WHERE saga_id = :id",
        id=abandoned.id,
    )
    change(
        app_engine,
        "INSERT INTO review_cases (saga_id, reason, evidence) VALUES (:id, 'r', '{}')",
        id=questioned.id,
    )
    assert purge(app_engine, older_than_days=90) == {("scripted", "manual_review_required"): 1}
    assert left(db) == {asked.id, waiting.id, questioned.id}
    app_engine.drive(Scripted, waiting.id)


def test_the_totals_go_on_growing(app_engine, db):
    for script in ({}, {}, {"last": ["bug"]}):
        ended(app_engine, days=91, **script)
    assert purgeable(app_engine, older_than_days=90) == {("scripted", "completed"): 2, ("scripted", "compensated"): 1}
    before = ends(app_engine)
    assert before == {("scripted", "completed"): 2, ("scripted", "compensated"): 1}
    purge(app_engine, older_than_days=90, batch=1)
    assert left(db) == set()
    assert ends(app_engine) == before
    ended(app_engine, days=91)
    purge(app_engine, older_than_days=90)
    assert ends(app_engine) == {("scripted", "completed"): 3, ("scripted", "compensated"): 1}
    assert purgeable(app_engine, older_than_days=90) == {}


def test_what_is_not_added_up_yet_stays(app_engine, db):
    old = ended(app_engine, days=91)
    with app_engine.database.transaction() as connection:
        connection.execute(text("SELECT FROM saga_uncounted FOR UPDATE"))  # another sweep is about to
        assert purge(app_engine, older_than_days=90) == {}
    assert left(db) == {old.id}
    assert purge(app_engine, older_than_days=90) == {("scripted", "completed"): 1}


def test_a_run_is_noted(app_engine, db):
    sweep = Sweep(name="purge", body=purging(90), every=1, what="sagas deleted")
    ended(app_engine, days=91)
    assert run(app_engine, sweep).found == 1
    row = db.execute(text("SELECT * FROM sweeps WHERE name = 'purge'")).one()
    assert (row.found, row.cursor) == (1, None)
    assert row.ran_at is not None
    assert row.seconds > 0


def test_a_retention_of_0_keeps_all(app_engine, db):
    old = ended(app_engine, days=30000)
    assert run(app_engine, Sweep(name="purge", body=purging(0), every=1, what="sagas deleted")).found == 0
    assert left(db) == {old.id}


def test_two_purges_at_once_count_each_saga_once(app_engine, db):
    for _ in range(20):
        ended(app_engine, days=91)
    totals: list[int] = []

    def go() -> None:
        totals.append(sum(purge(app_engine, older_than_days=90, batch=3).values()))

    purges = [threading.Thread(target=go) for _ in range(4)]
    for one in purges:
        one.start()
    for one in purges:
        one.join()
    purge(app_engine, older_than_days=90)  # what one of them passed over while another held it
    assert left(db) == set()
    assert ends(app_engine) == {("scripted", "completed"): 20}
    assert sum(totals) <= 20
