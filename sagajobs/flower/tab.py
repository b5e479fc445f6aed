"""The tab itself: one more entry in the navigation that Flower draws on each of its pages."""

from __future__ import annotations

import logging
import sys
from typing import Any

from tornado.escape import xhtml_escape
from tornado.web import Application, TemplateModule

_log = logging.getLogger(__name__)

_PLACE = b"</ul>"
"""Where the entry goes: at the end of the first list of navbar.html."""


def is_ours(application: Application) -> bool:
    """Return whether a Flower watches the application whose sagas this process knows.

    We are loaded into the Flower of any Celery project on the machine, where there are no sagas to be shown.
    """
    root = sys.modules.get("sagajobs.root")
    return root is not None and getattr(application, "capp", None) is root.app


class Navigation(TemplateModule):
    """Tornado's `Template` module, which adds the tab to the navigation."""

    def render(self, path: str, **kwargs: Any) -> bytes:
        """Render a template; see Tornado."""
        drawn: bytes = super().render(path, **kwargs)
        if path != "navbar.html" or not is_ours(self.handler.application):
            return drawn
        before, place, after = drawn.partition(_PLACE)
        if not place:
            _log.warning("Flower goes without its Sagas tab: its navigation is another one than we know")
            return drawn
        address = xhtml_escape(self.handler.reverse_url("sagas"))
        state = 'nav-link active" aria-current="page' if kwargs.get("active_tab") == "sagas" else "nav-link"
        entry = f'  <li class="nav-item"><a class="{state}" href="{address}">Sagas</a></li>\n      '
        return before + entry.encode() + place + after
