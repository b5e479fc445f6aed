"""Putting the tab, and what /metrics says of sagas, into Flower, which has no place for plug-ins.

See docs/design.md, The desk, and Flower.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


def install() -> None:
    """Give every Flower that this process starts tab and door; where it is not as we know it, say so and do not.

    What is relied on: `flower.urls.handlers`, whose last entry catches all and whose first one that fits answers;
    `flower.urls.settings`; `BaseHandler`; `Metrics`, which writes its own and leaves the answer open; that pages
    draw their navigation by `Template("navbar.html", active_tab=…)`; and that a Flower opens its socket by
    `Flower.start_http_server`, when all of its options are known.
    """
    try:
        from flower import urls  # type: ignore[import-untyped]  # noqa: PLC0415 - it may be missing, or another one
        from flower.app import Flower  # type: ignore[import-untyped]  # noqa: PLC0415 - likewise

        from sagajobs.flower.door import guarded  # noqa: PLC0415 - likewise
        from sagajobs.flower.handlers import METRICS, ROUTES  # noqa: PLC0415 - likewise
        from sagajobs.flower.tab import Navigation  # noqa: PLC0415 - likewise

        if any(getattr(route, "name", None) == ROUTES[0].name for route in urls.handlers):
            return
        Flower.start_http_server = guarded(Flower.start_http_server)
        urls.handlers[-1:-1] = ROUTES
        urls.handlers.insert(0, METRICS)
        urls.settings.setdefault("ui_modules", {})["Template"] = Navigation
    except (ImportError, AttributeError, TypeError, IndexError) as error:
        _log.warning(
            "Flower goes without its Sagas tab and SAGAJOBS_FLOWER_LOGIN: it is another one than we know (%s)", error
        )
