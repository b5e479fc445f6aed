"""The broker: what is in it (nothing private, G7), and what happens when it loses everything (nothing, G1)."""

from __future__ import annotations

import base64
import re
import threading

import pytest
import redis
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.booking.outside import METADATA_KEY
from sagajobs.root import app, servers
from sagajobs.testing.waiting import wait_for


@pytest.fixture
def broker() -> redis.Redis:
    """The broker as a bare Redis client."""
    url = servers().broker
    if url.startswith("amqp"):
        pytest.skip("looks into Redis")
    url = url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        yield client


def _everything(broker: redis.Redis) -> str:
    """Return every key and value of the broker as text."""
    readers = {
        b"none": lambda _key: [],  # it was there when keys were listed
        b"string": lambda key: [broker.get(key) or b""],
        b"list": lambda key: broker.lrange(key, 0, -1),
        b"set": broker.smembers,
        b"hash": lambda key: [part for pair in broker.hgetall(key).items() for part in pair],
        b"zset": lambda key: broker.zrange(key, 0, -1),
        b"stream": lambda key: [str(broker.xrange(key)).encode()],
    }
    parts: list[bytes] = []
    for key in broker.scan_iter("*"):
        parts += [key, *readers[broker.type(key)](key)]
    return _legible(parts)


def _legible(parts: list[bytes]) -> str:
    """Return all of it as text, with what the transport has wrapped into base64 unwrapped beside it."""
    text = b"\n".join(parts).decode(errors="replace")
    wrapped = [base64.b64decode(blob + "=" * (-len(blob) % 4)) for blob in re.findall(r"[A-Za-z0-9+/]{24,}", text)]
    return "\n".join([text, *(blob.decode(errors="replace") for blob in wrapped)])


class _Eavesdropper:
    """Hears all that is published to whoever listens: the events that Flower shows."""

    def __init__(self, broker: redis.Redis) -> None:
        self._channel = broker.pubsub()
        self._channel.psubscribe("*")
        self._heard: list[bytes] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            message = self._channel.get_message(timeout=0.1)
            if message and isinstance(message["data"], bytes):
                self._heard.append(message["data"])

    def stop(self) -> str:
        self._over.set()
        self._thread.join()
        self._channel.close()
        return _legible(self._heard)


def test_nothing_private_leaves_the_database(broker, workers, booking, simulator, staff):
    private = {"phone": "+49301234567", "name": "Very Private Person", "email": "very.private@secret.example"}
    ear = _Eavesdropper(broker)
    waiting = AppointmentCreationSaga.enqueue(booking(customer=private, notes="private note"))
    queued = _everything(broker)
    assert f'"saga_id": "{waiting.id}"' in queued, "the search sees into the messages"
    simulator.fault("create", "http_500", "after", count=2)
    worker = workers(beat=True, talkative=True)
    handles = [waiting, *(AppointmentCreationSaga.enqueue(booking(customer=private)) for _ in range(6))]
    slot = booking(customer=private, staff_id=staff[0])
    handles += [AppointmentCreationSaga.enqueue(slot) for _ in range(2)]
    ends = {handle.wait(90) for handle in handles}
    assert ends == {"completed", "compensated"}
    found = {"queue": queued, "keys": _everything(broker), "events": ear.stop(), "log": worker.log.read_text()}
    assert waiting.id in found["events"]
    assert waiting.id in found["log"]
    secrets = [
        *private.values(),
        "private note",
        "secret.example",
        "+4930",
        servers().calcom_api_key.get_secret_value(),
    ]
    assert {where: word for where, said in found.items() for word in secrets if word in said} == {}


def test_the_broker_is_wiped_in_the_middle_of_sixty_sagas(broker, worker, booking, simulator, db):
    handles = []
    for n in range(60):
        handles.append(AppointmentCreationSaga.enqueue(booking()))
        if n in (20, 40, 59):
            wait_for(lambda done=n // 3: _ended(db) >= done)
            broker.flushdb()
    ends = [handle.wait(120) for handle in handles]
    assert ends == ["completed"] * 60
    keys = [booking["metadata"][METADATA_KEY] for booking in simulator.ledger()]
    assert len(set(keys)) == len(keys) == 60, "none twice"
    assert db.execute(text("SELECT count(*) FROM appointments WHERE status = 'scheduled'")).scalar_one() == 60


def _ended(db) -> int:
    return db.execute(text("SELECT count(*) FROM sagas WHERE ended_at IS NOT NULL")).scalar_one()


def test_only_json_is_accepted(worker, booking):
    """A pickle on the queue is refused by its content type and never opened."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        bomb = b"cos\nsystem\n(S'touch pickled'\ntR."
        message = channel.prepare_message(
            bomb, content_type="application/x-python-serialize", content_encoding="binary"
        )
        channel.basic_publish(message, exchange="", routing_key=app.amqp.queues["saga.steps"].name)
    handle = AppointmentCreationSaga.enqueue(booking())
    assert handle.wait(90) == "completed"
    assert not (worker.folder / "pickled").exists()
