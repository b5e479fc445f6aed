"""The audit log has a row of each act of a person, and keeps it when what it tells of is purged."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from sagajobs.errors import ConfigurationError, InvalidInput, RemedyRefused
from sagajobs.root import events
from sagajobs.saga import Database
from sagajobs.saga.subscriptions import end_subscription, make_subscription
from sagajobs.saga.sweeps.purge import purge
from sagajobs.saga.switches import Switch
from tests.support.sagas import Scripted, record
from tests.support.tables import change

PERSON = {"who": "Op", "why": "the customer rang"}
ACTS = text("SELECT action, entity, entity_id, saga_id::text AS about, actor, detail FROM audit_log ORDER BY id")


@pytest.fixture
def acts(db):
    """Read, without who and why, which every row must have."""

    def read() -> list:
        rows = [row._asdict() for row in db.execute(ACTS)]
        assert {(row["actor"], row["detail"]["why"]) for row in rows} == {tuple(PERSON.values())}
        return [(row["action"], row["entity"], row["entity_id"], row["about"]) for row in rows]

    return read


def test_what_persons_did_to_sagas_outlives_them(world, app_engine, acts, count):
    stopped = record(Scripted, {})
    for act in (stopped.pause, stopped.resume, stopped.cancel):
        act(**PERSON)
    with pytest.raises(RemedyRefused):
        stopped.cancel(**PERSON)
    asked = record(Scripted, {"script": {"last": ["permanent"], "cancel": ["permanent"]}})
    for handle in (stopped, asked):
        app_engine.drive(Scripted, handle.id)
    number = app_engine.review.of(asked.id).number
    app_engine.review.mark_undone(number, **PERSON)
    app_engine.drive(Scripted, asked.id)
    done = [
        *[(f"saga.{act}", "saga", None, stopped.id) for act in ("paused", "resumed", "cancelled")],
        ("case.mark_undone", "case", number, asked.id),
    ]
    assert acts() == done
    change(app_engine, "UPDATE sagas SET ended_at = saga_now() - interval '1 year'")
    change(app_engine, "DELETE FROM saga_uncounted")
    purge(app_engine, older_than_days=1)
    assert count("sagas") == 0
    assert acts() == done


def test_who_turned_a_switch_is_kept_when_it_is_turned_again(app_engine, clean, acts):
    switch = Switch(app_engine.database, "a.switch", default=True)
    for value in (False, True):
        switch.turn(value, **PERSON)
    assert acts() == [("switch.off", "switch", None, None), ("switch.on", "switch", None, None)]


@pytest.mark.usefixtures("clean", "_clean_broker")
def test_a_subscription_is_made_and_ended_on_record(app_engine, acts, db):
    make_subscription(app_engine.database, events, "audited", "*.step_failed", **PERSON)
    assert end_subscription(app_engine.database, events, "audited", **PERSON) == 0
    assert acts() == [(f"subscription.{act}", "subscription", None, None) for act in ("made", "ended")]
    made, ended = (row.detail for row in db.execute(ACTS))
    assert (made["subscription"], made["pattern"]) == ("audited", "*.step_failed")
    assert (ended["subscription"], ended["dropped"]) == ("audited", 0)


@pytest.mark.usefixtures("clean", "_clean_broker")
def test_what_the_broker_does_not_do_is_not_on_record_and_what_cannot_be_is_not_done(app_engine, count):
    for name, pattern in (("two words", "#"), ("audited", ""), ("audited", "step_failed"), ("audited", "*.x" * 100)):
        with pytest.raises(ConfigurationError):
            make_subscription(app_engine.database, events, name, pattern, **PERSON)
    with pytest.raises(ConfigurationError):
        end_subscription(app_engine.database, events, "two words", **PERSON)
    with pytest.raises(InvalidInput, match="why"):
        make_subscription(app_engine.database, events, "audited", "#", who="Op", why=" ")
    away = Database(lambda: "postgresql+psycopg2://nobody@127.0.0.1:1/none")
    with pytest.raises(OperationalError):
        make_subscription(away, events, "audited", "#", **PERSON)
    assert count("audit_log") == 0
    assert not events.subscribed("audited")
    make_subscription(app_engine.database, events, "audited", "#", **PERSON)
    with pytest.raises(OperationalError):
        end_subscription(away, events, "audited", **PERSON)
    with pytest.raises(InvalidInput, match="who"):
        end_subscription(app_engine.database, events, "audited", who="", why="no reason")
    assert events.subscribed("audited")
    assert count("audit_log") == 1
    events.unsubscribe("audited")
