"""Sagas on Celery: keep a PostgreSQL database and a failing HTTP API in step.

The names below are the public ones. They are loaded when they are first used, so that `import sagajobs` costs nothing
and the parts that need no Celery (the simulator, the keepers of the embedded servers) do not load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagajobs.app import app
    from sagajobs.booking import Appointment, AppointmentCreationSaga, BookingRequest, Customer
    from sagajobs.errors import (
        AmbiguousError,
        ConfigurationError,
        Deferred,
        DefinitionError,
        IdempotencyConflict,
        InvalidInput,
        PermanentError,
        SagaCompensationException,
        SagaException,
        SagajobsError,
        SagaNotFinished,
        SagaNotFound,
        TransientError,
    )
    from sagajobs.saga import RetryPolicy, Saga, SagaHandle, SagaOrchestrator, SagaState, step

__all__ = [
    "AmbiguousError",
    "Appointment",
    "AppointmentCreationSaga",
    "BookingRequest",
    "ConfigurationError",
    "Customer",
    "Deferred",
    "DefinitionError",
    "IdempotencyConflict",
    "InvalidInput",
    "PermanentError",
    "RetryPolicy",
    "Saga",
    "SagaCompensationException",
    "SagaException",
    "SagaHandle",
    "SagaNotFinished",
    "SagaNotFound",
    "SagaOrchestrator",
    "SagaState",
    "SagajobsError",
    "TransientError",
    "app",
    "step",
]

_IN_BOOKING = ("Appointment", "AppointmentCreationSaga", "BookingRequest", "Customer")
_IN_SAGA = ("RetryPolicy", "Saga", "SagaHandle", "SagaOrchestrator", "SagaState", "step")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The application is wired first, whatever is asked for: a saga without its engine could not be started.
    application = importlib.import_module("sagajobs.app")
    if name == "app":
        return application.app
    home = "booking" if name in _IN_BOOKING else "saga" if name in _IN_SAGA else "errors"
    return getattr(importlib.import_module(f"sagajobs.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
