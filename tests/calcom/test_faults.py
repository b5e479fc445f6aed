"""Every fault, before and after the work, at every call: what the client says, and what is really so."""

import time

import pytest

from sagajobs.calcom import errors
from sagajobs.calcom.client import CalcomClient
from sagajobs.errors import AmbiguousError, Deferred, TransientError
from sagajobs.testing.waiting import wait_for

SILENT = ("timeout", "drop")
SPEAKING = ("http_500", "http_503", "http_524", "malformed")
MOMENTS = ("before", "after")


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("kind", [*SILENT, *SPEAKING])
class TestLostAnswers:
    def test_a_create_has_an_unknown_outcome(self, hasty, client, simulator, new, kind, when):
        simulator.fault("create", kind, when)

        with pytest.raises(errors.CalcomOutcomeUnknown) as caught:
            hasty.create_booking(new())

        assert isinstance(caught.value, AmbiguousError)
        # The simulator keeps a call once it has answered it, or has decided never to.
        wait_for(simulator.calls)
        assert len(simulator.ledger()) == (1 if when == "after" else 0)
        assert len(client.find_bookings(event_type_id=1)) == (1 if when == "after" else 0)

    def test_a_cancel_has_an_unknown_outcome(self, hasty, client, simulator, new, kind, when):
        uid = client.create_booking(new()).uid
        simulator.fault("cancel", kind, when)

        with pytest.raises(errors.CalcomOutcomeUnknown):
            hasty.cancel_booking(uid, "x")

        wait_for(lambda: len(simulator.calls()) == 2)
        assert client.get_booking(uid).status == ("cancelled" if when == "after" else "accepted")

    @pytest.mark.parametrize(
        ("operation", "call"),
        [
            ("get", lambda client, uid: client.get_booking(uid)),
            ("list", lambda client, _: client.find_bookings()),
            ("any", lambda client, _: client.event_type(1)),
            ("any", lambda client, _: client.me()),
        ],
    )
    def test_a_read_may_be_tried_again(self, hasty, client, simulator, new, kind, when, operation, call):
        uid = client.create_booking(new()).uid
        simulator.fault(operation, kind, when)

        with pytest.raises(errors.CalcomUnavailable) as caught:
            call(hasty, uid)

        assert isinstance(caught.value, TransientError)
        # Else the next call, through a connection that stands, might overtake it, and meet its fault.
        wait_for(lambda: simulator.control("GET", "faults")["faults"][0]["fired"])
        assert call(client, uid)

    def test_nothing_is_tried_twice(self, hasty, simulator, new, kind, when):
        simulator.fault("any", kind, when, count=5)

        for call in (lambda: hasty.create_booking(new()), hasty.find_bookings):
            with pytest.raises(errors.CalcomError):
                call()

        wait_for(lambda: len(simulator.calls()) == 2)
        assert [call["operation"] for call in simulator.calls()] == ["create", "list"]


@pytest.mark.parametrize("when", MOMENTS)
class TestRateLimit:
    def test_nothing_is_done(self, client, simulator, new, when):
        simulator.fault("any", "rate_limit", when, count=3, seconds=17)

        for call in (
            lambda: client.create_booking(new()),
            client.find_bookings,
            lambda: client.cancel_booking("x", "y"),
        ):
            with pytest.raises(errors.CalcomRateLimited) as caught:
                call()
            assert isinstance(caught.value, Deferred)
            assert caught.value.retry_after == 17
            assert caught.value.code == "ThrottlerException"
        assert simulator.ledger() == []

    def test_the_wait_is_a_minute_unless_said_otherwise(self, client, simulator, when):
        assert simulator.fault("any", "rate_limit", when)["when"] == "before"

        with pytest.raises(errors.CalcomRateLimited) as caught:
            client.me()

        assert caught.value.retry_after == 60


@pytest.mark.parametrize("when", MOMENTS)
class TestSlow:
    def test_a_patient_client_gets_its_answer(self, client, simulator, new, when):
        simulator.fault("create", "slow", when, seconds=0.2)
        started = time.monotonic()

        client.create_booking(new())

        assert time.monotonic() - started >= 0.2

    def test_the_booking_is_made_after_a_hasty_client_gave_up(self, hasty, simulator, new, when):
        simulator.fault("create", "slow", when, seconds=4)
        started = time.monotonic()

        with pytest.raises(errors.CalcomOutcomeUnknown):
            hasty.create_booking(new())

        # "before" is the nastier one: a probe that looks at once finds nothing, and then the booking appears.
        seen = simulator.ledger()
        if when == "before" and time.monotonic() - started < 4:
            assert seen == []
        wait_for(lambda: len(simulator.ledger()) == 1)
        assert simulator.api("GET", "/v2/bookings").status_code == 200


def test_a_silent_call_ends_by_itself(client, simulator):
    simulator.fault("any", "timeout", seconds=0.1)

    with pytest.raises(errors.CalcomUnavailable):
        client.me()


def test_a_count_is_used_up(client, simulator, new):
    simulator.fault("create", "http_503", count=2)

    for _ in range(2):
        with pytest.raises(errors.CalcomOutcomeUnknown):
            client.create_booking(new())
    client.create_booking(new())

    assert simulator.control("GET", "faults")["faults"][0]["fired"] == 2


def test_a_fault_for_one_operation_leaves_the_others_alone(client, simulator, new):
    simulator.fault("cancel", "http_500", count=9)

    uid = client.create_booking(new()).uid
    client.get_booking(uid)
    client.find_bookings()
    client.me()

    with pytest.raises(errors.CalcomOutcomeUnknown):
        client.cancel_booking(uid, "x")


def test_the_first_rule_that_fires_counts(client, simulator):
    simulator.fault("list", "http_500", count=9)
    simulator.fault("any", "rate_limit")
    simulator.fault("any", "http_503", count=9)

    with pytest.raises(errors.CalcomRateLimited):
        client.me()
    with pytest.raises(errors.CalcomUnavailable) as caught:
        client.me()
    assert caught.value.status == 503


def test_chances_repeat_with_their_seed(client, simulator):
    def run(**rule):
        simulator.reset()
        told = simulator.fault("any", "http_503", probability=0.5, **rule)
        outcomes = []
        for _ in range(40):
            try:
                client.me()
            except errors.CalcomUnavailable:
                outcomes.append("failed")
            else:
                outcomes.append("fine")
        return told["seed"], outcomes

    _, first = run(seed=7)
    _, second = run(seed=7)
    _, other = run(seed=8)
    drawn, third = run()

    assert first == second
    assert first != other
    assert {"failed", "fine"} == set(first)
    assert run(seed=drawn)[1] == third


def test_dropping_the_faults_ends_them(client, simulator):
    simulator.fault("any", "http_503", probability=1.0)

    assert simulator.control("DELETE", "faults") == {"removed": 1}
    assert client.me().id == 1


def test_a_server_out_of_reach_did_nothing(free_port, new):
    with CalcomClient(f"http://127.0.0.1:{free_port}", "cal_x") as client:
        for call in (lambda: client.create_booking(new()), client.me):
            with pytest.raises(errors.CalcomUnavailable):
                call()
