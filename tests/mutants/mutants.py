"""The mutants: each breaks one guarantee by one exact change of the code, and names the tests that must notice it.

A test is named as pytest does, without its parameters where any of its cases may notice; the fastest that does not
depend on chance. `why` is what is lost, with the name of the guarantee (docs/design.md) if it has one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One way to break the code.

    Attributes:
        name: how it is called.
        why: what is broken then, in one line.
        file: path in the tree.
        old: text that is there exactly once.
        new: what takes its place.
        caught_by: tests each of which must fail.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


_SAGA = "sagajobs/saga"
_FENCE = "tests/saga/test_fence.py"
_RUN = "tests/saga/test_run.py"
_PLAN = "tests/saga/test_plan.py"
_LOCKS = "tests/saga/test_locks.py"
_HELD = "tests/saga/test_locks_held.py"
_RACES = "tests/saga/test_review_races.py"
_PRESENCE = "tests/saga/test_presence.py"
_COUNTS = "tests/acceptance/test_counts.py"

_CLAIMS = (
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
        (f"{_FENCE}::test_a_local_step_claimed_by_somebody_else_between_count_and_work_is_not_worked_on_twice",),
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

_ATTEMPTS = (
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
        "            attempts=attempt,\n            lease=lease,",
        "            attempts=row.attempts,\n            lease=lease,",
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

_DOUBT = (
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

_UNDO = (
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

_LOCKING = (
    Mutant(
        "lock-until-the-first-commit",
        "G6: a saga lets go of what it works on with its first step's commit",
        f"{_SAGA}/store.py",
        "if row.locking and state in ENDED:",
        "if row.locking:",
        (f"{_LOCKS}::test_the_second_waits_and_is_told_as_soon_as_the_first_has_ended",),
    ),
    Mutant(
        "lock-expires",
        "G6: a saga that takes long loses what it works on, and two are at it",
        "sagajobs/migrations/versions/0002_locks_cases_composites.py",
        "AND g.ended_at IS NOT NULL;",
        "AND (g.ended_at IS NOT NULL OR l.held AND l.since < saga_now() - interval '5 min');",
        (f"{_HELD}::test_a_lock_does_not_expire_however_long_its_saga_takes",),
    ),
    Mutant(
        "lock-to-one-at-rest",
        "G6: a lock is handed to a saga that has turned round or is paused, and nobody gets it",
        "sagajobs/migrations/versions/0002_locks_cases_composites.py",
        "g.state IN ('pending', 'running', 'partial')\n                        ORDER BY l.place LIMIT 1)\n"
        "                    AND NOT EXISTS",
        "g.state IS NOT NULL\n                        ORDER BY l.place LIMIT 1)\n                    AND NOT EXISTS",
        (f"{_HELD}::test_a_paused_holder_blocks_and_a_paused_waiter_does_not",),
    ),
    Mutant(
        "lock-of-one-that-ended",
        "G6: a lock whose saga has ended, the word being lost, blocks for ever",
        "sagajobs/migrations/versions/0002_locks_cases_composites.py",
        "AND g.ended_at IS NOT NULL;",
        "AND g.ended_at IS NULL AND g.ended_at IS NOT NULL;",
        (f"{_HELD}::test_a_saga_that_asks_a_person_keeps_what_it_works_on",),
    ),
    Mutant(
        "end-without-its-turn",
        "G6: a saga that ends while it is handed a lock deadlocks with whoever hands it",
        f"{_SAGA}/store.py",
        "if to in ENDED:\n            take_turns(self._connection, saga_id)",
        "if to in ENDED:\n            pass",
        (f"{_LOCKS}::test_cancelled_in_the_moment_in_which_it_gets_its_lock",),
    ),
)

_TOGETHER = (
    Mutant(
        "join-by-looking",
        "of two siblings done in the same moment neither sees the other, and the saga stands still",
        f"{_SAGA}/statements.py",
        '    FROM saga, step\n""")  # noqa: S608 - no value in it\n"""The only statement',
        '    FROM saga, step\n""".replace("g.open_steps <= 1", """NOT EXISTS (\n'
        "        SELECT FROM saga_steps o WHERE o.saga_id = g.id AND o.stage = g.stage AND o.name <> :step\n"
        "            AND o.state IN ('waiting', 'running', 'unknown'))\"\"\"))\n\"\"\"The only statement",
        ("tests/saga/test_parallel.py::test_the_second_one_waits_for_the_firsts_commit_and_then_carries_on",),
    ),
    Mutant(
        "publish-before-the-commit",
        "a worker looks at a saga that there is not yet, or never will be",
        f"{_SAGA}/engine.py",
        "                _after_commit(session, hint)",
        "                hint()",
        ("tests/saga/test_start.py::test_in_the_callers_transaction_the_hint_waits_for_his_commit",),
    ),
    Mutant(
        "publish-at-a-savepoint",
        "likewise, where the caller's own transaction has savepoints",
        f"{_SAGA}/engine.py",
        "        return  # a SAVEPOINT was released: the saga is not visible to anybody yet",
        "        pass",
        ("tests/saga/test_start.py::test_a_savepoint_released_is_no_commit",),
    ),
    Mutant(
        "duplicates-drag-their-chain",
        "every duplicate sends the rest of its chain behind it, and the queues fill",
        f"{_SAGA}/canvas.py",
        "    task.request.chain = None\n    if outcome.verdict is Verdict.LATER:",
        "    if outcome.verdict is Verdict.LATER:",
        (f"{_COUNTS}::test_a_duplicate_message_costs_one_query_and_no_commit_and_its_chain_ends[2]",),
    ),
    Mutant(
        "redelivered-carries-on",
        "a redelivered message begins a second tail of its chain, though the first one is on its way",
        f"{_SAGA}/plan.py",
        "Do.CARRY_ON if redelivered and _untouched(saga, row.stage + 1) else Do.NOTHING",
        "Do.CARRY_ON if redelivered else Do.NOTHING",
        (f"{_PLAN}::test_a_redelivered_message_carries_the_chain_on_only_onto_an_untouched_step",),
    ),
    Mutant(
        "input-in-the-message",
        "G7: what a customer has told leaves the database in a message",
        f"{_SAGA}/canvas.py",
        "        return self._app.tasks[name].si(saga_id=saga_id, **number).set(queue=self._queues[name])",
        "        from sagajobs.saga.store import Store\n\n"
        "        with self._engine.database.reading() as connection:\n"
        "            about = Store(connection).read(saga_id).input\n"
        "        told = {'headers': {'about': str(about)}}\n"
        "        return self._app.tasks[name].si(saga_id=saga_id, **number).set(queue=self._queues[name], **told)",
        ("tests/saga/test_start.py::test_a_message_carries_ids_and_names_only",),
    ),
)

