"""What must be true of a saga that was tried, and the message that says what is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from sagajobs.saga import Saga, SagaHandle, SagaState, cases
from sagajobs.saga.cases import Case as ReviewCase
from sagajobs.saga.cases import Happening
from sagajobs.saga.events import Lifecycle
from sagajobs.saga.states import ENDED

_LOCKS = text("SELECT resource FROM saga_locks WHERE saga_id = CAST(:id AS uuid) ORDER BY resource")


class CheckFailed(AssertionError):
    """A saga did not come to what it should: which, where it was tried, what is wrong, and its history."""


class Verdict:
    """Judges one saga.

    Args:
        handle: the saga.
        kind: its class.
        place: what was tried, for the message.
        standing: see `Case`.
        invariants: see `Case`.
    """

    def __init__(
        self,
        handle: SagaHandle,
        kind: type[Saga],
        place: str,
        *,
        standing: Callable[[str], Sequence[Any]],
        invariants: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._kind = kind
        self._place = place
        self._standing = standing
        self._invariants = invariants

    def failure(self, problem: str) -> CheckFailed:
        """Return what to raise: saga, place, problem, and the saga's history."""
        lines = [f"saga {self._kind.name}, {self._place}: {problem}"]
        history = self.history()
        for one in history:
            seconds = (one.at - history[0].at).total_seconds()
            attempt = "" if one.attempt is None else f" #{one.attempt}"
            detail = "" if not one.detail else f"  {dict(one.detail)}"
            lines.append(f"  {seconds:9.3f} s  {one.event:<22} {one.step or ''}{attempt}{detail}")
        return CheckFailed("\n".join(lines))

    def history(self) -> list[Happening]:
        """Return what happened to the saga, the oldest first."""
        with self._handle.engine.database.reading() as connection:
            return cases.history(connection, self._handle.id)

    def case(self) -> ReviewCase:
        """Return the case of a saga that waits for a person; it has one, with a reason."""
        found = self._handle.engine.review.of(self._handle.id)
        if not found.open or not found.reason:
            raise self.failure("it waits for a person, and no open case says why")
        return found

    def assert_happened(self, name: str, *events: Lifecycle) -> None:
        """Assert that the history has one of these events of a step: that it is the one which was hit."""
        if not any(one.step == name and one.event in events for one in self.history()):
            raise self.failure(f"{' or '.join(events)} of {name} is not in its history")

    def assert_state(self, state: SagaState) -> None:
        """Assert where the saga has come to."""
        came = self._handle.status()
        if came is state:
            return
        why = f" ({self.case().reason}: {self.case().step})" if came is SagaState.MANUAL_REVIEW_REQUIRED else ""
        raise self.failure(f"it is {came}{why}, and should be {state}")

    def assert_end(self, state: SagaState, *, standing: int | None = None, at_most: bool = False) -> None:
        """Assert that the saga has ended well.

        Args:
            state: `completed` or `compensated`.
            standing: how much is to stand outside for one that is completed; None for whatever there is.
            at_most: less may stand, too, as an optional step failed.
        """
        self.assert_state(state)
        if state in ENDED:
            self._assert_nothing_held()
        self._assert_steps_sane()
        stands = list(self._standing(self._handle.id))
        if state is SagaState.COMPENSATED and stands:
            raise self.failure(f"it was undone, and {len(stands)} stand outside: {stands}")
        off = 0 if standing is None or state is not SagaState.COMPLETED else len(stands) - standing
        if off > 0 or (off < 0 and not at_most):
            what = f"{abs(off)} {'more' if off > 0 else 'fewer'} than after an undisturbed one"
            raise self.failure(f"{what} stand outside: {stands}")
        try:
            self._invariants()
        except AssertionError as error:
            raise self.failure(f"an invariant does not hold: {error}") from error

    def _assert_nothing_held(self) -> None:
        with self._handle.engine.database.reading() as connection:
            held = list(connection.execute(_LOCKS, {"id": self._handle.id}).scalars())
        if held:
            raise self.failure(f"it has ended and still holds {', '.join(held)}")

    def _assert_steps_sane(self) -> None:
        for name, glance in self._handle.record().steps.items():
            most = self._kind.definition.step(name).most_attempts
            if glance.attempts > most:
                raise self.failure(f"{name} had {glance.attempts} attempts of {most}")
            if glance.leased:
                raise self.failure(f"{name} is still claimed by a worker")
        fences: dict[str, int] = {}
        for one in self.history():
            if one.step is None or one.fence is None:
                continue
            if one.fence < fences.get(one.step, 0):
                raise self.failure(f"{one.step} was written under fence {one.fence} after {fences[one.step]}")
            fences[one.step] = one.fence
