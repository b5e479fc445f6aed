"""The event bus: subscribers are told what becomes of sagas, at least once and in order, whatever is away meanwhile."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import socket
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from celery.schedules import schedule
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from kombu.exceptions import OperationalError
from sqlalchemy import make_url, text

from sagajobs.desk.answering import workers_answering
from sagajobs.errors import ConfigurationError
from sagajobs.root import app, events, saga_events, settings
from sagajobs.runtime.urls import as_broker
from sagajobs.saga import SagaOrchestrator, sending
from sagajobs.saga.bus import Bus, document
from sagajobs.saga.canvas import SagaTask
from sagajobs.saga.outbox import BATCH, Happening, relay, relaying, waiting
from sagajobs.saga.sweeps import run
from sagajobs.testing.waiting import wait_for
from tests.support.ownredis import OwnRedis
from tests.support.sagas import Scripted, record
from tests.support.silent import way_to
from tests.support.wide import Wide

LONG = 30
"""Seconds that nobody waits for a broker that says nothing."""

TOLD = text("SELECT event, step FROM saga_events WHERE saga_id = :id ORDER BY id")


@pytest.fixture
def kept(world, _clean_broker):
    """Events are kept from now on."""
    saga_events.turn(True, who="tests", why="to see them")
    yield
    left = events.subscriptions()
    for name in ("reports", "failures") if left is None else left:
        events.unsubscribe(name)


class Hands:
    """A broker that takes so many events, and then no more."""

    def __init__(self, takes: int = 10**6) -> None:
        self.takes = takes
        self.has: list[Happening] = []

    def send(self, happenings):
        taken = list(happenings)[: self.takes]
        self.takes -= len(taken)
        self.has += taken
        return len(taken)


def take(how_many: int, name: str = "reports", bus: Bus = events) -> list[dict]:
    """Take so many events of a subscription, over a connection of its own."""
    taken: list[dict] = []

    def handle(event: dict) -> None:
        taken.append(event)
        follower.should_stop = len(taken) == how_many

    follower = bus.follow(name, handle)
    running = threading.Thread(target=follower.run)
    running.start()
    running.join(60)
    follower.should_stop = True
    running.join()
    follower.connection.release()
    return taken


def history(db, saga_id: str) -> list[tuple]:
    return [tuple(row) for row in db.execute(TOLD, {"id": saga_id})]


def told(events_taken: list[dict]) -> dict[str, list[tuple]]:
    by_saga: dict[str, list[tuple]] = defaultdict(list)
    for event in events_taken:
        by_saga[event["subject"]].append((event["data"]["event"], event["data"].get("step")))
    return by_saga


def test_workers_tell_a_subscriber_all_that_the_history_says_in_its_order(kept, workers, db, tmp_path):
    events.subscribe("reports")
    workers(beat=True)
    handles = [Wide.enqueue({"items": 4}) for _ in range(5)]
    handles += [Scripted.enqueue({"script": {"first": ["transient", "ok"], "last": ["permanent"]}}) for _ in range(5)]
    assert {handle.wait(90) for handle in handles} == {"completed", "compensated"}
    wanted = {handle.id: history(db, handle.id) for handle in handles}
    taken = take(sum(map(len, wanted.values())))
    assert told(taken) == wanted
    wait_for(lambda: waiting(Scripted.engine)[0] == 0)  # the sender notes what it has sent when the broker has it


def test_an_event_is_a_cloudevent_and_has_nothing_personal(kept, app_engine):
    events.subscribe("reports", "scripted.saga_created")
    handle = record(Scripted, {"script": {"first": ["ok", "confidential"]}})
    app_engine.drive(Scripted, handle.id)
    assert relay(app_engine, events) > 4
    [event] = take(1)
    read = JSONFormat().read(CloudEvent, json.dumps(event))
    assert (read.get_type(), read.get_source()) == (
        "sagajobs.saga_created",
        f"/{settings().queue_prefix}sagajobs/scripted",
    )
    assert read.get_subject() == read.get_extension("partitionkey") == handle.id
    assert read.get_data() == {"saga": "scripted", "saga_id": handle.id, "event": "saga_created"}
    assert read.get_extension("sequence") == f"{int(read.get_id()):020d}"


def test_a_saga_of_plain_functions_may_have_any_name_and_stops_no_other_events(kept, app_engine):
    name = "gift wrapping. " + "für zwei/" * 60
    events.subscribe("reports")
    SagaOrchestrator(name, engine=app_engine).complete()
    app_engine.drive(Scripted, record(Scripted, {}).id)
    sent = relay(app_engine, events)
    assert (sent > 6, waiting(app_engine)[0]) == (True, 0)
    first, *_ = take(sent)
    assert first["data"]["saga"] == name
    JSONFormat().read(CloudEvent, json.dumps(first))
    assert re.fullmatch(r"/[\w.-]*sagajobs/[\w.~%-]+", first["source"], re.ASCII), "a URI reference"


def test_a_trace_goes_along(app_engine):
    happening = Happening(7, "id", "scripted", "saga_created", None, None, datetime.now(UTC), "00-1")
    assert document(happening)["traceparent"] == "00-1"
    assert document(happening, "blue.")["source"] == "/blue.sagajobs/scripted"


def test_while_nobody_has_turned_it_on_nothing_is_kept(world, app_engine):
    app_engine.drive(Scripted, record(Scripted, {}).id)
    assert waiting(app_engine) == (0, 0.0)


def test_what_the_broker_does_not_take_waits_in_its_order(kept, app_engine, db):
    handles = [record(Scripted, {}) for _ in range(3)]
    for handle in handles:
        app_engine.drive(Scripted, handle.id)
    wanted = {handle.id: history(db, handle.id) for handle in handles}
    total = sum(map(len, wanted.values()))
    hands = Hands(takes=7)
    assert relay(app_engine, hands) == 7
    count, oldest = waiting(app_engine)
    assert (count, oldest > 0) == (total - 7, True)
    assert relay(app_engine, hands) == 0
    hands.takes = 10**6
    assert relay(app_engine, hands) == total - 7
    assert told([document(one) for one in hands.has]) == wanted
    assert [one.number for one in hands.has] == sorted(one.number for one in hands.has)


def test_more_than_a_batch_is_sent_in_one_run(kept, app_engine):
    for _ in range(BATCH // 2 + 1):
        record(Scripted, {"script": {}})
    with app_engine.database.transaction() as connection:
        connection.execute(text("INSERT INTO saga_events (saga_id, event) SELECT id, 'saga_paused' FROM sagas"))
    hands = Hands()
    assert relay(app_engine, hands) == BATCH + 2 == len(hands.has)
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def test_a_sender_that_dies_in_the_middle_sends_once_more_and_loses_nothing(kept, app_engine):
    app_engine.drive(Scripted, record(Scripted, {}).id)

    class Dying(Hands):
        def send(self, happenings):
            super().send(happenings)
            raise KeyboardInterrupt

    dying, living = Dying(), Hands()
    with pytest.raises(KeyboardInterrupt):
        relay(app_engine, dying)
    relay(app_engine, living)
    assert living.has == dying.has
    assert len(living.has) > 4


def test_two_senders_at_once_do_not_overtake_each_other(kept, app_engine):
    app_engine.drive(Scripted, record(Scripted, {}).id)
    others: list[int] = []

    class Meeting(Hands):
        def send(self, happenings):
            others.append(relay(app_engine, Hands()))
            return super().send(happenings)

    assert relay(app_engine, Meeting()) > 4
    assert others == [0]


def test_a_broker_that_is_away_keeps_no_saga_waiting(kept, app_engine, caplog):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        away = app.__class__("away", broker=f"redis://127.0.0.1:{taken.getsockname()[1]}/0", set_as_current=False)
        away.conf.broker_transport_options = {"max_retries": 0, "socket_connect_timeout": 1}
        app_engine.drive(Scripted, record(Scripted, {}).id)
        assert relay(app_engine, Bus(lambda: away)) == 0
    assert waiting(app_engine)[0] > 4
    assert any("events wait in the outbox" in one.getMessage() for one in caplog.records)


@pytest.fixture
def way():
    """A way to RabbitMQ."""
    url = make_url(str(app.conf.broker_url))
    if not url.drivername.startswith("amqp"):
        pytest.skip("Redis does not confirm")
    with way_to(url.host, url.port or 5672) as way:
        yield way


@pytest.fixture
def by_way(way, monkeypatch):
    """A Celery app like ours that goes this way. It waits for confirmations for a second each, as there are several."""
    monkeypatch.setattr(sending, "CONFIRM_WITHIN", 1.0)
    url = make_url(str(app.conf.broker_url)).set(host="127.0.0.1", port=way.port)
    with Celery(broker=url.render_as_string(hide_password=False), amqp=type(app.amqp), set_as_current=False) as by_way:
        by_way.conf.broker_transport_options = app.conf.broker_transport_options

        @by_way.task(name="scripted.first", base=SagaTask, shared=False)
        def first() -> None:
            """Never run."""

        yield by_way
        by_way.amqp.producer_pool.connections.force_close_all()


def hint(by_way: Celery) -> bool:
    """Tell whether the broker has taken a hint."""
    try:
        by_way.tasks["scripted.first"].apply_async(queue=app.amqp.queues["saga.steps"])
    except OperationalError:
        return False
    return True


def beaten(beat: Scheduler) -> bool:
    """Tell whether the broker has taken what beat sends, which has a connection of its own."""
    options = {"queue": app.amqp.queues["saga.sweep"]}
    entry = ScheduleEntry(name="first", task="scripted.first", schedule=schedule(1), app=beat.app, options=options)
    try:
        beat.apply_async(entry, producer=beat.producer)
    except SchedulingError:
        return False
    return True


@pytest.fixture(params=["sender", "starter", "asker", "beat"])
def send(request, app_engine, by_way):
    """What one of those does who send; returns whether the broker has taken it."""

    beat = Scheduler(by_way, lazy=True)

    def send(bus: Bus) -> bool:
        if request.param == "asker":
            return workers_answering(by_way) is not None
        if request.param == "beat":
            return beaten(beat)
        return hint(by_way) if request.param == "starter" else relay(app_engine, bus) > 4

    yield send
    if "connection" in vars(beat):
        beat.connection.collect()


def test_a_rabbitmq_that_falls_silent_holds_nobody(kept, app_engine, way, by_way, send):
    """As it does when its machine is cut off: connections stay, and nothing is answered."""
    bus = Bus(lambda: by_way, settings().queue_prefix)
    app_engine.drive(Scripted, record(Scripted, {}).id)
    assert send(bus)
    app_engine.drive(Scripted, record(Scripted, {}).id)
    way.through.clear()
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send, bus)
        try:
            assert not sent.result(LONG)
        finally:
            way.through.set()


def test_a_rabbitmq_that_confirms_nothing_holds_nobody_and_loses_no_event(kept, app_engine, way, by_way, send):
    """As it does when it is short of memory or disk; what it confirms late is not taken for the next event's.

    One that was refused, as a queue was full, would be deleted as sent.
    """
    bus = Bus(lambda: by_way, settings().queue_prefix, full=3)
    bus.subscribe("reports")
    app_engine.drive(Scripted, record(Scripted, {}).id)
    with app_engine.database.reading() as connection:
        wanted = {str(number) for number in connection.execute(text("SELECT id FROM outbox")).scalars()}
    way.confirming.clear()
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send, bus)
        try:
            assert not sent.result(LONG), "it does not wait for an answer to its goodbye either"
        finally:
            way.confirming.set()
    assert relay(app_engine, bus) < len(wanted)
    taken: set[str] = set()
    follower = bus.follow("reports", lambda event: taken.add(event["id"]))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(follower.run)
        try:
            wait_for(lambda: relay(app_engine, bus) == waiting(app_engine)[0] == 0)
            wait_for(lambda: taken >= wanted)
        finally:
            follower.should_stop = True
        running.result(60)
    follower.connection.release()


def test_parent_and_child_of_a_fork_share_no_connection(way, by_way):
    """As where a web server loads the application, which starts a saga, and forks then; Celery hears nothing of it."""
    assert hint(by_way)
    child = os.fork()
    if child == 0:
        os._exit(0 if hint(by_way) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert hint(by_way)
    assert way.taken == 2


def test_a_broker_that_goes_away_meanwhile_is_one_error_whichever_it_is(tmp_path):
    with OwnRedis(tmp_path) as broker, Celery(broker=as_broker(broker.url), set_as_current=False) as away:
        bus = Bus(lambda: away)
        bus.subscribe("reports")
        broker.kill()
        for act in (bus.subscriptions, partial(bus.subscribe, "reports"), partial(bus.unsubscribe, "reports")):
            with pytest.raises(OperationalError):
                act()


def test_a_subscriber_who_is_behind_has_the_events_wait_in_the_outbox(kept, app_engine):
    small = Bus(lambda: app, settings().queue_prefix, full=3)
    small.subscribe("reports")
    app_engine.drive(Scripted, record(Scripted, {}).id)
    total, _ = waiting(app_engine)
    sent = relay(app_engine, small)
    # RabbitMQ refuses once the limit is passed, and may take a few beyond it.
    rabbitmq = app.conf.broker_url.startswith("amqp")
    assert (3 <= sent < total) if rabbitmq else sent == 3
    assert rabbitmq or relay(app_engine, small) == 0
    assert len(take(3, bus=small)) == 3
    assert relay(app_engine, small) > 0


class Counting:
    """A bus, and how often it was given events."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.asked = 0

    def send(self, happenings) -> int:
        self.asked += 1
        return self._bus.send(happenings)


