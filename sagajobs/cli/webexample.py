"""The example web application (`examples/webapp`) within `up`: whether it is there, and where Cal.com reaches it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import sagajobs

PORT = 8000
"""The port that is taken unless one is asked for, or the next free one above it."""

MODULE = "examples.webapp"
ROOT = Path(sagajobs.__file__).resolve().parents[1]
"""The folder that holds `examples`, where sagajobs runs from its source; a wheel has none."""

WEBHOOKS = "webhooks/calcom"
"""The path at which it receives Cal.com's webhooks."""

_NEEDED = ("flask", "flask_wtf", "waitress")
"""The modules of the extra `examples`."""


def missing() -> str | None:
    """Return why the application cannot be started, in words that say what to do; None if it can."""
    if not (ROOT / MODULE.replace(".", "/") / "__main__.py").is_file():
        return "it comes with the source only, in the folder examples"
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        return "it needs the extra examples: pip install 'sagajobs[examples]'"
    return None
