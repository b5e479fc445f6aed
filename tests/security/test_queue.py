"""What lies on the queues and is none of ours: dropped, in one line without what it said; the worker goes on."""

from __future__ import annotations

import bz2
import json
import lzma
import pickle
import zlib
from pathlib import Path

import psutil
import pytest

from sagajobs import AppointmentCreationSaga
from sagajobs.root import app
from sagajobs.testing.waiting import wait_for
from tests.security.conftest import NOBODY, TASK

MARK = "zebulon-quagmire"
ZEROS = b"\0" * 100_000_000
CLEANUP = {"task": "celery.backend_cleanup", "args": [], "kwargs": {}, "options": {}, "immutable": True}


class Touch:
    """Whoever unpickles it, writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def envelope(headers: object, properties: dict | None = None, body: str = "e30=") -> bytes:
    """Return a message as kombu writes it to Redis."""
    there = {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "x"}}
    whole = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": there | (properties or {}),
    }
    return json.dumps(whole).encode()


def later(**signature) -> dict:
    """Return what may come after a call: the undo of a saga, changed."""
    undo = {"task": "appointment_creation.compensate", "args": [], "kwargs": {"saga_id": NOBODY}, "options": {}}
    return {"errbacks": [undo | signature]}


SELF = {"task": "appointment_creation.compensate", "args": [], "kwargs": {"saga_id": NOBODY}}
IDS = {
    "a mapping": {MARK: 1},
    "long": MARK * 700,
    "SQL": f"{MARK}'; DROP TABLE sagas; --",
    "null": None,
    "0": f"{MARK}\0",
}
NO_CALL = {"a number": b"5", "null": b"null", "an empty list": b"[]", "two": b"[[], {}]", "no mapping": b"[[], {}, 5]"}

STRANGE = {
    # --- bodies ---
    "no JSON": lambda q: q.put(b"{" + MARK.encode()),
    "no UTF-8": lambda q: q.put(b"\xff\xfe" + MARK.encode()),
    "deeply nested": lambda q: q.put(b"[" * 100_000),
    "too large": lambda q: q.call({"saga_id": MARK * 200_000}),
    **{f"no call: {name}": lambda q, body=body: q.put(body) for name, body in NO_CALL.items()},
    "no task: a mapping": lambda q: q.put(json.dumps({MARK: 1}).encode(), task=None),
    "no task: a list": lambda q: q.put(json.dumps([MARK]).encode(), task=None),
    "no task: garbage": lambda q: q.put(b"{" + MARK.encode(), task=None),
    # --- arguments ---
    "no arguments": lambda q: q.call({}),
    "one too many": lambda q: q.call({"saga_id": NOBODY, MARK: 1}),
    "by position": lambda q: q.call({}, [NOBODY]),
    "kwargs a list": lambda q: q.call([MARK]),
    "args a text": lambda q: q.call({}, MARK),
    **{f"an id that is {name}": lambda q, value=value: q.call({"saga_id": value}) for name, value in IDS.items()},
    "an item, where none is": lambda q: q.call({"saga_id": NOBODY, "item": 1}),
    "an item below 0": lambda q: q.call({"saga_id": NOBODY, "item": -1}, task="composite_booking.book_segment"),
    "an item of text": lambda q: q.call({"saga_id": NOBODY, "item": MARK}, task="composite_booking.book_segment"),
    "an item of truth": lambda q: q.call({"saga_id": NOBODY, "item": True}, task="composite_booking.book_segment"),
    # --- headers ---
    "an unknown task": lambda q: q.call({"saga_id": MARK}, task="os.system"),
    "a task of markup": lambda q: q.call({"saga_id": MARK}, task=f"<b>{MARK}</b>"),
    "a task that is a list": lambda q: q.call({"saga_id": NOBODY}, task=[MARK]),
    "an id that cannot be hashed": lambda q: q.call({"saga_id": NOBODY}, id=[MARK]),
    "no id": lambda q: q.call({"saga_id": NOBODY}, id=None),
    "in 8000 years": lambda q: q.call({"saga_id": NOBODY}, eta="9999-12-31T23:59:59+00:00"),
    "at no time": lambda q: q.call({"saga_id": NOBODY}, eta=MARK),
    "expiring at no time": lambda q: q.call({"saga_id": NOBODY}, expires=MARK),
    "retried by text": lambda q: q.call({"saga_id": NOBODY}, retries=MARK),
    "limited by text": lambda q: q.call({"saga_id": NOBODY}, timelimit=MARK),
    "limited by less than nothing": lambda q: q.call({"saga_id": NOBODY}, timelimit=[-1, -1]),
    "a repr of megabytes": lambda q: q.call({"saga_id": NOBODY}, kwargsrepr=MARK * 200_000),
    "an origin that is a list": lambda q: q.call({"saga_id": NOBODY}, origin=[MARK]),
    # --- what is to come after it ---
    "garbage to follow": lambda q: q.call({"saga_id": NOBODY}, embed={"chain": MARK, "errbacks": MARK}),
    "a callback": lambda q: q.call({"saga_id": NOBODY}, embed={"callbacks": [CLEANUP]}),
    "a chord": lambda q: q.call({"saga_id": NOBODY}, embed={"chord": CLEANUP}),
    "a task of Celery's as undo": lambda q: q.call({"saga_id": NOBODY}, embed={"errbacks": [CLEANUP]}),
    "a task of Celery's to follow": lambda q: q.call({"saga_id": NOBODY}, embed={"chain": [CLEANUP]}),
    "an unknown undo": lambda q: q.call({"saga_id": NOBODY}, embed=later(task=MARK)),
    "an undo of nothing": lambda q: q.call({"saga_id": NOBODY}, embed=later(kwargs={"saga_id": MARK})),
    "an undo without options": lambda q: q.call({"saga_id": NOBODY}, embed=later(options=None)),
    "an undo of an undo": lambda q: q.call(
        {"saga_id": NOBODY},
        embed={"chain": [SELF | {"options": {"link_error": [SELF | {"options": {"link_error": [SELF]}}]}}]},
    ),
    # --- encodings ---
    "YAML": lambda q: q.put(f"!!python/object/apply:os.system ['{MARK}']".encode(), content_type="application/x-yaml"),
    "text": lambda q: q.put(MARK.encode(), content_type="text/plain"),
    "no type": lambda q: q.put(MARK.encode(), content_type=None),
    "compressed by a list": lambda q: q.put(b"x", compression=[MARK]),
    "compressed, and is not": lambda q: q.put(b"x" + MARK.encode(), compression="zlib"),
    "compressed, and cut off": lambda q: q.put(zlib.compress(b"[]" * 1000)[:-9], compression="zlib"),
    # --- what is no message of kombu's ---
    "bytes": lambda q: q.push(b"\x00\xff" + MARK.encode()),
    "a number": lambda q: q.push(b"5"),
    "some mapping": lambda q: q.push(json.dumps({MARK: 1}).encode()),
    "brackets": lambda q: q.push(b"[" * 100_000),
    "properties that are a list": lambda q: q.push(
        json.dumps(json.loads(envelope({})) | {"properties": [MARK]}).encode()
    ),
    "headers that are a list": lambda q: q.push(envelope([MARK])),
    "no tag": lambda q: q.push(envelope({}, {"delivery_tag": None})),
    "an encoding of its own": lambda q: q.push(envelope({"task": TASK}, {"body_encoding": MARK})),
    "a body that is no base64": lambda q: q.push(envelope({"task": TASK}, body="&")),
}


class Watch:
    """What a worker has said since, and whether it is the same worker still."""

    def __init__(self, worker) -> None:
        self._log = worker.log
        self._process = psutil.Process(worker.process.pid)
        self._from = self._log.stat().st_size
        self._memory = self._process.memory_info().rss

    def said(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode()

    def dropped(self) -> list[str]:
        return [line for line in self.said().splitlines() if "message dropped: " in line]

    def broke(self) -> bool:
        """Whether an exception went through it, but for that of a process whose step's time was over just after it."""
        return "Traceback" in self.said().replace("error: SoftTimeLimitExceeded()\nTraceback", "")

    def grown(self) -> int:
        return self._process.memory_info().rss - self._memory

    def assert_alive(self) -> None:
        assert self._process.is_running()
        assert self._process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def watch(worker) -> Watch:
    return Watch(worker)


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_message_is_dropped_in_one_line(queue, watch, rows, booking, strange):
    before = rows()
    STRANGE[strange](queue)
    wait_for(watch.dropped)
    assert rows() == before
    assert AppointmentCreationSaga.enqueue(booking()).wait(90) == "completed"
    watch.assert_alive()
    said = watch.said()
    assert len(watch.dropped()) == 1
    assert MARK not in said
    assert not watch.broke()


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "pickle"])
def test_a_pickle_is_never_opened(queue, watch, booking, tmp_path, content_type):
    bomb = pickle.dumps(Touch(tmp_path / "opened"))
    queue.put(bomb, content_type=content_type)
    wait_for(watch.dropped)
    assert AppointmentCreationSaga.enqueue(booking()).wait(90) == "completed"
    assert not (tmp_path / "opened").exists()
    pickle.loads(bomb)  # noqa: S301 - our own, to see that it would have worked
    assert (tmp_path / "opened").exists(), "opened by anybody, it does what it does"


