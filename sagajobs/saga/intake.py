"""What a worker takes from its queues: messages as our own processes write them. Anything else it drops, in one line.

Celery's own consumer ends the whole worker on some thirty kinds of damaged message (a body that is `5`, an id that is a
list), fills the log with what it could not read, and unpacks what was compressed however large it grows. On Redis such
a message comes back after the visibility time-out, and ends the next worker. So every message is looked at before
Celery sees it. This is no defence against who may write to the broker: he can tell workers to shut down.
"""

from __future__ import annotations

import bz2
import logging
import lzma
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

from celery.worker.consumer import Consumer
from kombu import compression
from redis.exceptions import DataError

from sagajobs.saga.canvas import SagaTask

if TYPE_CHECKING:
    from kombu import Message

log = logging.getLogger(__name__)

MAX_MESSAGE = 1 << 20
"""Bytes of a message's body, unpacked: a saga of four steps needs 2000."""

_MAX_TEXT = 5000
"""Characters of a header, which goes on to the log and to whoever listens to events."""

_TEXTS = ("argsrepr", "kwargsrepr", "origin", "shadow", "root_id", "parent_id", "group")

_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,200}")

_LZMA_MEMORY = 128 << 20
"""Bytes that unpacking LZMA may take for its dictionary: those of its highest level, twice."""

_UNPACKERS: Mapping[str, Callable[[], Any]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY),
}

_DAMAGED = (ArithmeticError, AttributeError, DataError, LookupError, RecursionError, TypeError, ValueError)
"""What reading bytes raises that are no message; a broker that is away is none of these."""


class Unacceptable(Exception):
    """A message is not one of ours; says why, and quotes nothing of it."""


