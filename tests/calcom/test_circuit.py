"""The shared circuit breaker: what opens it, the one call that tries, and what closes it."""

import time

import pytest

from sagajobs.calcom import circuit as circuit_module
from sagajobs.calcom import errors
from sagajobs.calcom.circuit import Circuit, CircuitState
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.operations import CREATE_BOOKING, ME
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.rehearsal import rehearsing
from sagajobs.errors import Deferred
from sagajobs.testing.waiting import wait_for
from tests.support.circuits import admitted, fail, let_trial_come

OPEN, CLOSED, HALF_OPEN = CircuitState.OPEN, CircuitState.CLOSED, CircuitState.HALF_OPEN
FAULTS = ("http_500", "http_503", "http_524", "drop", "timeout", "malformed")


@pytest.mark.parametrize("kind", FAULTS)
def test_failures_in_a_row_open_it_for_reads_and_changes(hasty_guarded, simulator, circuit, new, kind):
    simulator.fault("any", kind, count=10)

    for call in (hasty_guarded.me, lambda: hasty_guarded.create_booking(new()), hasty_guarded.find_bookings):
        assert circuit.state() is CLOSED
        with pytest.raises((errors.CalcomUnavailable, errors.CalcomOutcomeUnknown)):
            call()
    assert circuit.state() is OPEN
    for call in (hasty_guarded.me, lambda: hasty_guarded.create_booking(new())):
        with pytest.raises(errors.CalcomCircuitOpen) as caught:
            call()
        assert isinstance(caught.value, Deferred)
        assert 0 < caught.value.retry_after <= 60 * (1 + circuit_module.CHANGES_LATER + circuit_module.SPREAD)
    wait_for(lambda: len(simulator.calls()) >= 3)
    assert [call["operation"] for call in simulator.calls()] == ["me", "create", "list"]


def test_a_server_that_is_not_there_opens_it(circuit, free_port):
    with CalcomClient(f"http://127.0.0.1:{free_port}", "cal_x", gate=Gate(circuit=circuit)) as client:
        for _ in range(3):
            with pytest.raises(errors.CalcomUnavailable):
                client.me()
        with pytest.raises(errors.CalcomCircuitOpen):
            client.me()


def test_refusals_and_rate_limits_do_not_count(guarded, simulator, circuit, new):
    simulator.fault("any", "rate_limit", count=5)
    for _ in range(5):
        with pytest.raises(errors.CalcomRateLimited):
            guarded.me()
    start = new().start
    guarded.create_booking(new(start=start))
    for _ in range(5):
        with pytest.raises(errors.SlotTaken):
            guarded.create_booking(new(start=start))
        with pytest.raises(errors.BookingNotFound):
            guarded.get_booking("unheard-of")

    assert circuit.snapshot() == circuit_module.CircuitSnapshot(CLOSED, 0, None, 0)


def test_an_answer_in_between_starts_the_row_again(guarded, simulator, circuit):
    for _ in range(3):
        simulator.fault("any", "http_503", count=2)
        for _ in range(2):
            with pytest.raises(errors.CalcomUnavailable):
                guarded.me()
        guarded.me()

    assert circuit.state() is CLOSED


def test_a_refusal_starts_the_row_again_and_a_rate_limit_does_not(guarded, simulator, circuit):
    fail(circuit, 2)
    simulator.fault("any", "rate_limit")
    with pytest.raises(errors.CalcomRateLimited):
        guarded.me()
    assert circuit.snapshot().failures == 2

    with pytest.raises(errors.BookingNotFound):
        guarded.get_booking("unheard-of")
    assert circuit.snapshot().failures == 0


def test_workers_count_together(shared):
    """Another process that sees the circuit close must not set back what was counted since."""
    one, other = (Circuit(shared, failures=5, reset=30, longest_call=5) for _ in range(2))
    fail(other, 5)
    assert (one.state(), other.state()) == (OPEN, OPEN)
    assert not admitted(one)
    one.close()
    assert (one.state(), other.state()) == (CLOSED, CLOSED)

    fail(one, 3)
    fail(other, 1)
    assert one.state() is CLOSED
    fail(one, 1)
    assert (one.state(), other.state()) == (OPEN, OPEN)


def test_a_working_trial_closes_it(guarded, simulator, circuit, caplog):
    fail(circuit, 3)
    let_trial_come(circuit)

    assert guarded.me().id == 1

    assert circuit.snapshot().state is CLOSED
    assert circuit.snapshot().failures == 0
    assert [record.getMessage() for record in caplog.records if record.name == circuit_module.__name__] == [
        "Cal.com's circuit: open, was closed",
        "Cal.com's circuit: half_open, was open",
        "Cal.com's circuit: closed, was half_open",
    ]


def test_a_failing_trial_opens_it_for_as_long_again(guarded, simulator, circuit):
    fail(circuit, 3)
    let_trial_come(circuit)
    opened_at = circuit.snapshot().opened_at
    simulator.fault("any", "http_503")

    with pytest.raises(errors.CalcomUnavailable):
        guarded.me()

    assert circuit.state() is OPEN
    assert circuit.snapshot().opened_at > opened_at
    assert circuit.snapshot().next_trial_in > 30
    assert not admitted(circuit)


def test_a_refused_trial_closes_it(guarded, circuit):
    fail(circuit, 3)
    let_trial_come(circuit)

    with pytest.raises(errors.BookingNotFound):
        guarded.get_booking("unheard-of")

    assert circuit.state() is CLOSED


