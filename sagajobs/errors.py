"""Every exception of sagajobs, in one tree.

::

    SagajobsError
    ├── ConfigurationError            a setting is wrong, or a server is out of reach
    ├── DefinitionError               a saga is declared in a way that cannot work
    ├── InvalidInput                  what a saga was asked to do makes no sense
    ├── IdempotencyConflict           one idempotency key, two different inputs
    ├── SagaNotFound                  no saga has that id
    ├── SagaNotFinished               a wait was over before the saga was
    ├── CaseNotFound                  no review case has that number
    ├── CaseClosed                    somebody else was faster with a remedy
    ├── RemedyRefused                 this remedy makes no sense there; the message says which ones do
    ├── IllegalTransition             the state machine has no such arrow
    ├── ClaimLost                     somebody else owns the step by now: park, write nothing
    ├── ChildError                    (sagajobs.runtime.child) a process of the stack did not come up
    ├── SagaException                 the saga failed (and was undone)
    │   └── SagaCompensationException the saga failed and so did its undo: critical
    └── StepError                     what a step raises to say how it failed
        ├── TransientError            nothing was done; try again later
        │   └── Deferred              likewise, and the attempt does not count
        ├── PermanentError            nothing was done; trying again is useless
        │   ├── LockNotAvailable      another saga works on it, and the wait is over
        │   └── EffectGone            it was done and somebody took it back: nothing stands
        └── AmbiguousError            it may have been done: look before doing anything
            └── AmbiguousRefusal      refused, perhaps because we did it ourselves before

`sagajobs.calcom.errors` hangs its own below the four kinds of `StepError`; a saga author does the same::

    CalcomError                       (sagajobs.calcom.errors) whatever comes from a call to Cal.com
    ├── CalcomUnavailable             is a TransientError: out of reach, or a read that failed
    ├── CalcomDeferred                is a Deferred: not the time for a call
    │   ├── CalcomRateLimited         Cal.com says so: the quota of the API key is used up (429)
    │   ├── CalcomQuotaSpent          we say so: this call's share of the quota is used up, nothing was sent
    │   └── CalcomCircuitOpen         we say so: Cal.com is failing, nothing was sent
    ├── CalcomRefused                 is a PermanentError: the call was refused
    │   ├── InvalidRequest            refused by the client itself, before anything was sent
    │   ├── BadCredentials            the API key is not accepted (401)
    │   ├── BookingNotFound           no booking has that uid (404)
    │   ├── EventTypeNotFound         no event type has that id (404)
    │   ├── AlreadyCancelled          a cancel or move of a booking that is cancelled; a cancel of one that was moved
    │   ├── AlreadyRescheduled        a move of a booking that was moved before, perhaps by us
    │   ├── AlreadyConfirmed          a confirm or decline of a booking that is confirmed
    │   └── BookingEnded              a cancel of a booking that is over
    ├── CalcomOutcomeUnknown          is an AmbiguousError: sent, and no answer that settles it
    └── RefusalInDoubt                is an AmbiguousRefusal: refused, perhaps on account of our earlier call
        └── SlotTaken                 the host is not free, or another call was faster

A webhook fails nobody's step, so these hang below `SagajobsError` itself::

    WebhookRefused                    (sagajobs.calcom.errors) what is wrong with a webhook from Cal.com
    ├── WebhookTooLarge               larger than any of theirs
    ├── WebhookUnsigned               signature missing or wrong
    └── WebhookMalformed              signed, and not readable

Of `sagajobs.booking.errors` four are PermanentErrors, one is an EffectGone and one an AmbiguousRefusal::

    SlotNotFree                       the staff member has another appointment at that time
    NothingToAdopt                    the booking that the request brought along does not exist
    AlreadyBooked                     Cal.com answered with an earlier booking, which is not this saga's
    NoLongerPossible                  another change of the appointment came before this one
    BookingGone                       is an EffectGone: the booking was cancelled or declined at Cal.com meanwhile
    NotMoved                          is an AmbiguousRefusal: Cal.com answered a move with some other booking

The four kinds are all that the engine looks at: it never reads a message to decide.

`RehearsalOver` stands outside the tree on purpose: it is no error, and nobody but the engine may catch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SagajobsError(Exception):
    """Base of every exception that sagajobs raises on purpose.

    Instances survive pickling and copying whatever their constructors take: Celery's pools send them
    between processes, and one that cannot be rebuilt there takes the worker's answer with it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[SagajobsError], args: tuple[Any, ...], state: dict[str, Any]) -> SagajobsError:
    """Make an exception without its constructor, whose keyword-only arguments pickle knows nothing about."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(SagajobsError):
    """A setting is wrong or a server is out of reach; the message is one line that says what to do."""


class DefinitionError(SagajobsError):
    """A saga is declared in a way that cannot work; raised when its module is imported."""


class InvalidInput(SagajobsError):
    """The input of a saga was refused before anything was written.

    Attributes:
        problems: one line per problem, each naming the field where it is about one.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class IdempotencyConflict(SagajobsError):
    """An idempotency key was used before, with another input; nothing was started."""


