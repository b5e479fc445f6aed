"""The Celery settings that the system runs with, each with its reason; `celeryconfig.py` may go beyond them.

What the guarantees stand on (late acknowledgement, no stored results) is set on the tasks themselves and cannot be
lost by a deployment's own configuration; see `sagajobs.saga.canvas`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from kombu import Exchange, Queue

from sagajobs.monitoring.logs import FORMAT
from sagajobs.runtime.settings import Settings
from sagajobs.saga.canvas import QUEUES, SWEEP_QUEUE
from sagajobs.saga.sweeps import Sweep

VISIBILITY_TIMEOUT = 900
"""Seconds after which Redis gives out again what a vanished worker held: longer than any task may take."""

EXCHANGE = "sagajobs"
"""The exchange that the queues are bound to."""

_LONG_AGO = datetime.fromtimestamp(0, UTC)
"""When sweeps last ran, for a beat that remembers nothing: it has all of them done at once. By Celery's default each
would first wait for its interval, and a beat that comes up anew each hour, without its file, would never purge."""

_REDIS = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # Without time-outs a half-open socket blocks a publisher for ever.
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "max_retries": 3,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.5,
}

_RABBITMQ = {
    # A publish is then lost by nobody: the broker says that it has it.
    "confirm_publish": True,
}


def celery_defaults(settings: Settings, broker_url: str, sweeps: Iterable[Sweep]) -> dict[str, Any]:
    """Return the settings of the Celery app.

    Args:
        settings: the application's.
        broker_url: of the broker in use.
        sweeps: what beat has done, and how often.
    """
    rabbitmq = broker_url.startswith("amqp")
    prefix = settings.queue_prefix
    # Unacknowledged messages are kept per database, not per application: the prefix keeps others' hands off ours.
    redis = _REDIS | {"global_keyprefix": f"{prefix}sagajobs:"}
    return {
        "broker_url": broker_url,
        "broker_transport_options": _RABBITMQ if rabbitmq else redis,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 3,
        "broker_pool_limit": 10,
        # RabbitMQ gives a cut-off worker's messages to another one at once, so its own work must end; Redis does not.
        "worker_cancel_long_running_tasks_on_connection_loss": rabbitmq,
        "task_queues": [_queue(name, prefix, quorum=rabbitmq) for name in QUEUES],
        "task_default_queue": QUEUES[0],
        "task_create_missing_queues": False,
        # Who pings, revokes or shuts down all workers, and who watches them, means those of one deployment.
        "control_exchange": f"{prefix}celery",
        "event_exchange": f"{prefix}celeryev",
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Looks at a message before Celery does, whom a damaged one may kill.
        "worker_consumer": "sagajobs.saga.intake:Intake",
        "result_backend": None,
        "task_ignore_result": True,
        # One message a child: what waits behind a slow call is better off with another worker.
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.worker_concurrency,
        "worker_max_tasks_per_child": 2000,
        "worker_log_format": FORMAT,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "timezone": "UTC",
        "beat_schedule": {
            sweep.name: {
                "task": sweep.task,
                "schedule": sweep.every,
                "options": {"queue": SWEEP_QUEUE, "expires": sweep.expires},
                "last_run_at": _LONG_AGO,
            }
            for sweep in sweeps
        },
    }


def _queue(name: str, prefix: str, *, quorum: bool) -> Queue:
    """Return a queue that the broker knows by its prefixed name and this application, by its alias, without."""
    return Queue(
        prefix + name,
        Exchange(prefix + EXCHANGE),
        routing_key=prefix + name,
        queue_arguments={"x-queue-type": "quorum"} if quorum else None,
        alias=name if prefix else None,
    )