_SWEEPS = (
    Mutant(
        "sweep-takes-what-is-taken",
        "two sweeps at once hint at every saga twice",
        f"{_SAGA}/statements.py",
        "    WHERE id = CAST(:id AS uuid) AND next_at <= saga_now()\n    RETURNING id, name, kind",
        "    WHERE id = CAST(:id AS uuid) AND next_at IS NOT NULL\n    RETURNING id, name, kind",
        ("tests/saga/test_sweep.py::test_a_saga_that_another_sweep_has_taken_is_passed_over",),
    ),
    Mutant(
        "hints-without-end",
        "hints at a saga never come more rarely, and a slow queue is flooded",
        f"{_SAGA}/statements.py",
        "least(:stall_after * power(2, least(hints, 20)), :longest)",
        "least(:stall_after, :longest)",
        ("tests/saga/test_sweep.py::test_a_slow_queue_is_not_taken_for_a_dead_worker",),
    ),
    Mutant(
        "frozen-is-dead",
        "a process that stands still for a second is taken for dead, its step for nobody's",
        f"{_SAGA}/wake.py",
        "AND l.granted AND d.datname = current_database()",
        "AND l.granted AND d.datname = current_database()\n"
        "        AND EXISTS (SELECT FROM pg_stat_activity a\n"
        "            WHERE a.pid = l.pid AND a.state_change > clock_timestamp() - interval '1 s')",
        (f"{_PRESENCE}::test_one_that_is_silent_is_not_missed",),
    ),
    Mutant(
        "restart-kills-all",
        "after a restart of the server all are taken for dead who have not come back, though they may be at work",
        f"{_SAGA}/wake.py",
        "WHEN server_started = pg_postmaster_start_time() THEN",
        "WHEN server_started IS NOT NULL THEN",
        (f"{_PRESENCE}::test_after_a_restart_of_the_server_nobody_is_buried_who_has_not_come_back",),
    ),
    Mutant(
        "purge-what-is-under-way",
        "G1: sagas that have not ended are deleted with the old ones",
        f"{_SAGA}/sweeps/statements.py",
        "    ended_at < saga_now() - make_interval(days => :days)",
        "    coalesce(ended_at, created_at) < saga_now() - make_interval(days => :days)",
        ("tests/saga/test_sweeps_purge.py::test_what_is_asked_about_or_under_way_stays_and_what_was_abandoned_goes",),
    ),
    Mutant(
        "purge-what-is-asked-about",
        "a saga that a person is asked about is deleted, and the question with it",
        f"{_SAGA}/sweeps/statements.py",
        "        AND NOT EXISTS (SELECT FROM review_cases r WHERE r.saga_id = g.id AND r.closed_at IS NULL)",
        "",
        ("tests/saga/test_sweeps_purge.py::test_what_is_asked_about_or_under_way_stays_and_what_was_abandoned_goes",),
    ),
    Mutant(
        "remedy-unchecked",
        "of two operators at once the second one settles a case that was settled while he waited",
        f"{_SAGA}/review.py",
        "        Settlement(connection, found).lock()\n"
        "        found = cases.case(connection, number)\n"
        "        check_open(found)\n",
        "        Settlement(connection, found).lock()\n",
        (f"{_RACES}::test_of_two_operators_at_once_one_wins_and_the_other_is_told",),
    ),
    Mutant(
        "remedy-raises-no-fence",
        "G5: what a sweep has seen of a case before an operator's retry is written over it",
        f"{_SAGA}/settlement.py",
        "state = :to, fence = fence + 1, owner = NULL",
        "state = :to, owner = NULL",
        (f"{_RACES}::test_a_look_that_comes_back_after_a_retry_writes_nothing",),
    ),
)