def test_a_broker_that_takes_none_is_not_asked_each_second(kept, app_engine):
    """RabbitMQ gives an event that one full queue refuses to all others, once more at each try."""
    small = Bus(lambda: app, settings().queue_prefix, full=3)
    small.subscribe("reports")
    app_engine.drive(Scripted, record(Scripted, {}).id)
    while relay(app_engine, small):
        pass

    counted = Counting(small)
    for sweep in (relaying(counted, every=30), relaying(counted, every=30)):
        assert [run(app_engine, sweep).found for _ in range(5)] == [0] * 5
    assert counted.asked == 2, "each process once"

    quick = relaying(counted, every=0.01)
    for _ in range(3):
        run(app_engine, quick)
    take(3, bus=small)
    wait_for(lambda: run(app_engine, quick).found)


def test_a_subscription_is_made_followed_and_ended(kept, app_engine):
    events.subscribe("failures", "*.step_failed")
    handle = record(Scripted, {"script": {"first": ["permanent"]}})
    app_engine.drive(Scripted, handle.id)
    relay(app_engine, events)
    if (counted := events.subscriptions()) is not None:
        assert counted == {"failures": 1}
    [event] = take(1, "failures")
    assert event["data"] == {
        "saga": "scripted",
        "saga_id": handle.id,
        "event": "step_failed",
        "step": "first",
        "attempt": 1,
    }
    app_engine.drive(Scripted, record(Scripted, {"script": {"first": ["permanent"]}}).id)
    relay(app_engine, events)
    assert events.unsubscribe("failures") == 1, "its follower asked for no more than it was made for"
    assert events.subscriptions() in (None, {})


