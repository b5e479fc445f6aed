"""`AppointmentCache`: it is one, it never keeps an old row, and it does without Redis."""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga, TransientError
from sagajobs.booking import cache as cache_module
from sagajobs.booking.cache import AppointmentCache
from tests.support.sagas import record


@pytest.fixture
def redis():
    from sagajobs.root import servers

    with Redis.from_url(servers().redis, decode_responses=True, socket_timeout=60) as client:
        yield client


@pytest.fixture
def cache(redis, app_engine, clean, monkeypatch):
    from sagajobs.root import servers

    monkeypatch.setattr(cache_module, "REDIS_TIMEOUT", 60)  # it is not away while the machine stands still
    return AppointmentCache(lambda: servers().redis, app_engine.database)


@pytest.fixture
def change(app_engine):
    """Changes an appointment past everything, as a statement of its own."""

    def run(assignment: str, appointment_id: int = 1) -> None:
        with app_engine.database.transaction() as connection:
            connection.execute(text(f"UPDATE appointments SET {assignment} WHERE id = {appointment_id}"))

    return run


@pytest.fixture
def appointment(app_engine, clean) -> int:
    """An appointment that no saga is at work on; its version is its event type."""
    with app_engine.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO customers (name, email, time_zone) VALUES ('Private Person', 'p@secret.example', 'UTC');"
                "INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, notes) "
                "VALUES (1, 0, saga_now(), saga_now() + interval '30 min', 'private notes')"
            )
        )
    return 1


def test_a_second_read_does_not_ask_the_database(cache, appointment, change, db):
    first = cache.get(appointment)
    assert (first.id, first.status, first.staff_id) == (1, "pending", None)
    change("event_type_id = 1")
    assert cache.get(appointment) == first


def test_what_was_invalidated_is_read_anew_and_kept_again(cache, appointment, change):
    cache.get(appointment)
    change("event_type_id = 1")
    assert cache.invalidate(appointment) is True
    assert cache.get(appointment).event_type_id == 1
    change("event_type_id = 2")
    assert cache.get(appointment).event_type_id == 1


def test_an_appointment_that_is_not_there_or_not_any_more_is_none_and_is_not_kept(cache, appointment, change):
    assert cache.get(4711) is None
    change("deleted_at = saga_now()")
    assert cache.get(appointment) is None
    change("deleted_at = NULL")
    assert cache.get(appointment).id == appointment
    assert cache.invalidate(4712) is False


class Stalling(AppointmentCache):
    """Stands still between its look into the database and what it makes of it."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.loaded, self.go_on = threading.Event(), threading.Event()

    def _load(self, appointment_id):
        found = super()._load(appointment_id)
        self.loaded.set()
        assert self.go_on.wait(60)
        return found


@pytest.mark.parametrize("another_reader", [False, True])
def test_a_reader_that_is_overtaken_by_a_writer_leaves_nothing_old(
    cache, app_engine, appointment, change, another_reader
):
    slow = Stalling(cache._url, app_engine.database)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(slow.get, appointment)
        assert slow.loaded.wait(60)
        change("event_type_id = 1")
        cache.invalidate(appointment)
        if another_reader:
            assert cache.get(appointment).event_type_id == 1
        slow.go_on.set()
        assert reading.result(120).event_type_id == 0, "what it had seen when it looked"
    assert cache.get(appointment).event_type_id == 1


def test_readers_and_a_writer_all_at_once(cache, appointment, change):
    """After each invalidation every read is of that version or a newer one."""
    done = threading.Event()
    seen_back = []
    newest = 0

    def read() -> None:
        while not done.is_set():
            least = newest
            found = cache.get(appointment).event_type_id
            if found < least:
                seen_back.append((least, found))

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        for version in range(1, 101):
            change(f"event_type_id = {version}")
            cache.invalidate(appointment)
            newest = version
        done.set()
        for reader in readers:
            reader.result(120)
    assert seen_back == []
    assert cache.get(appointment).event_type_id == 100


def test_an_appointment_that_its_saga_is_still_making_is_not_kept(cache, booking, staff, redis):
    """It gets its booking, then its staff member, and nobody need invalidate anything."""
    handle = record(AppointmentCreationSaga, booking())
    engine, seen = AppointmentCreationSaga.engine, []
    for step in AppointmentCreationSaga.definition.steps:
        engine.executor.forward(AppointmentCreationSaga, step, handle.id)
        found = cache.get(1)
        seen.append(found and (found.status, found.staff_id))
    assert seen == [None, ("pending", None), ("scheduled", None), ("scheduled", staff[0])]
    assert redis.hlen("sagajobs:appointment:1") == 2, "its token and, now that the saga has ended, its value"


def test_an_appointment_that_a_saga_holds_is_not_kept(cache, app_engine, appointment, change, clean):
    with app_engine.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO sagas (id, name, version, definition, state, input) VALUES "
                "('00000000-0000-0000-0000-000000000001', 'n', 1, 'd', 'manual_review_required', '{}');"
                "INSERT INTO saga_locks (resource, saga_id, held) VALUES "
                "('appointment:1', '00000000-0000-0000-0000-000000000001', true)"
            )
        )
    cache.get(appointment)
    change("event_type_id = 1")
    assert cache.get(appointment).event_type_id == 1
    with app_engine.database.transaction() as connection:
        connection.execute(text("UPDATE sagas SET ended_at = saga_now()"))
    cache.get(appointment)
    change("event_type_id = 2")
    assert cache.get(appointment).event_type_id == 1, (
        "kept: the saga was abandoned, and the lock that it left behind does not count"
    )


def test_nothing_about_a_person_lies_in_redis_and_nothing_lies_there_for_ever(cache, appointment, change, redis):
    change("calcom_v2_booking_id = 'secret-uid', calcom_sync_status = 'synced'")  # whoever knows it can cancel
    cache.get(appointment)
    (key,) = redis.keys("sagajobs:appointment:*")
    assert 0 < redis.ttl(key) <= 300
    everything = f"{key} {redis.hgetall(key)}".lower()
    assert "secret" not in everything
    assert "private" not in everything


def test_a_reader_that_finds_nothing_leaves_a_token_for_a_minute_only(cache, clean, redis):
    cache.get(4711)
    assert 0 < redis.ttl("sagajobs:appointment:4711") <= 60


def test_deployments_that_share_a_redis_do_not_see_each_others_appointments(cache, app_engine, appointment, change):
    from sagajobs.root import servers

    theirs = AppointmentCache(lambda: servers().redis, app_engine.database, "theirs.")
    assert cache.get(appointment).event_type_id == 0
    change("event_type_id = 7")  # as if in a database of theirs
    assert theirs.get(appointment).event_type_id == 7
    assert theirs.invalidate(appointment)
    assert cache.get(appointment).event_type_id == 0, "which is still kept"


@pytest.fixture
def lonely(app_engine):
    """A cache whose Redis is not there: its port is bound, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield AppointmentCache(lambda: f"redis://127.0.0.1:{taken.getsockname()[1]}", app_engine.database)


def test_without_redis_the_database_answers_and_the_log_is_told_once(lonely, appointment, change, caplog):
    caplog.set_level(logging.WARNING)
    assert lonely.get(appointment).event_type_id == 0
    change("event_type_id = 1")
    assert lonely.get(appointment).event_type_id == 1
    (warning,) = [line for line in caplog.messages if "no cache" in line]
    assert warning == "no cache (ConnectionError): appointments are read from the database"


def test_without_redis_an_invalidation_is_to_be_tried_again(lonely):
    with pytest.raises(TransientError, match="did not forget"):
        lonely.invalidate(1)
