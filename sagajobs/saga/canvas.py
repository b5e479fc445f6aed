"""Sagas on Celery: a task for every step, chained, with the undo on `link_error`.

A message carries a saga's id and, in its task's name, a step; nothing else (SPEC G7). What Celery is told of a failure
is a `StepFailed` without its cause. Results are never stored: the table has them.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from celery import Celery, chain
from celery import Task as _Task
from celery.exceptions import Retry, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError
from sqlalchemy import exc

from sagajobs.errors import ConfigurationError, SagaNotFound, StepError, TransientError
from sagajobs.saga.act import Outcome, Verdict
from sagajobs.saga.declaration import Step
from sagajobs.saga.definition import Saga
from sagajobs.saga.executor import UNDO_BUDGET
from sagajobs.saga.faultpoints import Point, reached
from sagajobs.saga.shape import COMPENSATE
from sagajobs.saga.sweeps.sweep import LONGEST, Sweep, run

if TYPE_CHECKING:
    from sagajobs.saga.engine import Engine

log = logging.getLogger(__name__)

STEP_QUEUE = "saga.steps"
COMPENSATE_QUEUE = "saga.compensate"
SWEEP_QUEUE = "saga.sweep"
WOKEN_QUEUE = "saga.woken"
QUEUES = (STEP_QUEUE, COMPENSATE_QUEUE, SWEEP_QUEUE, WOKEN_QUEUE)
"""Undoing must not starve behind new bookings, nor the sweep behind either: each has a queue of its own.

So have sagas that were handed a lock: they hold it already, and others wait for them.
"""

_MAY_PASS = (TransientError, exc.OperationalError, exc.InterfaceError)
"""What breaks a sweep off and is nobody's mistake."""

_QUICKLY = {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.2}
"""How long a publisher tries: not long, as a web request may wait for it and the sweep sends the hint again."""


_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An id as the table writes it."""

_ITEMS = 1 << 31
"""Beyond any number of a step of `each`."""

Task: TypeAlias = "_Task[Any, Any]"


class StepFailed(Exception):
    """What Celery is told of a failed step: that it failed, and which saga knows more."""


class SagaTask(_Task):  # type: ignore[type-arg]  # generic in its stubs only
    """Base of all tasks of the engine.

    `acks_late` and `reject_on_worker_lost`: a message whose worker dies is given out again at once. What would then be
    a poison pill that kills workers for ever is stopped by the attempts counted in the table.
    """

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    acks_on_failure = True
    acks_on_timeout = True
    ignore_result = True
    store_errors_even_if_ignored = False
    throws = (StepFailed,)

    takes: Sequence[str] = ()
    """Names of the keyword arguments that it takes; see `fits`."""

    def fits(self, args: object, kwargs: object) -> bool:
        """Say whether a message's arguments are such as it takes; they may be anything that JSON can say."""
        if args or not isinstance(kwargs, dict) or not set(kwargs) <= set(self.takes):
            return False
        saga_id, item = kwargs.get("saga_id"), kwargs.get("item", 0)
        known = isinstance(saga_id, str) and _ID.fullmatch(saga_id) is not None
        return (known or "saga_id" not in self.takes) and type(item) is int and 0 <= item < _ITEMS

    def after_return(
        self, _status: str, _retval: Any, _task_id: str, _args: Any, kwargs: dict[str, Any], _einfo: Any
    ) -> None:
        """Mark the last moment at which this process knows of the message: the next one is sent, this one not acked."""
        step, item = self.name.rpartition(".")[2], kwargs.get("item")
        reached(Point.BEFORE_ACK, str(kwargs.get("saga_id")), step if item is None else f"{step}[{item}]")