@pytest.mark.parametrize("error", [RuntimeError, ConnectionError])
def test_what_a_subscriber_fails_on_ends_its_run_and_comes_again(kept, app_engine, error):
    """Also what looks like the broker's absence and is that of somebody whom the subscriber has called."""
    events.subscribe("reports", "scripted.saga_created")
    record(Scripted, {})
    relay(app_engine, events)

    failed = []

    def fail(event: dict) -> None:
        failed.append(event["type"])
        raise error(event["type"]) if len(failed) == 1 else AssertionError("it was given the event again")

    follower = events.follow("reports", fail)
    with pytest.raises(error, match="saga_created"):
        follower.run()
    follower.connection.release()
    assert [event["type"] for event in take(1)] == ["sagajobs.saga_created"]
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def test_who_follows_a_subscription_that_is_ended_is_told_and_the_next_one_makes_another(kept, app_engine):
    events.subscribe("reports", "scripted.saga_created")
    record(Scripted, {})
    relay(app_engine, events)
    follower = events.follow("reports", lambda _event: events.unsubscribe("reports"))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(follower.run)
        try:
            with pytest.raises(ConfigurationError, match="the subscription reports was ended"):
                running.result(20)
        finally:
            follower.should_stop = True
    follower.connection.release()
    app_engine.drive(Scripted, record(Scripted, {}).id)
    anew = events.follow("reports", lambda _event: None)
    anew.connection.release()
    sent = relay(app_engine, events)
    assert sent > 4
    assert len(take(sent)) == sent, "of all events"
    with app_engine.database.transaction() as connection:
        connection.execute(text("DELETE FROM sagas"))


