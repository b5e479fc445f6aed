"""`sagajobs events`: on and off, who subscribes, what waits."""

from __future__ import annotations

import pytest
from celery import Celery
from sqlalchemy import text

from sagajobs.saga.bus import Bus
from tests.cli.inprocess import sagajobs
from tests.support.ownredis import OwnRedis


def test_an_operator_turns_events_on_sees_what_waits_and_ends_a_subscription(shell, sql):
    assert shell.sagajobs("events", "status").out == "events are off\nin the outbox: 0\nnobody subscribes\n"
    on = shell.sagajobs("events", "on", "--who", "night shift", "--why", "the reports need them")
    assert on.out.startswith("saga.events is on since ")
    assert on.out.endswith(", turned by night shift: the reports need them\n")
    made = shell.sagajobs("events", "subscribe", "reports", "--who", "Ann", "--why", "the reports count ends")
    assert made.out == "subscription reports keeps events from now on\n"
    shell.book("run", 40)
    waiting = shell.sagajobs("events", "status", "--json").json
    kept = waiting["outbox"]["events"]
    assert waiting["on"] is True
    assert kept > 4
    assert waiting["subscriptions"] == {"reports": 0}
    swept = shell.sagajobs("sweep", "events")
    assert swept.status == 0, swept.err
    assert f"events sent: {kept}" in swept.out
    assert shell.sagajobs("events", "status").out == (
        f"events are on\nin the outbox: 0\nsubscription reports: {kept} not taken yet\n"
    )
    ended = shell.sagajobs("events", "unsubscribe", "reports", "--who", "Bob", "--why", "the reports are given up")
    assert ended.out == f"subscription reports is ended; {kept} events that nobody had taken are gone with it\n"
    acts = sql("SELECT action, actor, detail FROM audit_log WHERE entity = 'subscription' ORDER BY id")
    about = {"subscription": "reports"}
    assert [tuple(act) for act in acts] == [
        ("subscription.made", "Ann", {**about, "pattern": "#", "why": "the reports count ends"}),
        ("subscription.ended", "Bob", {**about, "dropped": kept, "why": "the reports are given up"}),
    ]
    off = shell.sagajobs("events", "off", "--why", "no reports any more", "--json").json
    assert (off["switch"], off["value"]) == ("saga.events", False)
    sql("DELETE FROM switches")
    sql("DELETE FROM sagas")


def test_what_makes_no_sense_is_one_line(shell, one_line, sql):
    why = ("--why", "to try it")
    for act in ("subscribe", "unsubscribe"):
        silent = shell.sagajobs("events", act, "reports")
        assert (silent.status, "--why" in silent.err) == (2, True)
        one_line(shell.sagajobs("events", act, "reports", "--why", " "), "give the reason")
    one_line(shell.sagajobs("events", "subscribe", "the reports", *why), "a subscription's name is 1 to 100 letters")
    one_line(shell.sagajobs("events", "subscribe", "r", "--pattern", "step_failed", *why), "a pattern is SAGA.EVENT")
    one_line(
        shell.sagajobs("events", "unsubscribe", "report", *why),
        "Error: nobody has subscribed as report; `sagajobs events status` lists who has\n",
    )
    away = shell.with_env(SAGAJOBS_BROKER_URL="redis://127.0.0.1:1/0")
    one_line(away.sagajobs("events", "subscribe", "reports", *why), "SAGAJOBS_BROKER_URL")
    status = away.sagajobs("events", "status")
    one_line(status, "SAGAJOBS_BROKER_URL")
    assert "in the outbox: " in status.out, "which the database knows"
    assert sql("SELECT FROM audit_log WHERE detail ->> 'why' = 'to try it'") == []


@pytest.mark.parametrize(
    "typed", [("status",), ("subscribe", "r", "--why", "to try it"), ("unsubscribe", "r", "--why", "to try it")]
)
def test_a_broker_that_goes_away_meanwhile_is_one_line_and_no_act(nobody_told, one_line, monkeypatch, tmp_path, typed):
    with OwnRedis(tmp_path) as broker, Celery(broker=broker.url.replace("unix://", "redis+socket://")) as app:
        lost = Bus(lambda: app)
        lost.subscribe("r")
        broker.kill()
        monkeypatch.setattr("sagajobs.cli.events.bus", lambda: lost)
        one_line(sagajobs("events", *typed), "the broker, or Redis, failed: ", "; type it again when it is back\n")
    with nobody_told.database.reading() as db:
        assert db.execute(text("SELECT count(*) FROM audit_log")).scalar_one() == 0
