"""`sagajobs events`: on and off, who subscribes, what waits."""

from __future__ import annotations


def test_an_operator_turns_events_on_sees_what_waits_and_ends_a_subscription(shell, sql):
    assert shell.sagajobs("events", "status").out == "events are off\nin the outbox: 0\nnobody subscribes\n"
    on = shell.sagajobs("events", "on", "--who", "night shift", "--why", "the reports need them")
    assert on.out.startswith("saga.events is on since ")
    assert on.out.endswith(", turned by night shift: the reports need them\n")
    assert shell.sagajobs("events", "subscribe", "reports").out == "subscription reports keeps events from now on\n"
    shell.book("run", 40)
    waiting = shell.sagajobs("events", "status", "--json").json
    kept = waiting["outbox"]["events"]
    assert waiting["on"] is True
    assert kept > 4
    assert waiting["subscriptions"] == {"reports": 0}
    swept = shell.sagajobs("sweep", "events")
    assert swept.status == 0, swept.err
    assert f"{kept} events sent" in swept.out
    assert shell.sagajobs("events", "status").out == (
        f"events are on\nin the outbox: 0\nsubscription reports: {kept} not taken yet\n"
    )
    ended = shell.sagajobs("events", "unsubscribe", "reports")
    assert ended.out == f"subscription reports is ended; {kept} events that nobody had taken are gone with it\n"
    off = shell.sagajobs("events", "off", "--why", "no reports any more", "--json").json
    assert (off["switch"], off["value"]) == ("saga.events", False)
    sql("DELETE FROM switches")
    sql("DELETE FROM sagas")


def test_what_makes_no_sense_is_one_line(shell):
    wrong = shell.sagajobs("events", "subscribe", "the reports")
    assert (wrong.status, wrong.err.count("\n")) == (1, 1)
    assert "a subscription's name is 1 to 100 letters" in wrong.err
    away = shell.with_env(SAGAJOBS_BROKER_URL="redis://127.0.0.1:1/0").sagajobs("events", "subscribe", "reports")
    assert (away.status, away.err.count("\n")) == (1, 1)
    assert "SAGAJOBS_BROKER_URL" in away.err