class Canvas:
    """The engine's publisher, and its tasks, on one Celery app.

    Args:
        app: the Celery app that the tasks belong to.
        engine: whose sagas they carry out.
    """

    def __init__(self, app: Celery, engine: Engine) -> None:
        self._app = app
        self._engine = engine
        self._queues: dict[str, str] = {}
        for kind in engine.kinds.values():
            self.add(kind)
        for sweep in engine.sweeps.values():
            self._task(sweep.task, _sweep_body(engine, sweep), queue=SWEEP_QUEUE, time_limit=LONGEST)
        engine.publisher = self

    # --- publishing ---

    def steps(self, kind: type[Saga], saga_id: str, names: Sequence[str]) -> None:
        """Publish, for each of these steps of one stage, the chain that it begins; only its first message leaves now.

        A chain ends where several steps may run side by side: whoever finishes the step before publishes those (see
        `Outcome.following`). Celery's own way to join them, a chord, needs a result backend; ours is the table.
        """
        for name in names:
            self._begin(kind, saga_id, kind.definition.step(name))

    def wake(self, kind: type[Saga], saga_id: str, name: str) -> None:
        """Publish the chain of a saga that was handed the lock which this step of it waits for."""
        first = kind.definition.step(name)
        self._begin(kind, saga_id, first, queue=WOKEN_QUEUE if first.queue is None else None)

    def _begin(self, kind: type[Saga], saga_id: str, first: Step, *, queue: str | None = None) -> None:
        undo = self._signature(kind, COMPENSATE, saga_id)
        steps = [first, *kind.definition.chain(first.stage + 1)]
        signatures = [self._signature(kind, step.base, saga_id, step.item) for step in steps]
        if queue is not None:
            signatures[0] = signatures[0].set(queue=queue)
        whole = chain(*signatures) if len(signatures) > 1 else signatures[0]
        self._publish(whole.on_error(undo), saga_id)

    def compensation(self, kind: type[Saga], saga_id: str) -> None:
        """Publish the hint that a saga is to be undone."""
        self._publish(self._signature(kind, COMPENSATE, saga_id), saga_id)

    def _signature(self, kind: type[Saga], task: str, saga_id: str, item: int | None = None) -> Any:
        # Immutable, and with the id as a keyword: nothing is handed from step to step, and Flower can search for it.
        name = f"{kind.name}.{task}"
        number = {} if item is None else {"item": item}
        return self._app.tasks[name].si(saga_id=saga_id, **number).set(queue=self._queues[name])

    def _publish(self, signature: Any, saga_id: str) -> None:
        try:
            signature.apply_async(retry=True, retry_policy=_QUICKLY)
        except (OperationalError, OSError) as error:
            log.warning("no broker (%s): the hint for saga %s is left to the sweep", type(error).__name__, saga_id)
        except Exception as error:
            # The saga is committed; an exception here would read as if it were not, and be answered by a second one.
            log.exception("no hint for saga %s could be published: %s", saga_id, type(error).__name__)

    # --- tasks ---

    def add(self, kind: type[Saga]) -> None:
        """Make the tasks of a kind of saga: one a step, whichever of its versions has it, and the undo."""
        steps = [step for version in kind.versions for step in version.definition.steps]
        for name in dict.fromkeys(step.name for step in steps):
            alike = [step for step in steps if step.name == name]
            self._task(
                f"{kind.name}.{name}",
                _step_body(self._engine, kind, alike[0]),
                queue=alike[0].queue or STEP_QUEUE,
                takes=("saga_id", "item") if any(step.each for step in alike) else ("saga_id",),
                # Soft: the step hears of it and fails as ambiguous. Hard: with the lease over, the child must be gone.
                soft_time_limit=max(step.timeout for step in alike),
                time_limit=max(step.lease for step in alike),
            )
        longest = max((step.undo.timeout for step in steps if step.undo), default=0.0)
        self._task(
            f"{kind.name}.{COMPENSATE}",
            _compensate_body(self._engine, kind),
            queue=COMPENSATE_QUEUE,
            takes=("saga_id",),
            time_limit=UNDO_BUDGET + longest + 30,
        )

    def _task(self, name: str, body: Callable[..., None], *, queue: str, **options: Any) -> None:
        self._queues[name] = queue
        body.__name__ = name.rpartition(".")[2]
        # Not shared: another Celery app of the same process must not get our tasks.
        register: Any = self._app.task(name=name, bind=True, base=SagaTask, shared=False, **options)
        register(body)


