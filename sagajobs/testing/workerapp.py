"""The Celery app of test workers: the real one, with the sagas of the modules in SAGA_MODULES, and plans of death.

`celery -A sagajobs.testing.workerapp worker`, as `sagajobs.testing.worker` starts it; PLAN_DIR holds the plans.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from sagajobs.root import app, engine
from sagajobs.saga import faultpoints
from sagajobs.testing import deaths

__all__ = ["app"]

app.conf.worker_send_task_events = app.conf.task_send_sent_event = False  # unless with -E: see `worker`
for module in os.environ.get("SAGA_MODULES", "").split():
    importlib.import_module(module)
faultpoints.install(deaths.hook(engine, Path(os.environ["PLAN_DIR"])))
