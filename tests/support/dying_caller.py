"""A process that runs a booking itself and is killed at a given point of `book_calcom`."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from sagajobs import AppointmentCreationSaga
from sagajobs.saga import faultpoints


def die(point: faultpoints.Point, _saga_id: str, step: str) -> None:
    if (step, point) == ("book_calcom", sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


faultpoints.install(die)
request = json.loads(Path(sys.argv[1]).read_text())
AppointmentCreationSaga.run(request | {"start": datetime.fromisoformat(request["start"])})