class Intake(Consumer):
    """Celery's consumer, which sees acceptable messages only (the setting `worker_consumer`)."""

    # Celery's, which its stubs do not know.
    task_consumer: Any
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _bound_unpacking()

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Message], None]:
        """Return what is called with every message."""
        _guard_reading(self.task_consumer.channel)
        take = super().create_task_handler(*args, **options)
        away = (*self.connection_errors, *self.channel_errors)

        def on_message(message: Message) -> None:
            try:
                check(message, self.app.tasks)
                take(message)
            except Unacceptable as error:
                self._drop(message, str(error))
            except away:
                raise
            except Exception as error:  # noqa: BLE001 - it would end the worker, and the next one that is given it
                self._drop(message, f"Celery cannot take it ({type(error).__name__})")

        return on_message

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Drop what could not be unpacked."""
        self._drop(message, f"it cannot be unpacked ({type(exc).__name__})")

    def _drop(self, message: Message, why: str) -> None:
        log.warning("message dropped: %s", why)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)


def check(message: Message, tasks: Mapping[str, Any]) -> None:
    """Look at a message before Celery does.

    Args:
        message: as kombu hands it over, not yet decoded.
        tasks: those registered with the app, by name.

    Raises:
        Unacceptable: it is none that our processes, or Celery for them, could have written.
    """
    headers = message.headers
    if not isinstance(headers, dict):
        raise Unacceptable("its headers are no mapping")
    name = headers.get("task")
    if not isinstance(name, str):
        raise Unacceptable("it names no task")
    if name not in tasks:
        # The name is quoted where it can be one, as it tells of a worker that lacks a saga's module.
        raise Unacceptable(f"no task {name} is registered here" if _NAME.fullmatch(name) else "its task has no name")
    _check_headers(headers)
    args, kwargs, embed = _content(message)
    task = tasks[name]
    if not isinstance(task, SagaTask):
        return  # the application's own: what it takes it knows itself
    if headers.get("eta") is not None:
        raise Unacceptable("it asks to be kept for later, in a worker's memory")
    if not task.fits(args, kwargs):
        raise Unacceptable(f"{name} does not take such arguments")
    _check_embedded(embed, tasks)


def _check_headers(headers: Mapping[str, Any]) -> None:
    if not (isinstance(headers.get("id"), str) and len(headers["id"]) <= _MAX_TEXT):
        raise Unacceptable("it has no id")
    if any(not _is_text(headers.get(name)) for name in _TEXTS):
        raise Unacceptable("a header is no text, or too long")
    if not _is_time(headers.get("expires")):
        raise Unacceptable("the time at which it expires is none")
    retries = headers.get("retries")
    if not (retries is None or type(retries) is int):
        raise Unacceptable("its number of retries is none")
    limits = headers.get("timelimit") or [None, None]
    # One of 0 would mean none at all.
    if not (isinstance(limits, list | tuple) and len(limits) == 2 and all(map(_is_limit, limits))):  # noqa: PLR2004 - hard, soft
        raise Unacceptable("its time limits are none")


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and value > 0)


def _content(message: Message) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    if len(message.body or b"") > MAX_MESSAGE:
        raise Unacceptable(f"its body has more than {MAX_MESSAGE} bytes")
    try:
        content = message.decode()  # kept by the message: Celery does not do it again
    except Exception as error:  # noqa: BLE001 - a type that is not accepted, an encoding, depth: all of it kombu's
        raise Unacceptable(f"its body cannot be read ({type(error).__name__})") from None
    if not (isinstance(content, list) and len(content) == 3):  # noqa: PLR2004 - args, kwargs, embed
        raise Unacceptable("its body is no call of a task")
    args, kwargs, embed = content
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict)):
        raise Unacceptable("its body is no call of a task")
    return args, kwargs, embed


def _check_embedded(embed: Mapping[str, Any], tasks: Mapping[str, Any]) -> None:
    if embed.get("callbacks") or embed.get("chord"):
        raise Unacceptable("it has more called after it than a chain and its undo")
    for name in ("chain", "errbacks"):
        _check_signatures(embed.get(name), tasks)


def _check_signatures(signatures: Any, tasks: Mapping[str, Any], *, nested: bool = False) -> None:
    """See that what comes afterwards is ours, too; a step of the chain has its undo, and that has nothing more."""
    if not (signatures is None or isinstance(signatures, list)):
        raise Unacceptable("what is to come after it cannot be read")
    for one in signatures or ():
        options = one.get("options") if isinstance(one, dict) else None
        if not (isinstance(options, dict) and isinstance(one.get("task"), str)):
            raise Unacceptable("what is to come after it cannot be read")
        task = tasks.get(one["task"])
        if not (isinstance(task, SagaTask) and task.fits(one.get("args"), one.get("kwargs"))):
            raise Unacceptable("what is to come after it is no step and no undo")
        if nested and options.get("link_error"):
            raise Unacceptable("what is to come after it has no end")
        _check_signatures(options.get("link_error"), tasks, nested=True)


def _guard_reading(channel: Any) -> None:
    """Have kombu's Redis channel step over what is not even a message: it would end the worker.

    It has taken such bytes from the queue by then. RabbitMQ's client has no such handlers, and needs no guard: the
    broker itself sees to it that a message is one.
    """
    handlers = getattr(channel, "handlers", {})
    read = handlers.get("BRPOP")
    if read is None or hasattr(read, "__wrapped__"):
        return

    @wraps(read)
    def guarded(**options: Any) -> Any:
        try:
            return read(**options)
        except _DAMAGED as error:
            log.warning("message dropped: it is no message (%s)", type(error).__name__)
            return True

    handlers["BRPOP"] = guarded


def _bound_unpacking() -> None:
    """Have kombu unpack no more than a message may have, in this process, which is a worker's.

    Ours are not compressed; a deployment may set `task_compression`.
    """
    get_encoder: Any = compression.get_encoder  # returns a pair, whatever its stubs say
    for kind in compression.encoders():
        encoder, _ = get_encoder(kind)
        compression.register(encoder, _unpacker(_UNPACKERS.get(kind)), kind)


def _unpacker(start: Callable[[], Any] | None) -> Callable[[bytes], bytes]:
    def unpack(body: bytes) -> bytes:
        if start is None:
            raise ValueError("compressed in a way whose size nobody can bound")
        unpacking = start()
        whole: bytes = unpacking.decompress(body, MAX_MESSAGE)
        if not unpacking.eof:
            raise ValueError(f"more than {MAX_MESSAGE} bytes, or cut off")
        return whole

    return unpack
