"""The application: its pages, and what a form does.

A booking is one transaction of the request's own: the saga and our order are committed together, or not at all. What
follows is the workers' business; the page shows what they have come to.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import date
from http import HTTPStatus
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Flask, Response, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from examples.webapp import orders
from examples.webapp.forms import ADVICE, FORM_KEY, advice_on, day_of, wanted_of
from examples.webapp.offers import OFFERS, ZONES, Day, free_days, spoken
from examples.webapp.standing import Standing, standing_of
from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, IdempotencyConflict, InvalidInput, SagaNotFound
from sagajobs.calcom.errors import CalcomError
from sagajobs.root import engine
from sagajobs.web import webhook_wsgi

log = logging.getLogger(__name__)
pages = Blueprint("pages", __name__)

HEADERS = {
    # Nothing from elsewhere, no inline script; the address of a page is its key, so it must not be passed on or kept.
    # We ourselves are told it: behind HTTPS Flask-WTF takes no form that does not say which page it comes from.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

SENT_BEFORE = "This form was sent before, with other details. To book a second appointment, send it once more."
TOO_OLD = "This page was open for too long. Go back, reload it, and send it again."
NOT_NOW = (
    "Your last wish was not carried out, as another one was under way or it was too late. See below how it stands."
)
NOT_FOUND = "There is no such page. Is the address complete?"
AWAY = "We cannot look that up at present. Nothing is lost: please try again in a minute."
WRONG = "Something in the request is not as it should be."


class _App(Flask):
    def log_exception(self, exc_info: Any) -> None:
        self.logger.error("a request failed", exc_info=exc_info)  # Flask would log its path, which is a customer's key


def create_app(**config: Any) -> Flask:
    """Return the application, its table made.

    Args:
        config: Flask's settings; `FLASK_…` in the environment sets them, too. Without a SECRET_KEY forms are good until
            the process ends.
    """
    app = _App(__name__)
    app.config.update(
        SECRET_KEY=secrets.token_hex(),
        MAX_CONTENT_LENGTH=64 * 1024,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=True,
    )
    app.config.from_prefixed_env()
    app.config.update(config)
    orders.create(engine.database.engine)
    CSRFProtect(app)
    app.register_blueprint(pages)
    app.jinja_env.globals.update(offers=OFFERS, zones=ZONES, spoken=spoken)
    app.after_request(_with_headers)
    app.register_error_handler(HTTPException, _failed)
    app.register_error_handler(CSRFError, lambda error: _told(TOO_OLD, error.code))
    app.register_error_handler(SagaNotFound, lambda _: _told(NOT_FOUND, HTTPStatus.NOT_FOUND))
    app.register_error_handler(DBAPIError, _database_failed)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/webhooks/calcom": webhook_wsgi})  # type: ignore[method-assign]
    return app


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


# --- pages ---


@pages.get("/")
def form() -> ResponseReturnValue:
    """Show what can be booked, and when."""
    return _form(dict(request.args))


@pages.post("/appointments")
def book() -> ResponseReturnValue:
    """Book: the saga and our order in one transaction, once for each form."""
    sent = request.form
    key = sent.get("key", "")
    if not FORM_KEY.fullmatch(key):
        abort(HTTPStatus.BAD_REQUEST)
    try:
        wanted = wanted_of(sent)
        with Session(engine.database.engine) as session, session.begin():
            saga = AppointmentCreationSaga.enqueue(wanted, idempotency_key=f"webapp/{key}", session=session)
            if saga.created:
                zone = wanted.customer.time_zone
                token = orders.add(session, saga.id, wanted.event_type_id, wanted.start, zone)
            else:
                token = orders.token_of(session, saga.id)  # sent twice: it is the first one's page
    except InvalidInput as error:
        return _form(sent, advice_on(error))
    except IdempotencyConflict:
        return _form(sent, [SENT_BEFORE])
    return redirect(url_for("pages.appointment", token=token), HTTPStatus.SEE_OTHER)


@pages.get("/appointments/<token>")
def appointment(token: str) -> ResponseReturnValue:
    """Show where an appointment stands."""
    order, standing = _looked_up(token)
    return render_template("appointment.html", order=order, standing=standing)


@pages.get("/appointments/<token>/status")
def status(token: str) -> ResponseReturnValue:
    """Return where an appointment stands, for the page's script."""
    order, standing = _looked_up(token)
    return {
        "status": standing.status,
        "message": standing.message,
        "when": spoken(standing.starts_at, order.time_zone),
        "settled": standing.settled,
        "changeable": standing.changeable,
    }


