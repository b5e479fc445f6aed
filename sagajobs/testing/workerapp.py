"""The Celery app of test workers: the real one, with the sagas of the modules in SAGA_MODULES, and plans of death.

`celery -A sagajobs.testing.workerapp worker`, as `sagajobs.testing.worker` starts it; PLAN_DIR holds the plans.
"""

from __future__ import annotations

import importlib
import os
from datetime import UTC, datetime
from pathlib import Path

from sagajobs.root import app, engine
from sagajobs.saga import faultpoints
from sagajobs.testing import deaths

__all__ = ["app"]

app.conf.worker_send_task_events = app.conf.task_send_sent_event = False  # unless with -E: see `worker`
for entry in app.conf.beat_schedule.values():
    entry["last_run_at"] = datetime.now(UTC)  # a beat with no past has all sweeps done: here, of what other tests left
for module in os.environ.get("SAGA_MODULES", "").split():
    importlib.import_module(module)
faultpoints.install(deaths.hook(engine, Path(os.environ["PLAN_DIR"])))
