"""The saga engine: knows sagas, steps and Celery; knows nothing of what a saga is about."""

from __future__ import annotations

from sagajobs.saga.canvas import Canvas
from sagajobs.saga.database import Database
from sagajobs.saga.declaration import step
from sagajobs.saga.definition import Saga
from sagajobs.saga.engine import Engine
from sagajobs.saga.handle import SagaHandle, default_engine, set_default_engine
from sagajobs.saga.orchestrator import SagaOrchestrator
from sagajobs.saga.policy import RetryPolicy
from sagajobs.saga.remedies import Remedy
from sagajobs.saga.review import ReviewDesk
from sagajobs.saga.states import SagaState, StepState

__all__ = [
    "Canvas",
    "Database",
    "Engine",
    "Remedy",
    "RetryPolicy",
    "ReviewDesk",
    "Saga",
    "SagaHandle",
    "SagaOrchestrator",
    "SagaState",
    "StepState",
    "default_engine",
    "set_default_engine",
    "step",
]
