"""The engine: sagas registered, started, carried out in this process or handed to Celery."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session

from sagajobs.errors import (
    ConfigurationError,
    DefinitionError,
    IdempotencyConflict,
    InvalidInput,
    SagaCompensationException,
    SagaException,
    SagaNotFinished,
    TransientError,
)
from sagajobs.saga.act import Outcome, Verdict
from sagajobs.saga.database import Database
from sagajobs.saga.definition import PATIENCE, Saga
from sagajobs.saga.events import Lifecycle, emit
from sagajobs.saga.executor import DEFAULT_STALL_AFTER, Executor
from sagajobs.saga.handle import SagaHandle
from sagajobs.saga.locks import Successor
from sagajobs.saga.missing import tables_missing
from sagajobs.saga.publisher import Publisher
from sagajobs.saga.records import SagaRecord
from sagajobs.saga.review import ReviewDesk
from sagajobs.saga.session import after_commit, checked
from sagajobs.saga.states import FORWARD, SagaState, StepState
from sagajobs.saga.store import Store, to_json
from sagajobs.saga.sweeps.sweep import Sweep
from sagajobs.saga.watching import Doing, Watchers

log = logging.getLogger(__name__)

POLL = 0.05
"""Seconds between two looks at a step that another worker holds, for a caller that waits in process."""


LONGEST_KEY = 200
"""Characters of an idempotency key: a UUID, a header, a URL; longer ones do not fit into the index."""


class Engine:
    """Sagas, and what carries them out.

    Args:
        database: connections to the database that holds the saga tables and the application's own.
        stall_after: seconds without progress after which the sweep re-sends a saga's hint.
    """

    def __init__(self, database: Database, *, stall_after: float = DEFAULT_STALL_AFTER) -> None:
        self.database = database
        self.watchers = Watchers()
        self.executor = Executor(database, stall_after=stall_after, tell=self._tell, watchers=self.watchers)
        self.kinds: dict[str, type[Saga]] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.publisher: Publisher | None = None
        self.review = ReviewDesk(self)

    def schedule(self, *sweeps: Sweep) -> None:
        """Make sweeps known under their names, before the engine gets its canvas: to beat, workers and command line.

        Raises:
            DefinitionError: another sweep has that name.
        """
        for sweep in sweeps:
            if self.sweeps.setdefault(sweep.name, sweep) is not sweep:
                raise DefinitionError(f"two sweeps are called {sweep.name!r}: rename one")

    def register(
        self,
        kind: type[Saga],
        services: Any = None,
        *,
        timeouts: Mapping[str, float] | None = None,
        former: Sequence[type[Saga]] = (),
    ) -> None:
        """Make a saga known under its name.

        Args:
            kind: the saga's class.
            services: what its steps find as `self.services`.
            timeouts: seconds, by name of the step or of its undo, where the deployment knows better than the
                declaration how long a call takes.
            former: classes of the same name that finish the sagas which were begun by them (docs/design.md, Versions).

        Raises:
            DefinitionError: it is no declared saga, another saga has that name, a time-out is for something that does
                not exist, or a former version has another name, or the number of another version.
        """
        if not hasattr(kind, "definition"):
            raise DefinitionError(f"register takes a class that derives from Saga and declares steps, not {kind!r}")
        if self.kinds.setdefault(kind.name, kind) is not kind:
            raise DefinitionError(f"two saga classes are called {kind.name!r}: rename one")
        versions = (kind, *former)
        if {one.name for one in versions} != {kind.name} or len({one.version for one in versions}) < len(versions):
            raise DefinitionError(f"saga {kind.name}: its former versions have its name, and each a number of its own")
        for name, seconds in (timeouts or {}).items():
            timed = [found for one in versions if (found := one.definition.timed(name)) is not None]
            if not timed:
                raise DefinitionError(f"saga {kind.name} has no step or undo {name!r}")
            for one in timed:
                one.timeout = seconds
        for version in versions:
            version.engine, version.services, version.versions = self, services, versions
        if self.publisher is not None:
            self.publisher.add(kind)

    # --- start ---

    def enqueue(
        self,
        kind: type[Saga],
        request: BaseModel | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> SagaHandle:
        """Record a saga and hint at it once it is committed; see `Saga.enqueue`."""

        def committed() -> None:
            emit(Lifecycle.SAGA_CREATED, saga=kind.name, saga_id=handle.id)
            self.hint(kind, handle.id)

        if session is not None:
            session = checked(session)
            try:
                handle = self._start(kind, request, idempotency_key, session)
            except ProgrammingError as error:
                missing = tables_missing(error.orig, session.get_bind().engine)
                if missing is None:
                    raise
                raise missing from None
            if handle.created:
                after_commit(session, committed)
            return handle
        with Session(self.database.engine) as own, own.begin():
            handle = self._start(kind, request, idempotency_key, own)
        if handle.created:
            committed()
        return handle

    def _start(
        self,
        kind: type[Saga],
        request: BaseModel | Mapping[str, Any],
        idempotency_key: str | None,
        session: Session,
    ) -> SagaHandle:
        _check_key(kind, idempotency_key)
        input_ = kind.parse(request)
        saga = kind(str(uuid.uuid4()), input_, {})
        try:
            document = to_json(input_.model_dump(mode="json"))
        except (TypeError, ValueError):
            raise InvalidInput(f"{kind.name}: the input holds a text or number that cannot be stored") from None
        if idempotency_key is not None:
            known = self._known(kind, idempotency_key, document, session)
            if known is not None:
                return known
        saga.check(session)
        with self.watchers.doing(Doing(what="start", saga=kind.name, saga_id=saga.id)) as trace:
            started = self._record(kind, saga, document, idempotency_key, trace, session)
        if not started and idempotency_key is not None:
            # Somebody with the same key was faster; his commit has let us pass, so his saga can be read now.
            known = self._known(kind, idempotency_key, document, session)
            if known is not None:
                return known
        return SagaHandle(saga.id, engine=self, created=True)

    def _record(
        self,
        kind: type[Saga],
        saga: Saga,
        document: Any,
        idempotency_key: str | None,
        trace: str | None,
        session: Session,
    ) -> bool:
        return Store(session.connection()).start(
            saga_id=saga.id,
            name=kind.name,
            version=kind.version,
            definition=kind.definition.traits,
            kind="declared",
            input_=document,
            idempotency_key=idempotency_key,
            useful_until=saga.useful_until(),
            trace=trace,
            stall_after=self.executor.stall_after,
            steps=[
                {
                    "name": step.name,
                    "position": position,
                    "stage": step.stage,
                    "external": step.external,
                    "state": StepState.UNKNOWN if step.adopt and step.adopt(saga, *step.items) else StepState.WAITING,
                }
                for position, step in enumerate(kind.definition.expand(saga))
            ],
        )

    def _known(self, kind: type[Saga], idempotency_key: str, document: Any, session: Session) -> SagaHandle | None:
        found = Store(session.connection()).same_start(kind.name, idempotency_key, document)
        if found is None:
            return None
        saga_id, same = found
        if not same:
            raise IdempotencyConflict(
                f"{kind.name}: this idempotency key started saga {saga_id} with another input; use a new key"
            )
        return SagaHandle(saga_id, engine=self, created=False)

    def hint(self, kind: type[Saga], saga_id: str, stage: int = 0) -> None:
        """Tell the workers of a saga that goes forward. A lost hint is no error: the sweep sends another."""
        if self.publisher is None:
            raise ConfigurationError("the engine has no publisher: build it with a Celery app (see sagajobs.root)")
        names: Sequence[str] = [step.name for step in kind.definition.chain(stage)[:1]]
        if not names:
            with self.database.reading() as connection:
                names = Store(connection).read(saga_id).in_stage(stage)
        self.publisher.steps(kind, saga_id, names)

    def kind_of(self, record: SagaRecord) -> type[Saga] | None:
        """Return the class, in the right version, that a saga on record is to be carried out by; None if unknown."""
        kind = self.kinds.get(record.name)
        return None if kind is None else kind.of(record)

    def version_of(self, kind: type[Saga], saga_id: str) -> type[Saga]:
        """Return the version of a kind that a saga is to be carried out by; asks the table if there are several."""
        if len(kind.versions) == 1:
            return kind
        with self.database.reading() as connection:
            return kind.of(Store(connection).read(saga_id))

    def _tell(self, successors: Sequence[Successor]) -> None:
        """Tell sagas that were handed a lock; one that nobody here can tell looks again by itself."""
        for successor in successors:
            kind = self.kinds.get(successor.name)
            if kind is not None and self.publisher is not None:
                kind = self.version_of(kind, successor.saga_id)
                self.publisher.wake(kind, successor.saga_id, kind.definition.locked_at(successor.stage))

    # --- in process ---

    def run(
        self,
        kind: type[Saga],
        request: BaseModel | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Carry a saga out in this process; see `Saga.run`."""
        with Session(self.database.engine) as own, own.begin():
            handle = self._start(kind, request, idempotency_key, own)
        if handle.created:
            emit(Lifecycle.SAGA_CREATED, saga=kind.name, saga_id=handle.id)
        try:
            record, cause = self.drive(kind, handle.id, patience=patience)
        except (DBAPIError, TransientError) as error:
            # The table decides what becomes of it; a caller who took this for a failure would book a second time.
            raise SagaNotFinished(
                f"saga {kind.name} ({handle.id}) met {type(error).__name__}; the workers carry it on",
                saga_id=handle.id,
            ) from error
        return self.settle_up(record, cause)

    def drive(
        self, kind: type[Saga], saga_id: str, *, patience: float = PATIENCE
    ) -> tuple[SagaRecord, BaseException | None]:
        """Carry a saga on in this process until it comes to rest, waiting where a retry must wait.

        Returns:
            The saga at rest, or as it stood after `patience` seconds of waiting, and the exception that turned it
            round, if this process saw it.
        """
        cause: BaseException | None = None
        give_up_at = time.monotonic() + patience
        pause = threading.Event()
        while True:
            with self.database.reading() as connection:
                record = Store(connection).read(saga_id)
            if record.state in FORWARD:
                outcome = self._next(kind, record)
            elif record.state is SagaState.COMPENSATING:
                outcome = self.executor.compensate(kind, saga_id)
                outcome = Outcome(outcome.verdict, outcome.wait)  # the cause is what failed, not what undoing met
            else:
                return record, cause
            cause = outcome.cause or cause
            if outcome.verdict in (Verdict.LATER, Verdict.END):
                left = give_up_at - time.monotonic()
                if left <= 0 or outcome.wait > left:
                    return self._at_rest(saga_id), cause  # longer than the caller has: nothing can come of waiting
                pause.wait(min(outcome.wait or POLL, left))

    def _next(self, kind: type[Saga], record: SagaRecord) -> Outcome:
        """Carry out what is open in the present stage, side by side where there are several."""
        kind = kind.of(record)
        steps = [kind.definition.step(name) for name in record.open_steps]
        if not steps:
            raise DefinitionError(f"saga {record.id} stands at stage {record.stage}, where nothing is left to do")
        if len(steps) == 1:
            return self.executor.forward(kind, steps[0], record.id)
        with ThreadPoolExecutor(len(steps)) as threads:
            outcomes = list(threads.map(lambda step: self.executor.forward(kind, step, record.id), steps))
        cause = next((outcome.cause for outcome in outcomes if outcome.cause is not None), None)
        if any(outcome.verdict in (Verdict.CARRY_ON, Verdict.FAILED) for outcome in outcomes):
            return Outcome(Verdict.CARRY_ON, cause=cause)
        return Outcome(Verdict.LATER, min(outcome.wait for outcome in outcomes), cause)

    def _at_rest(self, saga_id: str) -> SagaRecord:
        with self.database.reading() as connection:
            return Store(connection).read(saga_id)

    # --- results ---

    def settle_up(self, record: SagaRecord, cause: BaseException | None = None) -> Any:
        """Return a completed saga's result, or raise what became of it.

        Raises:
            SagaException: it was undone.
            SagaCompensationException: a person must look at it.
            SagaNotFinished: it is still under way, or paused.
        """
        if record.state is SagaState.COMPLETED:
            kind = self.kind_of(record)
            if kind is None:
                return record.results
            with Session(self.database.engine) as db:
                return kind.restore(record.id, record.input, record.results).result(db)
        what = f"saga {record.name} ({record.id})"
        failed, completed = record.failed_step, record.completed_steps
        why = f" ({record.error['class'].rpartition('.')[2]})" if record.error else ""
        if record.state is SagaState.COMPENSATED:
            how = f"failed at step {failed}" if failed else "was stopped"
            raise SagaException(
                f"{what} {how}{why} and was undone",
                saga_id=record.id,
                failed_step=failed,
                completed_steps=completed,
            ) from cause
        if record.state is SagaState.MANUAL_REVIEW_REQUIRED:
            failures = {
                step.name: "undo failed" for step in record.steps.values() if step.state is StepState.UNDO_FAILED
            }
            if record.error and "marking" in record.error:
                failures[record.error["step"]] = "it could not be marked for retry"
            raise SagaCompensationException(
                f"{what} needs manual review: see `sagajobs sagas explain {record.id}`",
                saga_id=record.id,
                failed_step=failed,
                completed_steps=completed,
                failed_compensations=failures,
            ) from cause
        raise SagaNotFinished(f"{what} is {record.state}; the workers carry it on", saga_id=record.id)


def _check_key(kind: type[Saga], key: Any) -> None:
    if key is None:
        return
    if not isinstance(key, str) or not key.isprintable() or not 0 < len(key) <= LONGEST_KEY:
        raise InvalidInput(f"{kind.name}: an idempotency key is 1 to {LONGEST_KEY} printable characters")
