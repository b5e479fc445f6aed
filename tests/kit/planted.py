"""Sagas with one fault each, for tests of the testing kit: each check must find its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from sagajobs.errors import PermanentError
from sagajobs.root import engine
from sagajobs.saga import RetryPolicy, Saga, step
from tests.support.sagas import QUICK, World


class Wanted(BaseModel):
    until: datetime | None = None


class Sound(Saga, abstract=True):
    """Reserves here, books outside, confirms here: nothing is wrong with it."""

    Input = Wanted
    services = World(engine)

    def _reserve(self) -> None: ...

    def _find(self, key: str) -> bool:
        return self.services.stands(key)

    def _cancel(self, key: str) -> None:
        if self.services.stands(key):
            self.services.act(key, "cancel")

    @step(retry=QUICK)
    def reserve(self, db) -> None:
        self._reserve()

    @reserve.compensation(retry=QUICK)
    def release(self, db) -> None: ...

    @step(external=True, retry=QUICK, timeout=1)
    def book(self, key: str) -> dict[str, Any]:
        self.services.act(key, "book")
        return {"key": key}

    @book.probe(looks=2, over=0.05, retry=QUICK)
    def find(self, key: str) -> dict[str, Any] | None:
        return {"key": key} if self._find(key) else None

    @book.compensation(retry=QUICK)
    def cancel(self, result: dict[str, Any]) -> dict[str, Any]:
        self._cancel(result["key"])
        return {"standing": self.services.stands(result["key"])}

    @step(irreversible=True, retry=QUICK)
    def confirm(self, db) -> None: ...


class Plain(Sound):
    """Without a fault."""

    name = "planted_none"


class CallsOutside(Sound):
    """A local step calls outside: a rollback does not take that back."""

    name = "planted_calls_outside"

    def _reserve(self) -> None:
        self.services.act(f"{self.id}/reserve", "book")


class FindsNothing(Sound):
    """Its probe does not find what was booked."""

    name = "planted_finds_nothing"

    def _find(self, key: str) -> bool:
        return False


class UndoesNothing(Sound):
    """Its undo says that it undid and does not read back."""

    name = "planted_undoes_nothing"

    def _cancel(self, key: str) -> None: ...


class UndoesOnce(Sound):
    """Its undo fails when there is nothing left to undo."""

    name = "planted_undoes_once"

    def _cancel(self, key: str) -> None:
        if not self.services.stands(key):
            raise PermanentError("no such booking")
        self.services.act(key, "cancel")


class HiddenFromUndo(Sound):
    """What it notes when a person is asked stands in the way of its own undo."""

    name = "planted_hidden_from_undo"

    def note_review(self, db) -> None:
        self.services.act(self.id, "hidden")

    def _cancel(self, key: str) -> None:
        if "hidden" in self.services.acts(self.id):
            raise PermanentError("no such booking")
        super()._cancel(key)


class NoTimeToLose(Sound):
    """Its deadline is nearer than a lost message takes to be missed."""

    name = "planted_no_time_to_lose"

    def useful_until(self) -> datetime | None:
        return self.input.until


class Once(Saga):
    """A single attempt each, no probe, and past the pivot no way back: a person is asked, and that is no fault."""

    name = "planted_once"
    Input = Wanted
    services = World(engine)

    @step(pivot=True, external=True, idempotent=True, retry=RetryPolicy(max_attempts=1), timeout=1)
    def book(self, key: str) -> None:
        if not self.services.stands(key):
            self.services.act(key, "book")

    @step(retry=RetryPolicy(max_attempts=1))
    def confirm(self, db) -> None: ...


for kind in (Plain, CallsOutside, FindsNothing, UndoesNothing, UndoesOnce, HiddenFromUndo, NoTimeToLose, Once):
    engine.register(kind, kind.services)