_CALCOM = (
    Mutant(
        "webhook-unsigned",
        "anybody may tell us what has happened at Cal.com",
        "sagajobs/calcom/webhooks.py",
        'if not hmac.compare_digest(sign(body, secret).encode(), signature.strip().encode("utf-8", "replace")):',
        "if not signature.strip():",
        ("tests/calcom/test_webhooks.py::test_a_signature_that_is_missing_or_wrong_is_refused",),
    ),
    Mutant(
        "webhook-without-its-time",
        "a second change of the same kind to one booking is taken for a copy of the first one",
        "sagajobs/calcom/webhooks.py",
        'told = f"{self.trigger} {self.uid} {timestamp(self.created_at)}"',
        'told = f"{self.trigger} {self.uid}"',
        ("tests/calcom/test_webhooks.py::test_copies_have_one_key_and_others_have_another",),
    ),
    Mutant(
        "half-open-for-all",
        "a Cal.com that is just coming back gets every waiting call at once",
        "sagajobs/calcom/circuit.py",
        "if not trial.acquire(blocking=False):",
        "if not trial.acquire(blocking=False) and trial is None:",
        ("tests/calcom/test_circuit.py::test_while_a_trial_is_under_way_the_others_wait",),
    ),
)

MUTANTS = (*_CLAIMS, *_ATTEMPTS, *_DOUBT, *_UNDO, *_LOCKING, *_TOGETHER, *_SWEEPS, *_CALCOM)
