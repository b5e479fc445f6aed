"""What tests of pages do with a browser: pictures, and widths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"width": 360, "height": 800}


def shot(page: Page, name: str) -> None:
    """Leave a picture, if pictures are wanted."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def sideways(page: Page) -> bool:
    """Return whether the page, or a table that would be scrolled within it, is wider than what shows it."""
    return page.evaluate(
        "[document.documentElement, ...document.querySelectorAll('.table-responsive')]"
        ".some(one => one.scrollWidth > one.clientWidth)"
    )


_UNREADABLE = """() => {
  const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3]));
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const found = [];
  for (const one of document.querySelectorAll(".sagas-page *")) {
    const says = [...one.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!says.length || !one.checkVisibility()) continue;
    let opacity = 1;
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      layers.unshift(parse(style.backgroundColor));
      opacity *= Number(style.opacity);
    }
    const below = layers.reduce((all, layer) => over(layer, all), [255, 255, 255]);
    const colour = parse(getComputedStyle(one).color);
    colour[3] *= opacity;
    const [pale, dark] = [light(over(colour, below)), light(below)].sort((a, b) => b - a);
    const contrast = (pale + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`${one.tagName} ${says[0].data.trim()}: ${contrast.toFixed(2)}`);
  }
  return found;
}"""

_ACTIONS = """() => [...document.querySelectorAll(".sagas-page :is(a[href], button, input, select)")]
  .filter((one) => one.checkVisibility() && one.type !== "hidden").length"""

_FOCUSED = """() => {
  const one = document.activeElement;
  if (!one.closest(".sagas-page")) return null;
  const style = getComputedStyle(one);
  return style.outlineStyle !== "none" || style.boxShadow !== "none";
}"""

_TABS = 200
"""More than any of the pages that tests show has actions."""


def unreadable(page: Page) -> list[str]:
    """Return what stands on the tab's part of a page in too little contrast (WCAG's 4.5 to 1)."""
    return page.evaluate(_UNREADABLE)


def tabbed(page: Page) -> tuple[int, int, int]:
    """Walk a page by Tab: return how many actions there are, how many it comes to, and on how many that is seen."""
    page.evaluate("document.activeElement.blur()")
    seen: list[bool] = []
    for _ in range(_TABS):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused is not None:
            seen.append(focused)
        elif seen:
            break
    return page.evaluate(_ACTIONS), len(seen), sum(seen)