def _step_body(engine: Engine, kind: type[Saga], step: Step) -> Callable[..., None]:
    def body(task: Task, *, saga_id: str, item: int | None = None) -> None:
        redelivered = bool((task.request.delivery_info or {}).get("redelivered")) or task.request.retries > 0
        one = step if item is None else step.number(item)
        try:
            outcome = engine.executor.forward(kind, one, saga_id, redelivered=redelivered)
        except Exception as error:  # noqa: BLE001 - what it says may quote a customer: it goes no further
            _give_back(task, saga_id, error)
        reached(Point.BEFORE_NEXT_MESSAGE, saga_id, one.name)
        if outcome.following and engine.publisher is not None:
            engine.publisher.steps(engine.version_of(kind, saga_id), saga_id, outcome.following)
        _report(task, saga_id, outcome)

    return body


def _compensate_body(engine: Engine, kind: type[Saga]) -> Callable[..., None]:
    def body(task: Task, *, saga_id: str) -> None:
        try:
            outcome = engine.executor.compensate(kind, saga_id)
        except Exception as error:  # noqa: BLE001 - what it says may quote a customer: it goes no further
            _give_back(task, saga_id, error)
        _report(task, saga_id, outcome)

    return body


def _sweep_body(engine: Engine, sweep: Sweep) -> Callable[..., None]:
    def body(_task: Task) -> None:
        try:
            run(engine, sweep)
        except Exception as error:  # noqa: BLE001 - what it says may quote a customer: it goes no further
            _leave_to_next(sweep, error)
            engine.watchers.broke_off(sweep, error)

    return body


def _leave_to_next(sweep: Sweep, error: Exception) -> None:
    """Say that a sweep broke off; what it has done stands, and the next one goes on."""
    name = type(error.orig if isinstance(error, exc.DBAPIError) else error).__name__
    if isinstance(error, ConfigurationError):
        log.error("sweep %s: %s", sweep.name, error)
        return
    if isinstance(error, (exc.DBAPIError, StepError)):  # the database, or whoever is asked outside
        level = logging.WARNING if isinstance(error, _MAY_PASS) else logging.ERROR
        log.log(level, "sweep %s broke off (%s); the next one tries again", sweep.name, name)
        return
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s in sweep %s; the next one tries again\n%s", name, sweep.name, frames)


def _report(task: Task, saga_id: str, outcome: Outcome) -> None:
    """Tell Celery what a delivery came to, and end the chain unless the next step may run."""
    if outcome.verdict is Verdict.CARRY_ON:
        return
    # Celery sends the rest of the chain when a task ends well; a delivery that found nothing to do must not drag a
    # second tail of it through the queues.
    task.request.chain = None
    if outcome.verdict is Verdict.LATER:
        # RETRY without a message: an ETA would wait in a worker's memory. The sweep re-sends it when it is due.
        raise Retry(f"saga {saga_id} again in {outcome.wait:.1f} s")
    if outcome.verdict is Verdict.FAILED:
        raise StepFailed(f"{task.name} failed, the saga is undone: sagajobs sagas show {saga_id}")


def _give_back(task: Task, saga_id: str, error: Exception) -> NoReturn:
    """End a delivery that the engine could not carry out; the table stands as it was, and the sweep comes back."""
    task.request.chain = None
    name = type(error).__name__
    if isinstance(error, SagaNotFound):
        raise StepFailed(f"{task.name}: there is no saga {saga_id} in this database") from None
    if isinstance(error, ConfigurationError):
        log.error("%s: %s", task.name, error)
        raise Retry(f"saga {saga_id}: {name}") from None
    if isinstance(error, (exc.DBAPIError, SoftTimeLimitExceeded)):
        log.warning("%s (%s): saga %s is left to the sweep", name, task.name, saga_id)
        raise Retry(f"saga {saga_id}: {name}") from None
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s in %s for saga %s; it is left to the sweep\n%s", name, task.name, saga_id, frames)
    raise StepFailed(f"{task.name}: {name}, see the log for saga {saga_id}") from None
