"""The receiver that `up` starts: whether there is one, where, and that the simulator sends webhooks there once."""

from __future__ import annotations

import pytest
import requests
from pydantic import SecretStr

from sagajobs.calcom.simulator import DEFAULT_API_KEY
from sagajobs.cli import application
from sagajobs.cli.receiver import PORT, Receiver
from sagajobs.runtime.servers import ServerUrls
from sagajobs.runtime.settings import Settings

KNOWN = "known there"
PRODUCTION = {"database_url": "postgresql://db/x", "calcom_url": "https://cal.example", "calcom_api_key": "cal_x"}


@pytest.fixture
def planned(monkeypatch):
    """Return the receiver that settings ask for."""

    def plan(port: int | None = None, **settings: str) -> Receiver | None:
        monkeypatch.delenv("SAGAJOBS_CALCOM_WEBHOOK_SECRET", raising=False)
        for name in ("SAGAJOBS_DATABASE_URL", "SAGAJOBS_CALCOM_URL", "SAGAJOBS_CALCOM_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(application, "settings", lambda: Settings(**settings))
        return Receiver.planned(port)

    return plan


def test_without_a_secret_there_is_none_for_cal_com_itself(planned):
    assert planned(**PRODUCTION) is None


def test_with_one_it_listens_where_it_is_told_and_nobody_is_subscribed(planned):
    receiver = planned(4711, **PRODUCTION, calcom_webhook_secret=KNOWN)
    assert (receiver.url, receiver.simulated) == ("http://127.0.0.1:4711/", False)
    assert receiver.secret.get_secret_value() == KNOWN


def test_the_embedded_simulator_needs_none_and_each_run_has_its_own(planned):
    first, second = planned(), planned()
    assert first.port >= PORT
    assert first.simulated
    assert len(first.secret.get_secret_value()) >= 32
    assert first.secret != second.secret
    assert first.secret.get_secret_value() not in repr(first)


def test_the_simulator_is_told_once_and_anew_where_the_secret_is_another(simulator):
    for secret in ("one", "one", "two"):
        receiver = Receiver(4711, SecretStr(secret), simulated=True)
        receiver.subscribe(receiver.url)
    listed = requests.get(
        f"{simulator.url}/v2/webhooks", headers={"Authorization": f"Bearer {DEFAULT_API_KEY}"}, timeout=60
    ).json()["data"]
    assert [(one["subscriberUrl"], one["secret"], one["id"]) for one in listed] == [
        ("http://127.0.0.1:4711/", "two", 2)
    ]
    assert "BOOKING_CANCELLED" in listed[0]["triggers"]


def test_a_simulator_that_does_not_answer_is_no_end(monkeypatch, caplog):
    nobody = ServerUrls(Settings(calcom_url="http://127.0.0.1:9", calcom_api_key="cal_x"))
    monkeypatch.setattr(application, "servers", lambda: nobody)
    Receiver(4711, SecretStr("one"), simulated=True).subscribe("http://127.0.0.1:4711/")
    assert [record.message for record in caplog.records if record.name == "sagajobs.cli.receiver"] == [
        "the simulator was not told where webhooks go: ConnectionError"
    ]
