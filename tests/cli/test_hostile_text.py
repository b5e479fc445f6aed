"""Names, notes and reasons that try to be something else: kept as they are, run by nobody, harmless to a terminal."""

from __future__ import annotations

import json

import pytest

from tests.cli.inprocess import sagajobs

_BOOK = """
import json, sys
from sqlalchemy import text
from sagajobs.root import engine
from datetime import UTC, datetime, timedelta
from sagajobs import AppointmentCreationSaga
names = json.loads(sys.argv[1])
first = (datetime.now(UTC) + timedelta(days=20)).replace(microsecond=0)
ids = []
for number, name in enumerate(names):
    request = {
        "customer": {"name": name, "email": f"hostile{number}@example.org", "time_zone": "UTC"},
        "event_type_id": 1, "start": first + timedelta(hours=number), "duration_minutes": 30, "notes": name,
    }
    key = name if name.isprintable() else None
    made = AppointmentCreationSaga.run(request, idempotency_key=key).id
    with engine.database.reading() as db:
        ids.append(str(db.scalar(text("SELECT saga_id FROM appointments WHERE id = :id"), {"id": made})))
print(json.dumps(ids))
"""

HOSTILE = [
    "'; DROP TABLE sagas; --",
    "%s %(x)s %d",
    ":id :name",
    "{{7*7}} ${7*7} {0.__class__}",
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "[bold red]not rich[/bold red] [link=x]",
    "\x9b31mred\x9b2J",
    "left\u202eright\u2066",
]
CONTROLS = "\x1b[2J\x1b]0;title\x07\r\x08\x7f\x9b31m\u202e\u2028"


@pytest.fixture(scope="module")
def hostile(shell):
    done = shell.run("python", "-c", _BOOK, json.dumps(HOSTILE))
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_what_was_given_is_what_is_kept(hostile, sql):
    rows = sql(
        "SELECT c.name, a.notes, g.idempotency_key FROM appointments a JOIN customers c ON c.id = a.customer_id "
        "JOIN sagas g ON g.id = a.saga_id WHERE c.email LIKE 'hostile%' ORDER BY c.email"
    )
    assert [tuple(row) for row in rows] == [(text, text, text if text.isprintable() else None) for text in HOSTILE]


def test_a_terminal_is_shown_what_it_would_obey(shell, hostile, sql):
    sql(
        "UPDATE saga_steps SET receipt = CAST(:r AS jsonb), error = CAST(:e AS jsonb) "
        "WHERE saga_id = :id AND name = 'book_calcom'",
        id=hostile[0],
        r=json.dumps({"said": CONTROLS}),
        e=json.dumps({"class": "x.Y", "message": CONTROLS}),
    )
    commands = [["sagas", "show", saga_id, "--private"] for saga_id in (hostile[0], *hostile[-2:])]
    plain = shell.at_once(*commands)
    for done in plain:
        assert done.status == 0
        assert all(character.isprintable() or character == "\n" for character in done.out)
    assert r"\x1b[2J\x1b]0;title\x07\r\x08\x7f\x9b31m\u202e\u2028" in plain[0].out
    drawn = shell.in_terminal(*commands[0], columns=400)
    assert "title\\x07" in drawn
    assert not {"\x07", "\x08", "\x9b", "\u202e", "\u2028"} & set(drawn)
    assert "\x1b[2J" not in drawn


def test_json_says_it_all_and_harms_no_terminal(shell, hostile):
    for saga_id, text in zip(hostile[-2:], HOSTILE[-2:], strict=True):
        done = shell.sagajobs("sagas", "show", saga_id, "--private", "--json")
        assert done.json["input"]["notes"] == text
        assert all(character.isprintable() or character == "\n" for character in done.out)


def test_a_filter_of_the_list_is_a_value(shell, hostile, sql):
    texts = ["'; DROP TABLE sagas; --", "%s", ":id", "' OR '1'='1"]
    for done in shell.at_once(*(["sagas", "list", "--name", text, "--json"] for text in texts)):
        assert (done.status, done.json) == (0, [])
    assert sql("SELECT count(*) FROM sagas")[0][0] >= len(HOSTILE)


def test_who_and_why_of_an_operator_are_kept_as_typed(shell, hostile, sql):
    why = "%s :id {0.__class__} '; DROP TABLE switches; --"
    done = shell.sagajobs("sagas", "enable", "--who", HOSTILE[0], "--why", why, "--json")
    assert done.status == 0, done.err
    assert (done.json["who"], done.json["why"]) == (HOSTILE[0], why)
    refused = shell.sagajobs("sagas", "enable", "--who", "a\x1b[2J", "--why", "b\x1b[2J")
    assert refused.status == 1
    assert "\x1b" not in refused.err


def test_what_is_no_text_is_refused_before_anything_is_done():
    for typed in (("sagas", "list", "--name"), ("sagas", "retry", "--why", "x", "--cause"), ("purge", "--older-than")):
        done = sagajobs(*typed, "\udcff")
        assert done.status == 2
        assert done.err.splitlines()[-1] == r"Error: '\udcff' is no text in UTF-8"