def test_a_trial_that_tells_nothing_leaves_it_to_the_next(guarded, simulator, circuit):
    fail(circuit, 3)
    let_trial_come(circuit)
    simulator.fault("any", "rate_limit")

    with pytest.raises(errors.CalcomRateLimited):
        guarded.me()
    assert circuit.state() is HALF_OPEN
    guarded.me()

    assert circuit.state() is CLOSED


def test_a_trial_without_quota_leaves_it_to_the_next(simulator, circuit, shared):
    quota = Quota(shared, 1, delay=0)
    quota.take(ME, Priority.UNDO)
    fail(circuit, 3)
    let_trial_come(circuit)

    with (
        CalcomClient(simulator.url, "cal_test_simulator", gate=Gate(circuit=circuit, quota=quota)) as client,
        pytest.raises(errors.CalcomQuotaSpent),
    ):
        client.me()

    assert simulator.calls() == []
    assert admitted(circuit)


def test_what_the_circuit_stops_uses_no_quota(simulator, circuit, shared):
    quota = Quota(shared, 10, delay=0)
    fail(circuit, 3)

    with CalcomClient(simulator.url, "cal_test_simulator", gate=Gate(circuit=circuit, quota=quota)) as client:
        for _ in range(5):
            with pytest.raises(errors.CalcomCircuitOpen):
                client.me()

    assert quota.snapshot().used == 0


def test_while_a_trial_is_under_way_the_others_wait(circuit):
    fail(circuit, 3)
    let_trial_come(circuit)
    trial = circuit.admit(ME)

    assert circuit.state() is HALF_OPEN
    assert circuit.snapshot().next_trial_in > 200
    with pytest.raises(errors.CalcomCircuitOpen) as caught:
        circuit.admit(ME)
    assert 200 < caught.value.retry_after <= 300 + 60 * circuit_module.SPREAD
    circuit.succeeded(trial)
    assert admitted(circuit)


def test_who_asks_first_is_told_how_long_to_wait(guarded, circuit):
    assert guarded.hold() == 0
    fail(circuit, 3)
    assert 0 < guarded.hold() < 60 * (1 + circuit_module.CHANGES_LATER + circuit_module.SPREAD)
    let_trial_come(circuit)
    circuit.admit(ME)
    assert 200 < guarded.hold() <= 300 + 60 * circuit_module.SPREAD, "the trial is another's"


def test_who_asks_when_a_trial_is_due_makes_it_with_a_call_that_changes_nothing(guarded, circuit, simulator):
    fail(circuit, 3)
    let_trial_come(circuit)
    simulator.fault("any", "http_503", count=1)
    assert guarded.hold() > 0
    assert circuit.state() is OPEN
    let_trial_come(circuit)
    assert guarded.hold() == 0
    assert circuit.state() is CLOSED
    assert [call["operation"] for call in simulator.calls()] == ["list", "list"]


def test_who_rehearses_may_make_the_trial_as_well(guarded, circuit, simulator):
    fail(circuit, 3)
    let_trial_come(circuit)
    assert rehearsing(guarded, []).hold() == 0
    assert circuit.state() is CLOSED


def test_a_trial_whose_worker_died_is_somebody_else_s(shared):
    circuit = Circuit(shared, failures=1, reset=60, longest_call=2)
    fail(circuit, 1)
    let_trial_come(circuit)
    begun = time.monotonic()
    lost = circuit.admit(ME)
    assert not admitted(circuit) or time.monotonic() - begun > 1.9

    wait_for(lambda: admitted(circuit))

    # It was only slow, and tells of its failure after all: true, so it counts, and takes nobody's lock away.
    trial = circuit.admit(ME)
    circuit.failed(lost)
    assert circuit.state() is OPEN
    assert circuit.snapshot().next_trial_in > 0
    assert not admitted(circuit)
    circuit.succeeded(trial)


def test_a_call_that_was_sent_before_it_opened_changes_nothing(circuit):
    before = circuit.admit(ME)
    fail(circuit, 3)
    opened_at = circuit.snapshot().opened_at

    circuit.succeeded(before)
    assert circuit.state() is OPEN
    circuit.failed(before)
    assert circuit.snapshot().opened_at == opened_at


def test_a_change_becomes_the_trial_later_than_a_read(shared, monkeypatch):
    monkeypatch.setattr(circuit_module, "SPREAD", 0)
    circuit = Circuit(shared, failures=1, reset=4000, longest_call=5)
    fail(circuit, 1)

    def wait(operation):
        with pytest.raises(errors.CalcomCircuitOpen) as caught:
            circuit.admit(operation)
        return caught.value.retry_after

    assert 3900 < wait(ME) <= 4000
    assert 4900 < wait(CREATE_BOOKING) <= 5000


def test_a_create_that_is_the_trial_and_gets_no_answer_is_in_doubt(hasty_guarded, simulator, circuit, new):
    fail(circuit, 3)
    let_trial_come(circuit)
    simulator.fault("create", "timeout", "after")

    with pytest.raises(errors.CalcomOutcomeUnknown):
        hasty_guarded.create_booking(new())

    assert circuit.state() is OPEN
    assert len(wait_for(simulator.ledger)) == 1


def test_an_operator_can_close_it(circuit, guarded):
    fail(circuit, 3)
    with pytest.raises(errors.CalcomCircuitOpen):
        guarded.me()

    circuit.close()

    assert guarded.me().id == 1
    assert circuit.snapshot().failures == 0
