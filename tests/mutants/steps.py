"""Mutants of what is done with one step: claimed, tried, doubted, undone."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_SAGA = "sagajobs/saga"
_FENCE = "tests/saga/test_fence.py"
_RUN = "tests/saga/test_run.py"
_PLAN = "tests/saga/test_plan.py"
_PRESENCE = "tests/saga/test_presence.py"

CLAIMS = (
    Mutant(
        "write-without-fence",
        "G5: a former owner of a step writes over the present one",
        f"{_SAGA}/statements.py",
        "name = :step AND fence = :fence AND state = :was\n        RETURNING saga_id, fence",
        "name = :step AND state = :was\n        RETURNING saga_id, fence",
        (f"{_FENCE}::test_a_write_under_an_old_fence_or_from_an_old_state_is_refused[fence]",),
    ),
    Mutant(
        "write-from-any-state",
        "G5: a step that was settled meanwhile is written as if it had not been",
        f"{_SAGA}/statements.py",
        "name = :step AND fence = :fence AND state = :was\n        RETURNING saga_id, fence",
        "name = :step AND fence = :fence\n        RETURNING saga_id, fence",
        (f"{_FENCE}::test_a_write_under_an_old_fence_or_from_an_old_state_is_refused[state]",),
    ),
    Mutant(
        "worked-on-twice",
        "a local step is worked on by two, each of which has counted an attempt before",
        f"{_SAGA}/act.py",
        "if held is None or held.fence != row.fence:",
        "if held is None:",
        (f"{_FENCE}::test_a_local_step_claimed_by_somebody_else_between_count_and_lock_is_not_worked_on_twice",),
    ),
    Mutant(
        "copies-count",
        "copies of a message that meet while a local step is counted use up its attempts, though none has died",
        f"{_SAGA}/forward.py",
        "lease=lease or HANDOVER,",
        "lease=lease,",
        (f"{_FENCE}::test_a_copy_that_comes_between_a_local_steps_count_and_its_lock_counts_no_attempt",),
    ),
    Mutant(
        "frozen-before-its-call",
        "G3: a worker that was frozen between claim and call makes the call that others have made meanwhile",
        f"{_SAGA}/forward.py",
        "        self.check_time()\n",
        "",
        (f"{_FENCE}::test_a_zombie_that_wakes_before_its_call_makes_none",),
    ),
    Mutant(
        "claim-when-paused",
        "a pause or a cancel that has committed keeps nothing from beginning",
        f"{_SAGA}/act.py",
        "if written.saga_state not in ({SagaState.COMPENSATING} if saga.state is SagaState.COMPENSATING else FORWARD):",
        "if written.saga_state in ENDED:",
        ("tests/saga/test_control.py::test_after_the_commit_of_a_pause_or_cancel_nothing_is_claimed",),
    ),
    Mutant(
        "wait-for-the-row",
        "a duplicate waits for the step's row in a worker's slot, as long as the work lasts",
        f"{_SAGA}/statements.py",
        "AND name = :step\n        FOR NO KEY UPDATE SKIP LOCKED",
        "AND name = :step\n        FOR NO KEY UPDATE",
        (f"{_FENCE}::test_a_duplicate_beside_the_step_at_work_ends_at_once_and_does_nothing[local]",),
    ),
    Mutant(
        "writes-before-the-record",
        "G2: a local step's writes are committed apart from the record that it is done",
        f"{_SAGA}/forward.py",
        "        return self._done(connection, record, row, output, attempt)\n\n    def call",
        "        connection.commit()\n"
        "        return self._done(connection, record, row, output, attempt)\n\n    def call",
        (f"{_FENCE}::test_turned_round_while_a_local_step_works_its_writes_are_taken_back",),
    ),
)

ATTEMPTS = (
    Mutant(
        "local-attempts-uncounted",
        "G1: a local step that kills its workers does so for ever, as no attempt is on record before the work",
        f"{_SAGA}/plan.py",
        "counted = step.external or row.attempts > 0 or saga.hints > 0 or redelivered",
        "counted = step.external",
        (f"{_PLAN}::test_a_later_delivery_of_a_local_step_counts_the_one_that_left_no_trace_too",),
    ),
    Mutant(
        "attempts-counted-in-memory",
        "G1: an external step that kills its workers does so for ever: the intent does not count the attempt",
        f"{_SAGA}/forward.py",
        "            attempts=attempt,\n            lease=lease or HANDOVER,",
        "            attempts=row.attempts,\n            lease=lease or HANDOVER,",
        ("tests/saga/test_stuck.py::test_a_call_that_kills_its_worker",),
    ),
    Mutant(
        "deferred-counts",
        "an outage or a used up quota uses up the attempts of a step that was not even tried",
        f"{_SAGA}/forward.py",
        "spent = attempt - 1 if kind is Failure.DEFERRED else attempt",
        "spent = attempt",
        (f"{_RUN}::test_a_deferred_attempt_does_not_count",),
    ),
    Mutant(
        "429-is-a-failure",
        "a rate limit of Cal.com's counts as a failed attempt",
        "sagajobs/calcom/errors.py",
        "class CalcomRateLimited(CalcomDeferred):",
        "class CalcomRateLimited(CalcomUnavailable):\n    __init__ = CalcomDeferred.__init__\n",
        ("tests/booking/test_creation.py::test_a_rate_limit_spends_no_attempt",),
    ),
    Mutant(
        "hold-counts",
        "a step that is held back, as Cal.com is known to be away, uses up its attempts by waiting",
        f"{_SAGA}/statements.py",
        "UPDATE saga_steps SET due_at = saga_now() + make_interval(secs => :delay)\n        WHERE",
        "UPDATE saga_steps SET attempts = attempts + 1, due_at = saga_now() + make_interval(secs => :delay)\n"
        "        WHERE",
        ("tests/saga/test_degradation.py::test_while_it_holds_nothing_is_counted_and_nothing_is_written",),
    ),
)

DOUBT = (
    Mutant(
        "no-probe",
        "G3: a call without an answer is made again, and what it had done is done twice",
        f"{_SAGA}/forward.py",
        "if kind is Failure.AMBIGUOUS and self.step.finder is None:\n            kind = Failure.TRANSIENT",
        "if kind is Failure.AMBIGUOUS:\n            kind = Failure.TRANSIENT",
        (f"{_RUN}::test_booked_but_reported_as_failed_is_found_and_not_booked_twice",),
    ),
    Mutant(
        "dead-workers-call-again",
        "G3: a call whose worker died in it is made again without a look",
        f"{_SAGA}/plan.py",
        "if row.state is StepState.UNKNOWN or (died_in_it and step.finder is not None):",
        "if row.state is StepState.UNKNOWN:",
        (f"{_PLAN}::test_an_unknown_outcome_is_settled_before_anything_is_repeated",),
    ),
    Mutant(
        "absent-after-one-look",
        "G3: one look that sees nothing is believed, though replicas lag",
        f"{_SAGA}/settle.py",
        "if seen_nothing < finder.looks or row.absent_for < finder.over:",
        "if seen_nothing < 1:",
        (f"{_RUN}::test_not_booked_after_a_timeout_is_seen_often_enough_and_tried_again",),
    ),
    Mutant(
        "absent-before-the-call-landed",
        "G3: a dead worker's call is taken for lost before its time, and comes about after it was made again",
        f"{_SAGA}/settle.py",
        "if row.landing > 0:",
        "if row.landing is None:",
        (f"{_PRESENCE}::test_looks_that_find_nothing_settle_nothing_before_the_call_has_had_its_time",),
    ),
    Mutant(
        "doubt-forgotten",
        "G3: that an earlier attempt may stand is forgotten when the next one is refused",
        f"{_SAGA}/forward.py",
        'in_doubt = bool((row.error or {}).get("in_doubt"))\n        if kind is',
        "in_doubt = False\n        if kind is",
        ("tests/saga/test_idempotent.py::test_a_doubt_outlives_the_failure_that_follows_it",),
    ),
    Mutant(
        "anybodys-booking-is-ours",
        "G3: a look takes another booking of the customer for the one that was made under our key",
        "sagajobs/booking/outside.py",
        "        if booking.metadata.get(METADATA_KEY) == key\n",
        "        if key\n",
        ("tests/booking/test_creation.py::test_the_slot_is_taken_by_an_earlier_booking_of_the_same_customer",),
    ),
    Mutant(
        "key-ignored-in-a-race",
        "G3: of two starts with one idempotency key at once, the second names a saga that there is not",
        f"{_SAGA}/engine.py",
        "if not started and idempotency_key is not None:",
        "if not started and idempotency_key is None:",
        ("tests/saga/test_start.py::test_a_start_overtaken_by_another_with_its_key_leads_to_that_one",),
    ),
)

UNDO = (
    Mutant(
        "undo-forwards",
        "G4: what is undone first is what the rest was built on",
        f"{_SAGA}/plan.py",
        "for glance in sorted(steps, key=_age, reverse=True):",
        "for glance in sorted(steps, key=_age):",
        (
            f"{_PLAN}::test_undo_goes_from_the_newest_to_the_oldest",
            f"{_RUN}::test_undo_runs_backwards_and_its_evidence_is_kept",
        ),
    ),
    Mutant(
        "undo-without-the-unknown",
        "G4: a step whose outcome is unknown is left standing when the saga is undone",
        f"{_SAGA}/plan.py",
        "open_ends = (StepState.RUNNING, StepState.UNKNOWN)",
        "open_ends = (StepState.RUNNING,)",
        (
            f"{_PLAN}::test_what_may_still_happen_comes_first",
            f"{_RUN}::test_what_began_before_the_saga_is_undone_even_if_the_first_step_fails",
        ),
    ),
    Mutant(
        "compensated-though-an-undo-failed",
        "G4: a saga is called compensated while something of it stands",
        f"{_SAGA}/backward.py",
        "saga_to=SagaState.MANUAL_REVIEW_REQUIRED,",
        "saga_to=SagaState.COMPENSATED,",
        (f"{_RUN}::test_an_undo_that_fails_for_good_halts_the_saga_and_asks_a_person",),
    ),
    Mutant(
        "begun-too-late",
        "an appointment is booked whose time has passed while its saga waited",
        f"{_SAGA}/plan.py",
        "if saga.late and not step.after_pivot:",
        "if saga.late and step.after_pivot:",
        (f"{_PLAN}::test_past_its_time_a_saga_is_not_begun_but_settled",),
    ),
    Mutant(
        "undo-past-the-pivot",
        "what only goes forward is undone",
        f"{_SAGA}/forward.py",
        "if self.step.after_pivot and not goes_on:",
        "if self.step.pivot and not goes_on:",
        (f"{_RUN}::test_before_the_pivot_a_failure_undoes_and_past_it_only_forward",),
    ),
    Mutant(
        "undo-beside-a-step-at-work",
        "G4: what lies below a step in flight is undone before it is known what comes of it",
        f"{_SAGA}/executor.py",
        "            if row.leased or row.early:\n                return Outcome(Verdict.LATER, row.wait)",
        "            if row.early:\n                return Outcome(Verdict.LATER, row.wait)",
        (
            f"{_FENCE}::test_compensating_waits_for_a_step_in_flight",
            "tests/saga/test_parallel_failure.py::test_one_in_flight_is_waited_for_and_what_it_then_did_is_undone",
        ),
    ),
    Mutant(
        "cancel-ignores-doubt",
        "a saga is cancelled whose pivot may stand",
        f"{_SAGA}/control.py",
        "in_doubt = glance.state in (StepState.WAITING, StepState.FAILED) and glance.in_doubt",
        "in_doubt = False",
        ("tests/saga/test_idempotent.py::test_a_pivot_in_doubt_that_waits_for_its_next_attempt_is_not_cancelled",),
    ),
    Mutant(
        "cancelled-unread",
        "G4: a booking counts as cancelled though it reads otherwise",
        "sagajobs/booking/compensation.py",
        "if booking.status not in (BookingStatus.CANCELLED, BookingStatus.REJECTED):",
        "if booking.status is None:",
        ("tests/booking/test_compensation.py::test_a_booking_that_does_not_read_as_cancelled_is_not_called_so",),
    ),
)
