"""Sagas on Celery: keep a PostgreSQL database and a failing HTTP API in step.

The names below are the public ones. They are loaded when they are first used: every `celery …` process on a machine
imports this package for its command-line plug-in, other projects' workers too, which must neither read our settings
nor pay for them, and the parts that need no Celery (the simulator, the embedded servers' keepers) do not load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagajobs.booking import (
        Appointment,
        AppointmentCreationSaga,
        AppointmentFollowSaga,
        AppointmentSummary,
        AppointmentSyncSaga,
        BookingRequest,
        CalcomCompensationService,
        CompositeBooking,
        CompositeBookingSaga,
        Customer,
        DatabaseCompensationService,
        Slot,
    )
    from sagajobs.errors import (
        AmbiguousError,
        CaseClosed,
        CaseNotFound,
        ConfigurationError,
        Deferred,
        DefinitionError,
        IdempotencyConflict,
        InvalidInput,
        PermanentError,
        RemedyRefused,
        SagaCompensationException,
        SagaException,
        SagajobsError,
        SagaNotFinished,
        SagaNotFound,
        TransientError,
    )
    from sagajobs.root import (
        app,
        book_composite,
        create_appointment,
        find_appointment,
        find_free_slots,
        sync_appointment_to_calcom,
    )
    from sagajobs.saga import RetryPolicy, Saga, SagaHandle, SagaOrchestrator, SagaState, step

__all__ = [
    "AmbiguousError",
    "Appointment",
    "AppointmentCreationSaga",
    "AppointmentFollowSaga",
    "AppointmentSummary",
    "AppointmentSyncSaga",
    "BookingRequest",
    "CalcomCompensationService",
    "CaseClosed",
    "CaseNotFound",
    "CompositeBooking",
    "CompositeBookingSaga",
    "ConfigurationError",
    "Customer",
    "DatabaseCompensationService",
    "Deferred",
    "DefinitionError",
    "IdempotencyConflict",
    "InvalidInput",
    "PermanentError",
    "RemedyRefused",
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
    "Slot",
    "TransientError",
    "app",
    "book_composite",
    "create_appointment",
    "find_appointment",
    "find_free_slots",
    "step",
    "sync_appointment_to_calcom",
]

_HOMES = ("sagajobs.errors", "sagajobs.saga", "sagajobs.booking", "sagajobs.root")
"""Where the names above come from."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("sagajobs.root")  # wires the sagas: one without its engine cannot be started
    for home in _HOMES:
        module = importlib.import_module(home)
        if hasattr(module, name):
            globals()[name] = getattr(module, name)
            return globals()[name]
    raise AssertionError(f"{name} is exported and has no home")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
