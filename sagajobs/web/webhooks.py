"""`handle_webhook`: from the bytes of a request to the answer, for whatever framework the request came through."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from pydantic import SecretStr
from sqlalchemy import exc

from sagajobs.booking.inbound import Taken, take
from sagajobs.calcom.errors import WebhookMalformed, WebhookRefused, WebhookTooLarge, WebhookUnsigned
from sagajobs.calcom.webhooks import MAX_BODY, SIGNATURE_HEADER, read_webhook
from sagajobs.errors import ConfigurationError
from sagajobs.runtime.settings import variable_of

log = logging.getLogger(__name__)

_STATUSES = {
    WebhookTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    WebhookUnsigned: HTTPStatus.UNAUTHORIZED,
    WebhookMalformed: HTTPStatus.BAD_REQUEST,
}


class WebhookAnswer(NamedTuple):
    """What to answer: the HTTP status, and a body of JSON (`CONTENT_TYPE`) that holds nothing about a person."""

    status: int
    body: bytes


CONTENT_TYPE = "application/json"

TOO_LARGE = WebhookAnswer(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, json.dumps({"error": f"the body has more than {MAX_BODY} bytes"}).encode()
)
"""The answer to a body that need not be read to its end to be refused."""

WRONG_LENGTH = WebhookAnswer(
    HTTPStatus.BAD_REQUEST, json.dumps({"error": "the header Content-Length is no number of bytes"}).encode()
)
"""The answer to a body of which nobody can say how long it is."""

WRONG_METHOD = WebhookAnswer(HTTPStatus.METHOD_NOT_ALLOWED, json.dumps({"error": "webhooks come by POST"}).encode())
"""The answer to another method; it goes with a header `Allow: POST`."""


def handle_webhook(body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
    """Take a webhook of Cal.com's: check it, put on record what is to be done about it, and answer.

    It returns within one short transaction; what there is to do, workers do. Cal.com sends a webhook once, whatever is
    answered: one that was refused, or came while the database was away, is lost, and the difference that it would have
    told of is found by reconciling.

    Args:
        body: the raw bytes of the request; parsed and written again they would have another signature.
        headers: of the request; upper and lower case do not matter.

    Returns:
        WebhookAnswer: 200 for what was taken, known or is none of ours, with `{"webhook": ...}`; else, with
            `{"error": ...}`, 400 (not readable), 401 (signature), 413 (too large), 503 (no database, or no secret).
    """
    signature = next((value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER.lower()), None)
    try:
        webhook = read_webhook(body, signature, secret())
        taken = Taken.IGNORED if webhook is None else take(webhook)
    except WebhookRefused as error:
        log.warning("webhook refused: %s", error)
        return _answer(_STATUSES[type(error)], error=str(error))
    except ConfigurationError as error:
        log.error("webhook lost: %s", error)  # noqa: TRY400 - the line says what to do, a traceback would not
        return _answer(HTTPStatus.SERVICE_UNAVAILABLE, error="the receiver is not set up")
    except (exc.DBAPIError, exc.TimeoutError) as error:
        # Of the exception the name only: statements are about customers.
        log.warning("webhook lost, reconciling will find what it told: %s", type(error).__name__)
        return _answer(HTTPStatus.SERVICE_UNAVAILABLE, error="the database is away")
    return _answer(HTTPStatus.OK, webhook=taken)


def secret() -> SecretStr:
    """Return the secret that Cal.com signs with.

    Raises:
        ConfigurationError: none is set; without one, anybody could have us follow anything.
    """
    # Imported at the first use: importing it reads the settings, and `sagajobs webhooks --help` must work with wrong
    # ones. It also wires the sagas, so it comes before any of them is started.
    found: SecretStr | None = importlib.import_module("sagajobs.root").settings().calcom_webhook_secret
    if found is None:
        variable = variable_of("calcom_webhook_secret")
        raise ConfigurationError(f"{variable}: is missing; set it to the secret that Cal.com's webhook was given")
    return found


def _answer(status: HTTPStatus, **document: str) -> WebhookAnswer:
    return WebhookAnswer(status, json.dumps(document).encode())
