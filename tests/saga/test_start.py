"""Starting a saga: in its own transaction or in the caller's, once or again with the same key."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from celery.signals import before_task_publish
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sagajobs.errors import (
    DefinitionError,
    IdempotencyConflict,
    InvalidInput,
    SagaNotFinished,
    SagaNotFound,
    TransientError,
)
from sagajobs.saga import Canvas, Database, Engine, Saga, SagaHandle, step
from sagajobs.testing.waiting import wait_for
from tests.support.sagas import Input, Scripted


class Hints:
    """A publisher that only remembers: what would have been sent, when."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def add(self, kind):
        pass

    def steps(self, kind, saga_id, names):
        self.sent.append(saga_id)

    def compensation(self, kind, saga_id):
        raise AssertionError("nothing is undone here")


@pytest.fixture
def hints(app_engine, world, monkeypatch) -> Hints:
    hints = Hints()
    monkeypatch.setattr(app_engine, "publisher", hints)
    yield hints
    for (saga_id,) in _sagas(app_engine):
        app_engine.drive(Scripted, saga_id)


@pytest.fixture
def published() -> Iterator[list[tuple]]:
    """What is published: headers and body of each message."""
    messages: list[tuple] = []

    def note(headers=None, body=None, **_):
        messages.append((headers, body))

    before_task_publish.connect(note)
    yield messages
    before_task_publish.disconnect(note)


def _sagas(app_engine):
    with app_engine.database.reading() as connection:
        return [(str(row.id),) for row in connection.execute(text("SELECT id FROM sagas"))]


def test_the_hint_follows_the_commit(app_engine, hints):
    handle = Scripted.enqueue({})
    assert hints.sent == [handle.id]
    assert handle.created
    assert handle.status() == "pending"


def test_in_the_callers_transaction_the_hint_waits_for_his_commit(app_engine, hints):
    with Session(app_engine.database.engine) as session:
        handle = Scripted.enqueue({}, session=session)
        assert hints.sent == []
        with pytest.raises(SagaNotFound):
            handle.status()
        session.commit()
        assert hints.sent == [handle.id]
        session.execute(text("SELECT 1"))
        session.commit()
    assert hints.sent == [handle.id], "once, not at every later commit"


def test_rolled_back_with_the_caller_the_saga_never_was(app_engine, hints):
    with Session(app_engine.database.engine) as session:
        Scripted.enqueue({}, session=session)
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    assert hints.sent == []
    assert _sagas(app_engine) == []


def test_a_savepoint_released_is_no_commit(app_engine, hints):
    with Session(app_engine.database.engine) as session:
        with session.begin_nested():
            handle = Scripted.enqueue({}, session=session)
        assert hints.sent == []
        with session.begin_nested():
            session.execute(text("SELECT 1"))
        assert hints.sent == []
        session.commit()
    assert hints.sent == [handle.id]


def test_the_same_key_leads_to_the_first_saga(hints):
    first = Scripted.enqueue({"skip": True}, idempotency_key="order-1")
    second = Scripted.enqueue({"skip": True}, idempotency_key="order-1")
    assert (second.id, second.created) == (first.id, False)
    assert hints.sent == [first.id]


def test_the_same_key_with_another_input_is_refused(hints):
    first = Scripted.enqueue({"skip": True}, idempotency_key="order-1")
    with pytest.raises(IdempotencyConflict, match=first.id):
        Scripted.enqueue({"skip": False}, idempotency_key="order-1")


def test_a_hundred_starts_with_one_key_at_once_are_one_saga(app_engine, hints):
    with ThreadPoolExecutor(16) as pool:
        handles = list(pool.map(lambda _: Scripted.enqueue({}, idempotency_key="rush"), range(100)))
    assert len({handle.id for handle in handles}) == 1
    assert sum(handle.created for handle in handles) == 1
    assert len(_sagas(app_engine)) == 1


def test_a_start_overtaken_by_another_with_its_key_leads_to_that_one(app_engine, hints):
    """It has looked, found nobody, and waits for the other one's commit."""
    with ThreadPoolExecutor(1) as pool, Session(app_engine.database.engine) as session:
        first = Scripted.enqueue({}, session=session, idempotency_key="order-1")
        overtaken = pool.submit(Scripted.enqueue, {}, idempotency_key="order-1")
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"
        )
        with app_engine.database.reading() as connection:
            wait_for(lambda: connection.execute(waiting).scalar_one())
        session.commit()
        second = overtaken.result()
    assert (second.id, second.created) == (first.id, False)
    assert _sagas(app_engine) == [(first.id,)]


def test_bad_input_writes_nothing(app_engine, hints):
    with pytest.raises(InvalidInput, match="skip"):
        Scripted.enqueue({"skip": "perhaps"})
    assert _sagas(app_engine) == []