@pytest.mark.parametrize(
    ("compress", "kind"),
    [(zlib.compress, "zlib"), (bz2.compress, "bzip2"), (lzma.compress, "lzma")],
)
def test_what_would_unpack_to_a_hundred_megabytes_is_not_unpacked(queue, watch, booking, compress, kind):
    from kombu import compression

    queue.put(compress(ZEROS), compression=compression.get_encoder(kind)[1])
    wait_for(watch.dropped)
    assert AppointmentCreationSaga.enqueue(booking()).wait(90) == "completed"
    watch.assert_alive()
    assert watch.grown() < 50_000_000


@pytest.mark.parametrize("kind", ["zlib", "bzip2", "lzma"])
def test_a_deployment_may_compress_its_messages(watch, kind):
    app.tasks[TASK].apply_async(kwargs={"saga_id": NOBODY}, queue="saga.steps", compression=kind)
    wait_for(lambda: f"there is no saga {NOBODY}" in watch.said())


def test_a_saga_that_is_not_there_is_told_by_its_id(queue, watch, rows):
    before = rows()
    queue.call({"saga_id": NOBODY})
    wait_for(lambda: f"there is no saga {NOBODY} in this database" in watch.said())
    assert rows() == before
    watch.assert_alive()
    assert not watch.broke()


