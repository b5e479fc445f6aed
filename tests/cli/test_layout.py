"""Tables at every width: on a terminal nothing is cut, nothing is wider than it, and what is copied can be typed."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.cells import cell_len
from rich.console import Console, Group

from sagajobs.cli.layout import laid_out

HEADINGS = ("id", "kind", "state", "step", "age", "attempts")
ROWS = [
    ("56371595-398a-4c06-8d02-0123456789ab", "appointment_creation", "completed", "-", "2 min 26 s", "1"),
    ("1f6c2a9e-1e95-434c-8c04-c00cffc018b2", "composite_booking", "running", "book_calcom", "1 h", "12"),
    (
        "b1c7f378-1e95-434c-8c04-c00cffc018b2",
        "日程の予約",
        "manual_review_required, abandoned",
        "assign_staff",
        "3 d",
        "2",
    ),
]
STYLES = ["green", "", "bold red"]


def _drawn(headings=HEADINGS, rows=ROWS, *, width: int, styles=STYLES, height: int | None = None) -> str:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=False)
    table = laid_out(headings, rows, styles=styles, width=width, height=height)
    console.print(table if height is None else Group(table), soft_wrap=height is None)
    return written.getvalue()


def _letters(*texts: str) -> Counter:
    return Counter("".join("".join(texts).replace("─", "").split()))


def test_nothing_is_cut_at_any_width():
    short = [(row[0][:8], *row[1:]) for row in ROWS]
    for width in range(10, 130):
        shown = _drawn(width=width)
        assert _letters(shown) == _letters(*HEADINGS, *(cell for row in short for cell in row)), width
        if "─" in shown:
            assert max(map(cell_len, shown.splitlines())) <= width


def test_eighty_columns_are_enough_and_a_hundred_and_twenty_break_nothing():
    assert "─" in _drawn(width=80)
    assert "─" not in _drawn(width=40)
    lines = _drawn(width=120).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert lines[3].split() == ["1f6c2a9e", "composite_booking", "running", "book_calcom", "1", "h", "12"]


def test_what_is_broken_is_what_the_fewest_rows_have():
    rows = [*ROWS[:2] * 10, ROWS[2]]
    lines = _drawn(rows=rows, styles=[], width=82).splitlines()
    assert sum("appointment_creation" in line for line in lines) == 10, "not the kind, which every row has"
    assert sum("2 min 26 s" in line for line in lines) == 10
    assert lines[-1].split() == ["abandoned"]


def test_the_name_of_a_variable_and_a_number_with_its_unit_stay_whole():
    shown = _drawn(("setting", "meaning"), [("SAGAJOBS_STALL_AFTER", "it waits for 2 min +26 s")], styles=[], width=30)
    assert [line.strip() for line in shown.splitlines()[2:]] == [
        "SAGAJOBS_STALL_AFTER  it waits",
        "for",
        "2 min",
        "+26 s",
    ]


def test_two_ids_that_begin_alike_are_shown_as_long_as_it_takes_to_tell_them_apart():
    alike = ["56371595-398a-4c06-8d02-0123456789ab", "56371595-398b-4c06-8d02-0123456789ab"]
    rows = [(one, "shipping") for one in [*alike, alike[0]]]
    shown = _drawn(("saga", "kind"), rows, styles=[], width=80)
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["56371595-398a", "56371595-398b", "56371595-398a"]
    other = _drawn(("because of", "saga"), [(alike[0], "abcdef12-is-a-kind")], styles=[], width=80)
    assert other.splitlines()[2].split() == [alike[0], "abcdef12-is-a-kind"], "only what names a saga is shortened"


def test_in_a_picture_what_cannot_be_had_so_narrow_is_cut_and_wrapped_nowhere():
    for width in range(10, 50):
        lines = _drawn(width=width, height=3).splitlines()
        assert [line[:8].rstrip() for line in lines] == ["id", "56371595", "1f6c2a9e"], width
        assert max(map(cell_len, lines)) <= width
    assert lines[2].startswith("1f6c2a9e  composite_booking     running")
    assert lines[2].endswith("…")


@pytest.mark.parametrize("height", range(2, 12))
def test_a_table_is_no_higher_than_it_may_be(height):
    lines = _drawn(width=82, height=height).splitlines()
    whole = _drawn(width=82).splitlines()
    assert len(lines) <= height
    assert whole[: len(lines)] == lines
    assert len(lines) == len(whole) or not whole[len(lines)].startswith(" "), "a row is there as a whole, or not at all"
