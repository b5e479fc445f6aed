"""Mutants of what others are told: events, errors, traces, counters."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_SAGA = "sagajobs/saga"
_OUTBOX = "tests/saga/test_outbox.py"
_WATCHING = "tests/saga/test_watching.py"

TELLING = (
    Mutant(
        "two-senders",
        "two sweeps send at once, and a saga's events overtake each other",
        f"{_SAGA}/outbox.py",
        'if not connection.execute(ALONE, {"lock_class": _LOCK_CLASS}).scalar_one():',
        "if False:",
        (f"{_OUTBOX}::test_two_senders_at_once_do_not_overtake_each_other",),
    ),
    Mutant(
        "event-dropped",
        "an event that the broker has not taken is deleted",
        f"{_SAGA}/outbox.py",
        "for one in batch[:taken]",
        "for one in batch",
        (f"{_OUTBOX}::test_what_the_broker_does_not_take_waits_in_its_order",),
    ),
    Mutant(
        "queue-without-end",
        "a subscription that nobody empties fills the broker's memory, which sagas' messages need",
        f"{_SAGA}/bus.py",
        "room = max(self._full - max(lengths, default=0), 0)",
        "room = self._full",
        (f"{_OUTBOX}::test_a_subscriber_who_is_behind_has_the_events_wait_in_the_outbox",),
    ),
    Mutant(
        "watcher-harms",
        "a saga fails because somebody could not be told of it",
        f"{_SAGA}/watching.py",
        '        log.warning("somebody who looks on failed: %s", type(error).__name__)\n',
        "        raise error\n",
        (f"{_WATCHING}::test_one_who_fails_harms_no_saga_and_no_sweep",),
    ),
    Mutant(
        "trace-lost",
        "what is done for a saga is in no trace, or in another one",
        f"{_SAGA}/act.py",
        "trace=self._trace,",
        "trace=None,",
        (f"{_WATCHING}::test_they_hear_of_start_hint_steps_probes_and_undos_with_the_trace_of_the_start",),
    ),
    Mutant(
        "message-told",
        "G7: what an exception says, which may quote a customer, goes to Sentry",
        "sagajobs/monitoring/sentry.py",
        '        value["value"] = WITHHELD\n',
        "        pass\n",
        ("tests/monitoring/test_worker.py::test_a_mistake_in_the_code_is_an_error_with_its_saga_and_nothing_personal",),
    ),
    Mutant(
        "variables-told",
        "G7: the values of variables go to Sentry",
        "sagajobs/monitoring/sentry.py",
        "include_local_variables=False",
        "include_local_variables=True",
        ("tests/monitoring/test_worker.py::test_a_mistake_in_the_code_is_an_error_with_its_saga_and_nothing_personal",),
    ),
)
