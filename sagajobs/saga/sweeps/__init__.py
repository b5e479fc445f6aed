"""The scheduled sweeps: what brings to an end, or before a person, whatever no message is under way for (SPEC 4)."""

from __future__ import annotations

from sagajobs.saga.sweeps.standard import engine_sweeps
from sagajobs.saga.sweeps.sweep import Noted, Sweep, Swept, run

__all__ = ["Noted", "Sweep", "Swept", "engine_sweeps", "run"]