@pages.post("/appointments/<token>/cancel")
def cancel(token: str) -> ResponseReturnValue:
    """Cancel an appointment."""
    return _change(token, "cancel", {})


@pages.get("/appointments/<token>/move")
def choose(token: str) -> ResponseReturnValue:
    """Show when an appointment could be instead."""
    order, standing = _looked_up(token)
    first = day_of(request.args.get("day"))
    days, status = _free(order.offer, first, order.time_zone)
    return render_template("move.html", order=order, standing=standing, days=days, first=first), status


@pages.post("/appointments/<token>/move")
def move(token: str) -> ResponseReturnValue:
    """Move an appointment."""
    return _change(token, "reschedule", {"start": request.form.get("start", "")})


# --- what they share ---


def _looked_up(token: str) -> tuple[orders.Order, Standing]:
    with Session(engine.database.engine) as session, session.begin():
        order = orders.find(session, token) or abort(HTTPStatus.NOT_FOUND)
        standing = standing_of(order)
        if order.appointment_id is None and standing.appointment_id is not None:
            orders.note_appointment(session, token, standing.appointment_id)
    return order, standing


def _change(token: str, operation: str, data: dict[str, Any]) -> ResponseReturnValue:
    with Session(engine.database.engine) as session, session.begin():
        order = orders.find(session, token, lock=True) or abort(HTTPStatus.NOT_FOUND)
        standing: Standing = standing_of(order)
        # Sent twice, the second one waits for the lock and finds the first at work.
        if standing.changeable and standing.appointment_id is not None:
            try:
                change = AppointmentSyncSaga.enqueue(standing.appointment_id, operation, data, session=session)
                orders.note_change(session, token, change.id)
            except InvalidInput:
                flash(ADVICE["start"] if operation == "reschedule" else "It cannot be cancelled any more.")
        else:
            flash(NOT_NOW)  # of a cancel that came behind a move nobody may think that it was done
    return redirect(url_for("pages.appointment", token=token), HTTPStatus.SEE_OTHER)


def _form(values: Mapping[str, str], problems: Sequence[str] = ()) -> ResponseReturnValue:
    """Show the form, with what was filled in, and what is wrong with it."""
    chosen = next((one for one in OFFERS if str(one) == values.get("offer")), next(iter(OFFERS)))
    zone = next((one for one in ZONES if one == values.get("time_zone")), "UTC")
    first = day_of(values.get("day"))
    days, status = _free(chosen, first, zone)
    shown = {"days": days, "first": first, "chosen": chosen, "zone": zone, "values": values, "problems": problems}
    key = secrets.token_urlsafe(16)  # makes this form one order, however often it is sent
    return render_template("book.html", key=key, **shown), HTTPStatus.UNPROCESSABLE_ENTITY if problems else status


def _free(offer: int, first: date, zone: str) -> tuple[list[Day] | None, HTTPStatus]:
    """Return the free times, None if Cal.com does not say, and the status that goes with them."""
    try:
        return free_days(offer, first, ZoneInfo(zone)), HTTPStatus.OK
    except CalcomError as error:
        log.warning("free times are not known: %s", type(error).__name__)
        return None, HTTPStatus.SERVICE_UNAVAILABLE


def _failed(error: HTTPException) -> ResponseReturnValue:
    return _told(NOT_FOUND if error.code == HTTPStatus.NOT_FOUND else WRONG, error.code or 500)


def _database_failed(error: DBAPIError) -> ResponseReturnValue:
    log.error("a request failed: %s", type(error).__name__)  # the name only: statements are about customers
    return _told(AWAY, HTTPStatus.SERVICE_UNAVAILABLE)


def _told(what: str, status: int) -> ResponseReturnValue:
    return render_template("error.html", what=what), status
