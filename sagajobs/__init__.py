"""Sagas on Celery: keep a PostgreSQL database and a failing HTTP API in step."""

from __future__ import annotations

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
