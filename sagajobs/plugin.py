"""What `celery` loads of us, in every `celery …` process on the machine: our commands, and the tab in Flower.

Commands and tab are surfaces that do not know each other, so what brings both stands above them.
"""

from __future__ import annotations

from sagajobs.cli.sagas import sagas
from sagajobs.flower.install import install

__all__ = ["sagas"]

install()
