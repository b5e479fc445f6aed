"""Log lines that say which saga they are about, whoever writes them while it is at work."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sagajobs.monitoring.logs import within
from sagajobs.saga.watching import Doing, Watcher


class Lines(Watcher):
    """Marks each line that is logged while an author's code is at work with the saga's id and the step."""

    def doing(self, doing: Doing) -> AbstractContextManager[None]:
        """See `Watcher`."""
        step = () if doing.step is None else (f"step={doing.step}",)
        return within(f"saga={doing.saga_id}", *step)
