"""Sagas for tests of what runs side by side and of what is locked; the world is a table, as in `support.sagas`."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text

from sagajobs.saga import Saga, SagaHandle, step
from tests.support.sagas import ACTS, QUICK, Input, Scripted, World, record


class WideInput(Input):
    items: int = 3


class Wide(Saga):
    """A local step, then several at once (one for each item, and two more), then a local step again."""

    name = "wide"
    Input = WideInput
    _act, _local = Scripted._act, Scripted._local

    @step(retry=QUICK)
    def start(self, db) -> None:
        self._local(db, "start")

    @start.compensation(retry=QUICK)
    def undo_start(self, db) -> None:
        self._local(db, "undo_start")

    @step(external=True, retry=QUICK, timeout=1, each=lambda saga: saga.input.items)
    def book(self, key: str, item: int) -> dict[str, Any]:
        word = self._act(f"book[{item}]")
        done_first, _, act = word.rpartition("+")
        if act == "ok" or done_first == "book":
            self.services.act(key, "book")
        ACTS[act]()
        return {"key": key, "item": item}

    @book.probe(looks=2, over=0.05, retry=QUICK)
    def find(self, key: str, item: int) -> dict[str, Any] | None:
        return {"key": key, "item": item} if self.services.stands(key) else None

    @book.record
    def note_book(self, db, result: dict[str, Any], item: int) -> None:
        assert result["item"] == item
        self._local(db, f"note_book[{item}]")

    @book.compensation(retry=QUICK)
    def cancel(self, result: dict[str, Any], item: int) -> dict[str, Any]:
        word = self._act(f"cancel[{item}]")
        if self.services.stands(result["key"]):
            self.services.act(result["key"], "cancel")
        ACTS[word]()
        return {"standing": self.services.stands(result["key"])}

    @cancel.record
    def note_cancel(self, db, receipt: dict[str, Any], item: int) -> None:
        assert receipt == {"standing": False}
        self._local(db, f"note_cancel[{item}]")

    @step(parallel=True, retry=QUICK)
    def beside(self, db) -> None:
        self._local(db, "beside")

    @beside.compensation(retry=QUICK)
    def undo_beside(self, db) -> None:
        self._local(db, "undo_beside")

    @step(parallel=True, optional=True, retry=QUICK, when=lambda saga: not saga.input.skip)
    def extra(self, db) -> None:
        self._local(db, "extra")

    @step(irreversible=True, retry=QUICK)
    def last(self, db) -> list[int]:
        self._local(db, "last")
        return [self.results["book"][item]["item"] for item in range(self.input.items)]


class Wanted(BaseModel):
    resources: list[str] = []
    script: dict[str, list[str]] = {}


class Locking(Saga):
    """Works on what it was told to, and notes when it began and when it was done."""

    name = "locking"
    Input = Wanted
    lock_wait = 300.0
    """Seconds: who comes late in a long line must get it, however slow the machine is."""
    _act = Scripted._act

    def locks(self) -> list[str]:
        return self.input.resources

    def _note(self, db, what: str) -> None:
        for resource in self.input.resources:
            db.execute(
                text("INSERT INTO test_held (saga_id, resource, what) VALUES (:id, :resource, :what)"),
                {"id": self.id, "resource": resource, "what": what},
            )

    @step(retry=QUICK)
    def begin(self, db) -> None:
        self._note(db, "begin")
        ACTS[self._act("begin")]()

    @begin.compensation(retry=QUICK)
    def undo_begin(self, db) -> None:
        self._note(db, "end")
        ACTS[self._act("undo_begin")]()

    @step(external=True, irreversible=True, idempotent=True, retry=QUICK, timeout=30)
    def work(self, key: str) -> None:
        ACTS[self._act("work")]()

    @step(irreversible=True, retry=QUICK)
    def end(self, db) -> None:
        self._note(db, "end")
        ACTS[self._act("end")]()


class Patient(Saga):
    """Looks outside, and holds what it was told to only while it does, until it has seen and noted it."""

    name = "patient"
    Input = Wanted
    lets_go = True
    _act, _note = Scripted._act, Locking._note
    wait = 0.0
    """Seconds for which it makes no sense to look."""

    def locks(self) -> list[str]:
        return self.input.resources

    @step(irreversible=True, retry=QUICK)
    def begin(self, db) -> None: ...

    @step(external=True, idempotent=True, pivot=True, retry=QUICK, timeout=1, hold=lambda saga: saga.wait)
    def look(self, key: str) -> None:
        ACTS[self._act("look")]()

    @step(retry=QUICK)
    def end(self, db) -> None:
        self._note(db, "begin")
        ACTS[self._act("end")]()
        self._note(db, "end")


class Held:
    """What `Locking` sagas have noted: who worked on what, from when to when."""

    def __init__(self, engine) -> None:
        self._database = engine.database

    def create(self) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                text(
                    "CREATE TABLE IF NOT EXISTS test_held (id bigserial, saga_id text, resource text, what text, "
                    "at timestamptz DEFAULT clock_timestamp());"
                    "DELETE FROM test_held"
                )
            )

    def spans(self) -> dict[str, list[tuple[float, float, str]]]:
        """Return, for each resource, begin and end (seconds) and saga, by begin; of one that never ended, infinity."""
        with self._database.reading() as connection:
            rows = connection.execute(
                text(
                    "SELECT resource, saga_id, extract(epoch FROM min(at) FILTER (WHERE what = 'begin')) AS began, "
                    "extract(epoch FROM max(at) FILTER (WHERE what = 'end')) AS ended "
                    "FROM test_held GROUP BY resource, saga_id ORDER BY began"
                )
            ).all()
        spans: dict[str, list[tuple[float, float, str]]] = {}
        for row in rows:
            ended = float("inf") if row.ended is None else float(row.ended)
            spans.setdefault(row.resource, []).append((float(row.began), ended, row.saga_id))
        return spans

    def overlaps(self) -> list[tuple[str, str, str]]:
        """Return whoever began on a resource before the one before him was done."""
        return [
            (resource, first[2], second[2])
            for resource, spans in self.spans().items()
            for first, second in itertools.pairwise(spans)
            if second[0] < first[1]
        ]


def wants(*resources: str, **script: list[str]) -> SagaHandle:
    """Record a saga that works on these resources."""
    return record(Locking, {"resources": list(resources), "script": script})


def line(db, resource: str = "a") -> list[tuple[str, bool]]:
    """Return who holds a resource, and who waits for it, in order."""
    rows = db.execute(
        text("SELECT saga_id, held FROM saga_locks WHERE resource = :r ORDER BY held DESC, place"), {"r": resource}
    )
    return [(str(row.saga_id), row.held) for row in rows]


KINDS: tuple[type[Saga], ...] = (Wide, Locking, Patient)


def register(engine, world: World) -> None:
    """Make the sagas of this module known, once, with this world."""
    for kind in KINDS:
        if kind.name in engine.kinds:
            kind.services = world
        else:
            engine.register(kind, world)
