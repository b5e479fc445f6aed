"""Whatever goes wrong: no key and nothing about a person in logs, errors or reprs."""

import logging
import pickle
import traceback

import pytest
import requests

from sagajobs.calcom import errors
from sagajobs.calcom.client import CalcomClient

# Not in the calls themselves: a traceback shows their source.
REASON = "penguins: Zebulon Quagmire, zebulon+x@quagmire.example"
KINDS = ("timeout", "drop", "http_500", "http_503", "http_524", "rate_limit", "malformed", None)


def leaks(secrets, *texts):
    return [secret for secret in secrets for text in texts if secret.lower() in text.lower()]


def shown(error):
    """Everything that a log, a tracker or a person at a prompt would see of an error."""
    chain = "".join(traceback.format_exception(error))
    return [str(error), repr(error), repr(vars(error)), chain, repr(pickle.dumps(error))]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_call_tells(hasty, client, simulator, new, secrets, caplog, kind, when):
    caplog.set_level(logging.DEBUG)
    booking = new()
    uid = client.create_booking(booking).uid
    calls = [
        lambda: hasty.create_booking(booking),
        lambda: hasty.find_bookings(event_type_id=1, attendee_email=booking.attendee_email),
        lambda: hasty.get_booking(uid),
        lambda: hasty.cancel_booking(uid, REASON),
    ]

    seen = []
    for call in calls:
        if kind:
            simulator.fault("any", kind, when)
        try:
            seen += [repr(call())]
        except errors.CalcomError as error:
            seen += shown(error)

    assert not leaks(secrets, *seen)
    assert not leaks(secrets, caplog.text, *(repr(vars(record)) for record in caplog.records))
    # The log is not silent: what may be seen is there.
    assert "POST /v2/bookings" in caplog.text
    assert "GET /v2/bookings" in caplog.text


def test_a_server_out_of_reach_does_not_tell(free_port, new, secrets, caplog):
    caplog.set_level(logging.DEBUG)

    with (
        CalcomClient(f"http://127.0.0.1:{free_port}", "cal_test_simulator") as client,
        pytest.raises(errors.CalcomUnavailable) as caught,
    ):
        client.find_bookings(attendee_email=new().attendee_email)

    assert not leaks(secrets, caplog.text, *shown(caught.value))


def test_no_repr_tells(client, secrets):
    objects = [client, client._transport, client._transport._auth]

    assert not leaks(secrets, *(repr(one) + str(vars(one)) for one in objects[:1]))
    assert not leaks(secrets, *(repr(one) for one in objects))
    assert "cal_test_simulator" not in repr(vars(client._transport._auth))


def test_a_client_is_not_pickled(client):
    with pytest.raises(TypeError):
        pickle.dumps(client)


def test_the_log_names_call_status_request_and_time(client, caplog):
    caplog.set_level(logging.INFO)

    client.me()

    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("sagajobs")]
    assert line.startswith("GET /v2/me: 200, request ")
    assert line.endswith(" ms")


def test_urllib3_logs_our_calls_without_their_queries(client, caplog):
    caplog.set_level(logging.DEBUG)

    client.find_bookings(event_type_id=1)

    lines = [record.getMessage() for record in caplog.records if record.name == "urllib3.connectionpool"]
    assert any("GET /v2/bookings?… " in line for line in lines)


def test_urllib3_logs_other_calls_as_ever(client, simulator, caplog):
    client.find_bookings(event_type_id=1)
    caplog.set_level(logging.DEBUG)

    requests.get(f"{simulator.url}/elsewhere?who=me", timeout=60)

    assert "/elsewhere?who=me" in caplog.text