def test_a_step_of_another_kind_of_saga_does_nothing(queue, watch, rows, booking):
    saga_id = AppointmentCreationSaga.enqueue(booking())
    assert saga_id.wait(90) == "completed"
    before = rows()
    for task in ("appointment_sync.call_calcom", "appointment_sync.compensate", "composite_booking.assign_staff"):
        queue.call({"saga_id": saga_id.id}, task=task)
    queue.call({"saga_id": saga_id.id, "item": 10**9}, task="composite_booking.book_segment")
    for step in ("create_customer", "book_calcom", "compensate"):
        queue.call({"saga_id": saga_id.id}, task=f"appointment_creation.{step}")
    assert AppointmentCreationSaga.enqueue(booking()).wait(90) == "completed"
    wait_for(lambda: watch.said().count("received") >= 2 * 4 + 7)
    after = rows()
    assert [row for row in after["saga_events"] if row["saga_id"] == saga_id.id] == before["saga_events"]
    watch.assert_alive()


def test_celery_has_no_task_that_could_harm(app_engine):
    """Each of Celery's own runs other tasks that are registered here, or cleans a store of results that we have not."""
    app.finalize()
    builtin = {name.removeprefix("celery.") for name in app.tasks if name.startswith("celery.")}
    assert builtin == {
        "accumulate",
        "backend_cleanup",
        "chain",
        "chord",
        "chord_unlock",
        "chunks",
        "group",
        "map",
        "starmap",
    }
    assert app.conf.result_backend is None


@pytest.mark.parametrize("name", ["backend_cleanup", "chord", "chord_unlock", "map", "starmap", "accumulate"])
def test_a_task_of_celery_s_own_changes_nothing(queue, watch, rows, booking, name):
    before = rows()
    step = {"task": TASK, "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    queue.call({}, [step, [{"saga_id": NOBODY}]], task=f"celery.{name}")
    wait_for(lambda: f"celery.{name}" in watch.said() and ("succeeded" in watch.said() or "raised" in watch.said()))
    assert rows() == before
    assert AppointmentCreationSaga.enqueue(booking()).wait(90) == "completed"
    watch.assert_alive()