def test_what_a_killed_subscriber_had_in_hand_comes_first(kept, app_engine):
    events.subscribe("reports")
    handle = record(Scripted, {})
    app_engine.drive(Scripted, handle.id)
    total = relay(app_engine, events)
    child = os.fork()
    if child == 0:
        events.follow("reports", lambda _event: os.kill(os.getpid(), signal.SIGKILL)).run()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    numbers = [event["sequence"] for event in take(total)]
    assert (len(numbers), numbers) == (total, sorted(numbers))
    assert not events.subscriptions() or events.subscriptions() == {"reports": 0}


def test_of_two_subscribers_at_once_none_is_given_an_event_before_its_predecessor_is_handled(kept, app_engine):
    events.subscribe("reports")
    app_engine.drive(Scripted, record(Scripted, {}).id)
    total = relay(app_engine, events)
    begun, handled, early = list[str](), set[str](), list[str]()

    def handle(event: dict) -> None:
        begun.append(event["sequence"])
        early.extend(number for number in set(begun) if number < event["sequence"] and number not in handled)
        threading.Event().wait(0.02)  # the other one has time to go ahead
        handled.add(event["sequence"])
        if len(handled) == total:
            for follower in followers:
                follower.should_stop = True

    followers = [events.follow("reports", handle) for _ in range(2)]
    running = [threading.Thread(target=follower.run) for follower in followers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
    for follower in followers:
        follower.connection.release()
    assert (len(handled), early) == (total, [])


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "a.b"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match="a subscription's name is"):
        events.subscribe(name)


def test_the_example_counts_each_end_once_though_told_twice(kept, app_engine):
    example = runpy.run_path("examples/subscriber.py")
    handles = [record(Scripted, {}), record(Scripted, {"script": {"first": ["permanent"]}})]
    events.subscribe("reports")
    for handle in handles:
        app_engine.drive(Scripted, handle.id)
    with app_engine.database.transaction() as connection:
        connection.execute(text(example["TABLES"]))
    total = relay(app_engine, events)
    for event in take(total) * 2:
        example["handle"](event)
    with app_engine.database.transaction() as connection:
        counted = connection.execute(text("SELECT saga, event, sagas FROM report_ends ORDER BY 2")).all()
        connection.execute(text("DROP TABLE report_seen, report_ends"))
    assert [tuple(row) for row in counted] == [("scripted", "saga_compensated", 1), ("scripted", "saga_completed", 1)]
