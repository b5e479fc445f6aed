"""What the web application answers to what no browser of a customer's would send."""

from __future__ import annotations

import pytest
import requests
from sqlalchemy import text

from examples.webapp.app import HEADERS, NOT_NOW
from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaHandle
from sagajobs.calcom.webhooks import SIGNATURE_HEADER
from sagajobs.saga.sweeps.purge import purge
from tests.support.tables import change
from tests.webapp.conftest import Visitor

NOWHERE = "x" * 32


@pytest.fixture
def ids(db):
    """Return the ids of all sagas."""
    return lambda: [str(one) for one in db.execute(text("SELECT id FROM sagas")).scalars()]


@pytest.fixture
def orders(count):
    return lambda: (count("sagas"), count("webapp.orders"))


def test_headers_and_cookie(visitor):
    first = visitor.get("/")
    others = {path: visitor.get(path) for path in (f"/appointments/{NOWHERE}", "/static/app.css", "/nowhere")}
    assert [first.status_code, *(page.status_code for page in others.values())] == [200, 404, 200, 404]
    for page in (first, *others.values()):
        assert {name: page.headers[name] for name in HEADERS} == HEADERS
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_form_without_its_token_does_nothing(visitor, webapp, orders):
    known = orders()
    form = visitor.form()
    for wrong in ({**form, "csrf_token": ""}, {**form, "csrf_token": "x"}, {"name": "x"}):
        assert visitor.post("/appointments", wrong).status_code == 400
    stranger = Visitor(webapp)  # who has the token and not the cookie
    refused = stranger.post("/appointments", form)
    assert (refused.status_code, "open for too long" in refused.text) == (400, True)
    for path in ("cancel", "move"):
        assert stranger.post(f"/appointments/{NOWHERE}/{path}", {}).status_code == 400
    assert orders() == known


REFUSED = (
    ("name", "", "Name: please"),
    ("name", "x" * 201, "Name: please"),
    ("email", "nobody", "E-mail: please"),
    ("email", "a@b.example\r\nBcc: c@d.example", "E-mail: please"),
    ("time_zone", "Mars/Olympus", "Time zone: please"),
    ("offer", "99", "What: please"),
    ("offer", "1 OR 1=1", "What: please"),
    ("start", "", "Time: please"),
    ("start", "tomorrow", "Time: please"),
    ("start", "2020-01-01T10:00:00+00:00", "Time: please"),
    ("start", "2040-01-01T10:00:00", "Time: please"),
)


def test_what_cannot_be_is_said_at_the_form(visitor, orders):
    known = orders()
    form = visitor.form()
    for field, value, advice in REFUSED:
        page = visitor.post("/appointments", form | {field: value})
        assert (page.status_code, advice in page.text) == (422, True), (field, value)
        assert page.text.count("<li>") == 1
    assert orders() == known


def test_a_form_that_is_none(visitor, orders):
    known = orders()
    form = visitor.form()
    for key in ("", "short", "x" * 23, "ä" * 22):
        assert visitor.post("/appointments", form | {"key": key}).status_code == 400
    assert visitor.post("/appointments", form | {"name": "x" * 100_000}).status_code == 413
    assert orders() == known


def test_what_was_typed_is_shown_as_text(visitor):
    nasty = "<script>alert(1)</script>\"'>"
    page = visitor.post("/appointments", visitor.form(name=nasty, email=nasty)).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;" in page


def test_nobody_is_found_without_his_token(visitor, webapp):
    for token in (NOWHERE, "1", "%27%20OR%20true", "..%2f..", "%00", "ä"):
        for path in ("", "/status", "/move"):
            assert visitor.get(f"/appointments/{token}{path}").status_code == 404, token + path
    token = visitor.form()["csrf_token"]
    assert visitor.post(f"/appointments/{NOWHERE}/cancel", {"csrf_token": token}).status_code == 404
    assert "Traceback" not in webapp.log.read_text()


def purged(app_engine) -> None:
    change(app_engine, "UPDATE sagas SET ended_at = ended_at - interval '91 days' WHERE ended_at IS NOT NULL")
    assert purge(app_engine, older_than_days=90)


def test_an_appointment_farther_ahead_than_sagas_are_kept_has_its_page(visitor, app_engine, db, ids):
    form = visitor.form()
    page = visitor.post("/appointments", form).headers["Location"]
    app_engine.drive(AppointmentCreationSaga, *ids())
    assert visitor.get(f"{page}/status").json()["status"] == "confirmed"
    purged(app_engine)
    shown = visitor.get(f"{page}/status").json()
    assert (shown["status"], shown["changeable"]) == ("confirmed", True)
    assert visitor.post(f"{page}/cancel", {"csrf_token": form["csrf_token"]}).status_code == 303
    assert NOT_NOW not in visitor.get(page).text
    assert visitor.post(f"{page}/move", form).status_code == 303
    assert NOT_NOW in visitor.get(page).text
    app_engine.drive(AppointmentSyncSaga, *ids())
    assert visitor.get(f"{page}/status").json()["status"] == "cancelled"
    purged(app_engine)
    assert visitor.get(f"{page}/status").json()["status"] == "cancelled"


def test_of_what_was_not_booked_long_ago_there_is_no_page_left(visitor, app_engine, ids):
    page = visitor.post("/appointments", visitor.form()).headers["Location"]
    SagaHandle(*ids()).cancel(who="ann", why="the customer rang")
    app_engine.drive(AppointmentCreationSaga, *ids())
    assert visitor.get(f"{page}/status").json()["status"] == "cancelled"
    purged(app_engine)
    assert visitor.get(page).status_code == 404


def test_a_day_that_is_none_is_today(visitor):
    for day in ("", "never", "0001-01-01", "9999-12-31", "2020-01-01"):
        page = visitor.get(f"/?day={day}&offer=1")
        assert (page.status_code, "Show free times" in page.text) == (200, True)


def test_webhooks_are_the_receivers_business(webapp):
    forged = requests.post(f"{webapp.url}/webhooks/calcom", data=b"{}", headers={SIGNATURE_HEADER: "x"}, timeout=60)
    assert (forged.status_code, list(forged.json())) == (401, ["error"])
    assert requests.get(f"{webapp.url}/webhooks/calcom", timeout=60).status_code == 405
