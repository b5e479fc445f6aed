"""The guides of docs/web.md run as they stand: a request that fails leaves no saga, one that is committed starts it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import types
from pathlib import Path

import pytest
from celery.signals import before_task_publish
from sqlalchemy import text

from sagajobs import ConfigurationError, SagaHandle

GUIDE = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
FLASK, FASTAPI, DJANGO, AFTER = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


def ran(block: str, name: str, names: dict | None = None) -> types.ModuleType:
    """Run a block as a module that can be imported by its name."""
    module = types.ModuleType(name)
    module.__dict__.update(names or {})
    sys.modules[name] = module
    exec(compile(block, f"docs/web.md ({name})", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the test
    return module


@pytest.fixture(autouse=True)
def _orders(app_engine, clean, simulator):
    with app_engine.database.transaction() as connection:
        connection.execute(text("CREATE TABLE orders (saga_id uuid, note text NOT NULL)"))
    yield
    with app_engine.database.transaction() as connection:
        connection.execute(text("DROP TABLE orders"))


@pytest.fixture
def flask_client():
    client = ran(FLASK, "guide_flask").app.test_client()
    assert client.get("/book/nonsense").status_code == 404
    return lambda form: _answer(client.post("/book", json=form), lambda reply: reply.json)


@pytest.fixture
def fastapi_client():
    from httpx import ASGITransport, AsyncClient

    transport = ASGITransport(ran(FASTAPI, "guide_fastapi").app, raise_app_exceptions=False)

    async def exchange(form):
        async with AsyncClient(transport=transport, base_url="http://here", timeout=60) as client:
            status, document = _answer(await client.post("/book", json=form), lambda reply: reply.json())
            if "saga" in document:
                # As Cal.com sends it, which follows no redirect.
                assert (await client.post("/webhooks/calcom", content=b"{}")).status_code == 401
                seen = (await client.get(f"/book/{document['saga']}")).json()
                assert (await client.get("/book/nonsense")).status_code == 404
                assert seen["status"] in ("held", "confirming", "confirmed")
            return status, document

    return lambda form: asyncio.run(exchange(form))


@pytest.fixture(scope="module")
def django():
    """Django in this process, on the database of the sagas."""
    import django
    from django.conf import settings
    from django.db import connections
    from sqlalchemy import make_url

    from sagajobs.root import servers

    url = make_url(servers().database)
    database = {"NAME": url.database, "USER": url.username, "PASSWORD": url.password or "", "HOST": url.host or ""}
    database |= {"ENGINE": "django.db.backends.postgresql", "PORT": url.port or "", **_socket(url)}
    settings.configure(
        DATABASES={"default": database}, ROOT_URLCONF="guide_django", ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None
    )
    django.setup()
    yield ran(DJANGO, "guide_django")
    connections.close_all()


def _socket(url) -> dict:
    host = url.query.get("host")
    return {"HOST": host} if host else {}


@pytest.fixture
def django_client(django):
    from django.test import Client

    client = Client(raise_request_exception=False)
    return lambda form: _answer(
        client.post("/book", data=form, content_type="application/json"), lambda reply: reply.json()
    )


def _answer(reply, document) -> tuple[int, dict]:
    return reply.status_code, document(reply) if reply.status_code in (202, 422) else {}


@pytest.mark.parametrize("kind", ["flask_client", "fastapi_client", "django_client"])
def test_the_requests_transaction_is_the_sagas(request, kind, booking, count, worker):
    post = request.getfixturevalue(kind)
    wanted = booking()
    form = {"booking": {**wanted, "start": wanted["start"].isoformat()}, "key": kind, "note": None}
    assert post(form)[0] == 500, "the order was refused by the database"
    assert (count("sagas"), count("orders")) == (0, 0)
    past = {**form["booking"], "start": "2020-01-01T00:00:00Z"}
    assert post(form | {"booking": past})[0] == 422
    assert (count("sagas"), count("orders")) == (0, 0)
    status, document = post(form | {"note": "by the window"})
    assert status == 202
    assert SagaHandle(document["saga"]).wait(90) == "completed"
    assert post(form | {"note": "by the window"}) == (202, document)
    other = booking()
    assert post(form | {"booking": {**other, "start": other["start"].isoformat()}})[0] == 409, "the key is that form's"
    assert post(form | {"key": ""})[0] == 422
    assert (count("sagas"), count("orders")) == (1, 1)


@pytest.fixture
def told():
    """The messages that are sent."""
    sent: list[str] = []

    def note(sender, **_):
        sent.append(sender)

    before_task_publish.connect(note)
    yield sent
    before_task_publish.disconnect(note)


def test_djangos_savepoints_hold_for_sagas(django, booking, count, app_engine, told):
    from django.db import connection, transaction

    from sagajobs import AppointmentCreationSaga
    from sagajobs.web.django import django_session

    def start() -> str:
        with django_session() as session:
            handle = AppointmentCreationSaga.enqueue(booking(), session=session)
            session.commit()  # which is none: Django commits
        return handle.id

    with transaction.atomic():
        start()
        assert count("sagas") == 0, "nobody else sees it before Django's commit"
        transaction.set_rollback(True)
    assert count("sagas") == 0
    with transaction.atomic():
        with transaction.atomic():
            start()
            transaction.set_rollback(True)
        kept = start()
        assert told == [], "nor is anybody told of it"
    assert count("sagas") == 1
    assert told == ["appointment_creation.create_customer"], "one of three, the one that was committed"
    assert connection.connection.info.transaction_status == 0, "and the connection is as Django left it"
    app_engine.drive(AppointmentCreationSaga, kept)


def test_what_django_has_written_before_stands_whatever_becomes_of_the_session(django, booking, count):
    from django.db import connection, transaction

    from sagajobs import AppointmentCreationSaga, InvalidInput
    from sagajobs.web.django import _engine, django_session

    _engine.cache_clear()  # at its first use it has a look at the connection, too
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (NULL, 'before')")
        with contextlib.suppress(InvalidInput), django_session() as session:
            AppointmentCreationSaga.enqueue(booking(duration_minutes=-1), session=session)
        with django_session() as session:
            session.rollback()
        assert count("orders") == 0, "nor committed too early"
    assert (count("orders"), count("sagas")) == (1, 0)


def test_in_a_test_case_of_djangos_nothing_is_committed(django, booking, count, told):
    """It rolls back what a test has written, and calls before that what waits for a commit."""
    from django.db import transaction
    from django.test import TestCase

    from sagajobs import AppointmentCreationSaga
    from sagajobs.web.django import django_session

    with transaction.atomic():
        with TestCase.captureOnCommitCallbacks(execute=True), django_session() as session:
            AppointmentCreationSaga.enqueue(booking(), session=session)
        assert told == ["appointment_creation.create_customer"]
        transaction.set_rollback(True)
    assert count("sagas") == 0


def test_through_another_driver_the_transaction_cannot_be_shared(django, monkeypatch):
    from django.db import connection, connections, transaction

    from sagajobs.web.django import _engine, django_session

    _engine.cache_clear()
    monkeypatch.setattr(connections["default"], "Database", types.ModuleType("psycopg"))
    refused = pytest.raises(ConfigurationError, match=r"reached through psycopg; .* must be psycopg2")
    with refused, transaction.atomic(), django_session():
        pass
    assert connection.connection.info.transaction_status == 0


def test_outside_a_transaction_there_is_no_session(django):
    from sagajobs.web.django import django_session

    with pytest.raises(ConfigurationError, match="atomic"), django_session():
        pass


def test_after_the_commit(django, booking, count, app_engine):
    from django.db import transaction

    from sagajobs import AppointmentCreationSaga

    start = ran(AFTER, "guide_after", vars(django)).start_after_commit
    with transaction.atomic():
        start(booking(), "one")
        transaction.set_rollback(True)
    assert count("sagas") == 0
    wanted = booking()
    for _ in range(2):
        with transaction.atomic():
            start(wanted, "one")
    assert count("sagas") == 1
    app_engine.drive(AppointmentCreationSaga, AppointmentCreationSaga.enqueue(wanted, idempotency_key="one").id)
