"""An embedded Cal.com simulator: the one of `sagajobs.calcom.simulator`, on a free port of the loopback."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, ClassVar

from sagajobs.runtime.child import PACKAGE_ROOT, Child, Command, python_executable
from sagajobs.runtime.embedded.component import Component

if TYPE_CHECKING:
    from sagajobs.runtime.embedded.folders import Place

_MODULE = "sagajobs.calcom.simulator"
_READY = re.compile(r"^sagajobs simulator listening on (http://127\.0\.0\.1:(\d+))$", re.MULTILINE)
"""The line that the simulator prints when it serves."""


class Simulator(Component):
    """The Cal.com simulator; its bookings live as long as its process."""

    name: ClassVar[str] = "simulator"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._port = "0"  # any free one; once it is known, a restart asks for the same

    def prepare(self) -> Command:
        """See `Component`."""
        argv = [python_executable(), "-m", _MODULE, "--host", "127.0.0.1", "--port", self._port]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # its output is a file here, which Python would buffer
        return Command(argv, env=env, cwd=PACKAGE_ROOT, death_signal=self.stop_signal)

    def address(self, child: Child) -> str | None:
        """See `Component`."""
        said = _READY.search(child.output())
        if said is None:
            return None
        self._port = said[2]
        return said[1]