class SagaNotFound(SagajobsError):
    """No saga has that id in this database."""


class SagaNotFinished(SagajobsError):
    """The saga had not come to its end when the time to wait for it was over.

    Attributes:
        saga_id: the saga, to ask for it later.
    """

    def __init__(self, message: str, *, saga_id: str) -> None:
        super().__init__(message)
        self.saga_id = saga_id


class CaseNotFound(SagajobsError):
    """No review case has that number in this database."""


class CaseClosed(SagajobsError):
    """The review case was settled before, perhaps a moment ago by somebody else; nothing was written."""


class RemedyRefused(SagajobsError):
    """A remedy, or a request to pause, resume or cancel, makes no sense where the saga stands; nothing was written.

    Attributes:
        why: in one clause, why a case does not take that remedy.
        takes: the remedies that it takes; none where the refusal is about something else.
    """

    def __init__(self, message: str, *, why: str = "", takes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.why = why
        self.takes = tuple(takes)


class IllegalTransition(SagajobsError):
    """The state machine has no arrow between these two states (docs/design.md, Transitions)."""


class ClaimLost(SagajobsError):
    """The fence moved on: another worker owns the step by now, so nothing may be written (SPEC G5)."""


class RehearsalOver(BaseException):
    """A rehearsed step has come to a call that would change something, which is on the list instead of being made.

    No `Exception`, so that a step's own handlers let it pass.
    """


class SagaException(SagajobsError):
    """A saga failed; everything it had done was undone.

    Attributes:
        saga_id: the saga, for tracing.
        failed_step: name of the step that failed.
        completed_steps: names of the steps that had been done, in order.

    The cause is chained where it is at hand (`run`, `SagaOrchestrator`).
    """

    def __init__(
        self,
        message: str,
        *,
        saga_id: str,
        failed_step: str | None = None,
        completed_steps: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.saga_id = saga_id
        self.failed_step = failed_step
        self.completed_steps = tuple(completed_steps)


class SagaCompensationException(SagaException):
    """A saga failed and its undo failed too: the data is inconsistent until a person settles it.

    Attributes:
        failed_compensations: step name to what went wrong with its undo.
    """

    def __init__(
        self,
        message: str,
        *,
        saga_id: str,
        failed_step: str | None = None,
        completed_steps: Sequence[str] = (),
        failed_compensations: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, saga_id=saga_id, failed_step=failed_step, completed_steps=completed_steps)
        self.failed_compensations = dict(failed_compensations or {})


class StepError(SagajobsError):
    """Base of what a step raises to tell the engine how it failed."""


class TransientError(StepError):
    """Nothing was done and the next attempt may succeed.

    Attributes:
        retry_after: seconds the other side asked us to wait, or None to leave it to the step's policy.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Deferred(TransientError):
    """Nothing was done and nothing was even tried (a quota, an open circuit): the attempt does not count."""


class PermanentError(StepError):
    """Nothing was done and no further attempt can succeed."""


class LockNotAvailable(PermanentError):
    """Another saga holds a lock that this one needs, and has not let go of it in time (SPEC G6)."""


class EffectGone(PermanentError):
    """A probe's word for: it was done, and somebody else has taken it back since; there is nothing to undo."""


class AmbiguousError(StepError):
    """It may have been done or not (time-out, 5xx, dropped connection): a probe must look (SPEC G3)."""


class AmbiguousRefusal(AmbiguousError):
    """The other side refused, perhaps because our own earlier call got through ("slot taken").

    A probe decides: found under our key, the step is done; absent, the refusal was real and is permanent.
    """
