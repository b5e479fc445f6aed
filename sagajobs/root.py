"""The composition root: settings → servers → engine → sagas → Celery app, wired once per process.

Importing it reads the environment and connects to nothing; servers are resolved when they are first used.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import click
from celery import Celery
from celery.utils.imports import cwd_in_path
from sqlalchemy import NullPool, create_engine

from sagajobs.booking import (
    AppointmentCreationSaga,
    AppointmentFollowSaga,
    AppointmentSyncSaga,
    CompositeBookingSaga,
)
from sagajobs.booking.cache import AppointmentCache
from sagajobs.booking.facade import SAGA_ENABLED, BookingFacade
from sagajobs.booking.services import QUICKLY, BookingServices, EventTypes
from sagajobs.booking.sweeps import booking_sweeps
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.priority import Priority
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared
from sagajobs.celerydefaults import celery_defaults
from sagajobs.errors import ConfigurationError
from sagajobs.monitoring import logs
from sagajobs.monitoring.programs import watch
from sagajobs.runtime.servers import ServerUrls, resolve
from sagajobs.runtime.settings import Settings
from sagajobs.saga import Canvas, Database, Engine, set_default_engine
from sagajobs.saga.bus import Bus
from sagajobs.saga.outbox import SWITCH as EVENTS_SWITCH
from sagajobs.saga.outbox import relaying
from sagajobs.saga.sending import Sending
from sagajobs.saga.sweeps import engine_sweeps
from sagajobs.saga.switches import Switch

CALL_MARGIN = 2.0
"""Seconds that a call to Cal.com may take beyond its own time-outs before the step's ends it."""


@cache
def settings() -> Settings:
    """Return this process's settings; raises `ConfigurationError`.

    Within the program `celery` a wrong setting is one line and the end: it would show a traceback instead.
    """
    try:
        return Settings.load()
    except ConfigurationError as error:
        context = click.get_current_context(silent=True)
        if context is not None and context.find_root().command.name == "celery":
            raise SystemExit(f"Error: {error}") from None
        raise


@cache
def servers() -> ServerUrls:
    """Return this process's servers; none is started before its URL is asked for."""
    return resolve(settings())


@cache
def calcom() -> CalcomClient:
    """Return this process's Cal.com client; its calls pass the quota and the circuit breaker of all workers."""
    return _client(settings().calcom_connect_timeout, settings().calcom_read_timeout)


@cache
def quota() -> Quota | None:
    """Return the quota of calls to Cal.com, or None if none is kept."""
    if settings().calcom_quota == 0:
        return None
    return Quota(_shared(), settings().calcom_quota, delay=settings().calcom_connect_timeout)


@cache
def circuit() -> Circuit | None:
    """Return the circuit breaker of calls to Cal.com, or None if there is none."""
    if settings().calcom_circuit_failures == 0:
        return None
    return Circuit(
        _shared(),
        failures=settings().calcom_circuit_failures,
        reset=settings().calcom_circuit_reset,
        longest_call=_call_time(),
    )


@cache
def _shared() -> Shared:
    return Shared(lambda: servers().redis, servers().calcom_api_key)


@cache
def _quick_calcom() -> CalcomClient:
    quick = _client(min(QUICKLY, settings().calcom_connect_timeout), min(QUICKLY, settings().calcom_read_timeout))
    # Somebody waits for the answer, in a web request.
    return quick.at(Priority.NEAR)


def _client(connect_timeout: float, read_timeout: float) -> CalcomClient:
    return CalcomClient(
        servers().calcom,
        servers().calcom_api_key,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        gate=Gate(circuit=circuit(), quota=quota()),
    )


def _call_time() -> float:
    return settings().calcom_connect_timeout + settings().calcom_read_timeout + CALL_MARGIN


def _services(database: Database) -> BookingServices:
    return BookingServices(
        client=calcom,
        event_types=EventTypes(_quick_calcom),
        cache=AppointmentCache(lambda: servers().redis, database, settings().queue_prefix),
        circuit=circuit,
    )


def _engine(database: Database, services: BookingServices) -> Engine:
    engine = Engine(database, stall_after=settings().stall_after)
    call = _call_time()
    engine.register(AppointmentCreationSaga, services, timeouts={"book_calcom": call, "cancel_booking": 2 * call})
    engine.register(AppointmentSyncSaga, services, timeouts={"call_calcom": 2 * call})
    engine.register(AppointmentFollowSaga, services, timeouts={"see_change": 2 * call, "read_booking": 2 * call})
    engine.register(CompositeBookingSaga, services, timeouts={"book_segment": call, "cancel_segment": 2 * call})
    engine.schedule(
        *engine_sweeps(interval=settings().sweep_interval, retention_days=settings().retention_days),
        relaying(events, every=settings().sweep_interval),
        *booking_sweeps(calcom, reconcile_interval=settings().reconcile_interval),
    )
    set_default_engine(engine)
    return engine


def _configuration() -> dict[str, Any]:
    # Celery looks at added defaults before it looks at the configuration that is to go beyond them.
    own = app.loader.conf
    defaults = celery_defaults(settings(), servers().broker, engine.sweeps.values())
    return {name: value for name, value in defaults.items() if name not in own}


def _database_url() -> str:
    url = servers().database
    if settings().database_url is None:
        _bring_up_to_date(url)
    return url


@cache
def _bring_up_to_date(url: str) -> None:
    """Give the embedded database the tables of this version.

    Whoever starts it: its user has not chosen it, so he need not care for it. One given by URL is upgraded by nobody
    but `sagajobs db upgrade`.
    """
    from sagajobs import migrations  # noqa: PLC0415 - most processes are given a URL, and need no Alembic

    upgrading = create_engine(url, poolclass=NullPool)
    if migrations.current(upgrading) != migrations.head():
        migrations.upgrade(upgrading)


database = Database(_database_url)
events = Bus(lambda: app, settings().queue_prefix)
services = _services(database)
engine = _engine(database, services)
saga_enabled = Switch(database, SAGA_ENABLED, default=settings().saga_enabled)
saga_events = Switch(database, EVENTS_SWITCH, default=False)
_facade = BookingFacade(database, services, saga_enabled, _quick_calcom)
create_appointment = _facade.create_appointment
sync_appointment_to_calcom = _facade.sync_appointment_to_calcom
book_composite = _facade.book_composite
find_appointment = _facade.find_appointment
find_free_slots = _facade.find_free_slots

app: Celery = Celery("sagajobs", amqp=Sending, set_as_current=False)
app.add_defaults(_configuration)
with cwd_in_path():  # as Celery's own loader does: the `celery` program does not have the current folder in its path
    if importlib.util.find_spec("celeryconfig") is not None:
        app.config_from_object("celeryconfig")

Canvas(app, engine)
logs.quieten()
begin_program = watch(app, engine.watchers, settings)


def read_again() -> None:
    """Read the environment once more, for tests: their servers are named after a saga's module was imported.

    What had been registered with time-outs of the settings keeps them.
    """
    database.close()
    for known in (settings, servers, calcom, quota, circuit, _shared, _quick_calcom):
        known.cache_clear()
    engine.executor.stall_after = settings().stall_after
    if getattr(app, "configured", False):  # which its stubs do not know
        app.conf.update(_configuration())
