"""What tests of pages do with a browser: pictures, and widths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"width": 390, "height": 844}


def shot(page: Page, name: str) -> None:
    """Leave a picture, if pictures are wanted."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def sideways(page: Page) -> bool:
    """Return whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
