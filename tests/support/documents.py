"""The pages' blocks of code, and whether what one of them shows is what is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

LEFT_OUT = "…"
"""In a block: lines, or the rest of one, that are not shown."""

_KINDS = re.compile(
    r"(?<!\w)(?:"
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)[0-9a-f]{8,})"
    r"|(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:[+-]\d\d:\d\d)?)"
    r"|(?P<span>\d+(?:\.\d+)? (?:s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?)"
    r"|(?P<number>\d+(?:\.\d+)*)"
    r")(?!\w)"
)
"""What differs from one run to the next. Any of a kind may stand for any other one of it."""


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    language: str
    code: str


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for one in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page.name, one[1], one[2])


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def outputs(page: str) -> list[str]:
    """Return what a page shows of outputs, in order."""
    return [block.code for block in BLOCKS if (block.page, block.language) == (page, "text")]


def assert_shown(block: str, printed: str) -> None:
    """Compare what a page shows with what was printed: line by line, the same words, whatever the numbers.

    The width of columns counts for nothing, nor does how many lines in a row differ in their numbers alone.
    """
    wanted, lines = _told(block), _told(printed)
    rest, anywhere = lines, False
    for left_out, part in groupby(wanted, lambda line: line == LEFT_OUT):
        if left_out:
            anywhere = True
            continue
        patterns = [re.escape(line).replace(re.escape(LEFT_OUT), ".*") for line in part]
        places = range(len(rest) - len(patterns) + 1) if anywhere else range(1)
        at = next((n for n in places if _match(patterns, rest[n:])), None)
        assert at is not None, "\n".join(["shown:", *patterns, "", "printed:", *rest])
        rest, anywhere = rest[at + len(patterns) :], False
    assert anywhere or not rest, "\n".join(["printed, and not shown:", *rest])


def _match(patterns: list[str], lines: list[str]) -> bool:
    return len(lines) >= len(patterns) and all(map(re.fullmatch, patterns, lines))


def _told(said: str) -> list[str]:
    general = (_KINDS.sub(lambda found: f"<{found.lastgroup}>", line) for line in said.strip("\n").splitlines())
    return [line for line, _ in groupby(" ".join(line.split()) for line in general)]
