"""Mutants of what is between sagas and around them: locks, siblings, messages, sweeps, Cal.com."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_SAGA = "sagajobs/saga"
_PLAN = "tests/saga/test_plan.py"
_LOCKS = "tests/saga/test_locks.py"
_HELD = "tests/saga/test_locks_held.py"
_RACES = "tests/saga/test_review_races.py"
_PRESENCE = "tests/saga/test_presence.py"
_COUNTS = "tests/acceptance/test_counts.py"
_FUNCTIONS = "sagajobs/migrations/versions/0007_totals.py"
_IN_LINE = """
                INSERT INTO saga_locks (resource, saga_id, held, waits_until)
                    VALUES (r, taker, false, saga_now() + make_interval(secs => patience)) ON CONFLICT DO NOTHING;
                WITH got"""
"""What follows in the function that stands, and not in the one that a downgrade brings back."""

LOCKING = (
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
        _FUNCTIONS,
        f"AND g.ended_at IS NOT NULL;{_IN_LINE}",
        f"AND (g.ended_at IS NOT NULL OR l.held AND l.since < saga_now() - interval '5 min');{_IN_LINE}",
        (f"{_HELD}::test_a_lock_does_not_expire_however_long_its_saga_takes",),
    ),
    Mutant(
        "lock-to-one-at-rest",
        "G6: a lock is handed to a saga that has turned round or is paused, and nobody gets it",
        _FUNCTIONS,
        "g.state IN ('pending', 'running', 'partial')\n                            ORDER BY l.place LIMIT 1)\n"
        "                        AND NOT EXISTS",
        "g.state IS NOT NULL\n                            ORDER BY l.place LIMIT 1)\n"
        "                        AND NOT EXISTS",
        (f"{_HELD}::test_a_paused_holder_blocks_and_a_paused_waiter_does_not",),
    ),
    Mutant(
        "lock-of-one-that-ended",
        "G6: a lock whose saga has ended, the word being lost, blocks for ever",
        _FUNCTIONS,
        f"AND g.ended_at IS NOT NULL;{_IN_LINE}",
        f"AND g.ended_at IS NULL AND g.ended_at IS NOT NULL;{_IN_LINE}",
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

TOGETHER = (
    Mutant(
        "join-by-looking",
        "of two siblings done in the same moment neither sees the other, and the saga stands still",
        f"{_SAGA}/statements.py",
        '    FROM saga, step\n""",  # noqa: S608 - no value in it\n',
        '    FROM saga, step\n""".replace("g.open_steps <= 1", """NOT EXISTS (\n'
        "        SELECT FROM saga_steps o WHERE o.saga_id = g.id AND o.stage = g.stage AND o.name <> :step\n"
        "            AND o.state IN ('waiting', 'running', 'unknown'))\"\"\"),\n",
        ("tests/saga/test_parallel.py::test_the_second_one_waits_for_the_firsts_commit_and_then_carries_on",),
    ),
    Mutant(
        "publish-before-the-commit",
        "a worker looks at a saga that there is not yet, or never will be",
        f"{_SAGA}/engine.py",
        "                after_commit(session, committed)",
        "                committed()",
        ("tests/saga/test_start.py::test_in_the_callers_transaction_the_hint_waits_for_his_commit",),
    ),
    Mutant(
        "publish-at-a-savepoint",
        "likewise, where the caller's own transaction has savepoints",
        f"{_SAGA}/session.py",
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

SWEEPS = (
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

CALCOM = (
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