def test_a_message_carries_ids_and_names_only(app_engine, world, _clean_broker, published):
    """The input, which may be about a person, stays in the database (G7); also what lies in the rest of the chain."""
    handle = Scripted.enqueue({"script": {"call": ["private+ok"]}})
    ((headers, body),) = published
    assert body[:2] == ((), {"saga_id": handle.id})
    assert "private" not in f"{headers} {body}"
    app_engine.drive(Scripted, handle.id)


def test_no_broker_is_no_error(app_engine, world, monkeypatch, caplog):
    """A publisher that cannot reach the broker leaves the hint to the sweep."""
    monkeypatch.setattr(Scripted, "engine", app_engine)
    lonely = Engine(Database(lambda: app_engine.database.engine.url.render_as_string(hide_password=False)))
    kind = type(Scripted)("Lonely", (Scripted,), {"name": "lonely", "Input": Scripted.Input})
    lonely.register(kind, world)
    app = Celery("lonely", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.broker_transport_options = {"max_retries": 1, "socket_connect_timeout": 0.5}
    Canvas(app, lonely)
    handle = kind.enqueue({})
    assert handle.status() == "pending"
    assert "left to the sweep" in caplog.text
    lonely.drive(kind, handle.id)
    lonely.database.close()


def test_a_queue_that_does_not_exist_is_no_error_of_a_start_that_is_committed(app_engine, world, caplog):
    kind = type(Saga)(
        "Elsewhere",
        (Saga,),
        {"name": "elsewhere", "Input": Input, "act": step(irreversible=True, queue="nowhere")(lambda self, db: None)},
    )
    app_engine.register(kind)
    handle = kind.enqueue({})
    assert "QueueNotFound" in caplog.text
    app_engine.drive(kind, handle.id)
    del app_engine.kinds["elsewhere"]


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "a\nb", "x" * 201, 7])
def test_an_idempotency_key_that_cannot_be_one_is_refused(hints, key):
    with pytest.raises(InvalidInput, match="printable"):
        Scripted.enqueue({}, idempotency_key=key)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_an_input_that_cannot_be_stored_is_refused(hints, bad):
    with pytest.raises(InvalidInput):
        Scripted.enqueue({"script": {"first": [bad]}})


def test_an_id_that_is_none_is_not_found(app_engine):
    handle = SagaHandle("no uuid", engine=app_engine)
    for ask in (handle.status, handle.record, handle.result):
        with pytest.raises(SagaNotFound):
            ask()


def test_a_database_that_is_busy_in_the_middle_of_run_is_not_a_failure(world, app_engine, monkeypatch):
    def busy(*_, **__):
        raise TransientError("a lock")

    with monkeypatch.context() as patch:
        patch.setattr(Scripted.definition.step("call"), "note", busy)
        with pytest.raises(SagaNotFinished, match="the workers carry it on"):
            Scripted.run({})
    with app_engine.database.transaction() as connection:
        saga_id = connection.execute(text("SELECT id FROM sagas")).scalar_one()
        connection.execute(text("UPDATE saga_steps SET lease_until = NULL"))
    record, _ = app_engine.drive(Scripted, str(saga_id))
    assert record.state == "completed"


def test_a_handle_needs_only_an_id(hints):
    handle = Scripted.enqueue({})
    assert SagaHandle(handle.id).status() == "pending"
    with pytest.raises(SagaNotFound, match="no saga"):
        SagaHandle("00000000-0000-0000-0000-000000000000").status()


def test_a_saga_that_is_not_registered_says_so():
    kind = type(Saga)("Stray", (Saga,), {"name": "stray", "Input": Scripted.Input, "act": step(optional=True)(_none)})
    with pytest.raises(DefinitionError, match=r"engine\.register\(Stray\)"):
        kind.enqueue({})


def _none(_self, _db):
    return None


def test_of_a_session_for_each_thread_only_that_of_this_one_is_listened_to(app_engine, hints):
    factory = sessionmaker(app_engine.database.engine)
    sessions = scoped_session(factory)
    handle = Scripted.enqueue({}, session=sessions)
    assert hints.sent == []
    sessions.commit()
    assert hints.sent == [handle.id]
    sessions.remove()
    with factory() as another, another.begin():
        another.execute(text("SELECT 1"))
    assert hints.sent == [handle.id]


@pytest.mark.parametrize("wrong", ["postgresql://", 7, AsyncSession()])
def test_what_is_no_session_is_refused(hints, wrong):
    with pytest.raises(InvalidInput, match="a SQLAlchemy Session is wanted"):
        Scripted.enqueue({}, session=wrong)


def test_a_session_of_another_kind_of_database_is_refused_before_it_sees_anything(hints):
    with Session(create_engine("sqlite://")) as session, pytest.raises(InvalidInput, match="bound to sqlite"):
        Scripted.enqueue({}, session=session)
