"""The keeper's process: ``python -m sagajobs.runtime.embedded COMPONENT HOME START KEEPER REPORT``.

Started by `acquire` only; the last three arguments are descriptors (see `keeper.Inheritance`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sagajobs.runtime.embedded.folders import Place
from sagajobs.runtime.embedded.keeper import Inheritance, Keeper
from sagajobs.runtime.embedded.postgres import Postgres
from sagajobs.runtime.embedded.redis import Redis
from sagajobs.runtime.embedded.simulator import Simulator

if TYPE_CHECKING:
    from sagajobs.runtime.embedded.component import Component

_COMPONENTS: dict[str, type[Component]] = {kind.name: kind for kind in (Postgres, Redis, Simulator)}


def main(arguments: list[str]) -> int:
    """Become the keeper that `arguments` describe; return its exit status."""
    # Let the process that started us see its child end at once: init adopts the keeper and reaps it some day.
    if os.fork():
        return 0
    component, home, *descriptors = arguments
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by our starter, it would hide the server's death
    os.chdir("/")  # pin no folder that somebody may want to remove
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    place = Place(Path(home), component)
    return Keeper(_COMPONENTS[component](place), Inheritance(*(int(number) for number in descriptors))).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
