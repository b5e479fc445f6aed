"""`sagajobs sagas list` and `show`, on a terminal and in a pipe, and as a plug-in of `celery`."""

from __future__ import annotations

import re

import pytest

BOX = set("│┃━─┌┏┐┓└┘┡┩")
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def booked(shell, sql):
    """Ids of three sagas, the newest first: completed, compensated (its slot was taken), completed."""
    shell.sagajobs("sagas", "list")
    sql("TRUNCATE sagas, appointments, customers CASCADE")  # the home is every module's
    shell.book("run", 1, 1, 2)
    return [saga["id"] for saga in shell.sagajobs("sagas", "list", "--json").json]


@pytest.mark.usefixtures("booked")
def test_the_list_begins_with_the_newest(shell):
    found = shell.sagajobs("sagas", "list", "--json").json
    assert [saga["state"] for saga in found] == ["completed", "compensated", "completed"]
    assert [saga["created_at"] for saga in found] == sorted((saga["created_at"] for saga in found), reverse=True)
    assert found[1].items() >= {"name": "appointment_creation", "step": "create_appointment", "attempts": 1}.items()
    assert found[0]["step"] is None
    assert set(found[0]) == {"id", "name", "state", "step", "created_at", "ended_at", "age_seconds", "attempts"}


def test_a_pipe_gets_aligned_text_and_nothing_else(shell, booked):
    done = shell.sagajobs("sagas", "list")
    lines = done.out.splitlines()
    assert done.err == ""
    assert lines[0].split() == ["id", "kind", "state", "step", "age", "attempts"]
    assert [line.split()[0] for line in lines[1:]] == booked
    assert "\x1b" not in done.out
    assert not BOX & set(done.out)
    assert len({line.index("appointment_creation") for line in lines[1:]}) == 1


def test_an_ordinary_terminal_gets_a_table_in_colours(shell, booked):
    written = shell.in_terminal("sagas", "list", columns=80)
    assert BOX & set(written)
    assert "\x1b[32m" in written
    # What is copied from here is to be understood: a whole id, or its beginning, and nothing with dots in it.
    assert all(saga_id[:8] in written for saga_id in booked)
    assert "…" not in written
    assert all(len(line) <= 80 for line in STYLE.sub("", written).splitlines())


@pytest.mark.usefixtures("booked")
def test_the_list_is_filtered(shell):
    expected = {
        ("--state", "compensated"): ["compensated"],
        ("--state", "paused"): [],
        ("--name", "appointment_creation"): ["completed", "compensated", "completed"],
        ("--name", "something_else"): [],
        ("--limit", "1"): ["completed"],
        ("--older-than", "1h"): [],
        ("--told", "cancelled"): ["compensated"],
        ("--told", "needs us"): [],
    }
    found = shell.at_once(*(["sagas", "list", "--json", *options] for options in expected))
    assert [[saga["state"] for saga in done.json] for done in found] == list(expected.values())


def test_the_next_page_begins_after_the_last_id(shell, booked):
    page = shell.sagajobs("sagas", "list", "--json", "--limit", "2", "--before", booked[0]).json
    assert [saga["id"] for saga in page] == booked[1:]


def test_one_is_found_by_what_is_at_hand(shell, booked, sql):
    [(appointment, uid)] = sql(
        "SELECT id, calcom_v2_booking_id FROM appointments WHERE CAST(saga_id AS text) = :id", id=booked[0]
    )
    found = shell.at_once(*(["sagas", "find", str(text), "--json"] for text in (booked[0][:8], appointment, uid)))
    assert [[saga["id"] for saga in done.json] for done in found] == [[booked[0]]] * 3
    assert shell.sagajobs("sagas", "find", "nobody-has-this").out == "no sagas\n"


def test_a_length_of_time_that_is_none_is_a_usage_error(shell):
    done = shell.sagajobs("sagas", "list", "--older-than", "soon")
    assert done.status == 2
    assert "write 90s, 5min, 2h or 3d" in done.err


def test_an_unknown_state_is_a_usage_error_that_names_the_known_ones(shell):
    done = shell.sagajobs("sagas", "list", "--state", "done")
    assert done.status == 2
    assert "manual_review_required" in done.err


def test_an_empty_list_says_so(shell):
    done = shell.sagajobs("sagas", "list", "--name", "nothing")
    assert (done.status, done.out) == (0, "no sagas\n")


def test_celery_has_the_same_commands(shell, booked):
    ours = shell.sagajobs("sagas", "show", booked[1], "--json").json
    theirs = shell.celery("sagas", "show", booked[1], "--json").json
    for document in (ours, theirs):
        del document["now"]
    assert ours == theirs


def test_a_saga_is_shown_by_the_beginning_of_its_id(shell, booked):
    done = shell.sagajobs("sagas", "show", booked[1][:8])
    assert done.status == 0
    assert re.search(rf"^saga +{booked[1]}$", done.out, re.MULTILINE)
    assert re.search(r"^state +compensated$", done.out, re.MULTILINE)
    assert re.search(r"^customer sees +cancelled$", done.out, re.MULTILINE)
    assert re.search(r"^create_appointment +failed +1 .*SlotNotFree", done.out, re.MULTILINE)
    assert re.search(r"^\+[\d.]+ s +step_failed +create_appointment +1 ", done.out, re.MULTILINE)
    assert "\x1b" not in done.out


def test_an_undo_shows_its_receipt_and_not_who_made_it(shell, booked, sql):
    sql(
        'UPDATE saga_steps SET receipt = \'{"calcom": "cancelled", "uids": ["u1"], "by_hand": "Mia Secret"}\' '
        "WHERE saga_id = :id AND name = 'book_calcom'",
        id=booked[1],
    )
    receipt = "Undo of book_calcom: uids=[u1], calcom=cancelled, by_hand="
    masked, whole = shell.at_once(*(["sagas", "show", booked[1], *options] for options in ((), ("--private",))))
    assert f"{receipt}…\n" in masked.out
    assert f"{receipt}Mia Secret\n" in whole.out


def test_what_is_about_a_customer_is_shown_on_demand_only(shell, booked, sql):
    sql(
        'UPDATE saga_steps SET error = error || \'{"message": "no time for mia.secret1"}\' '
        "WHERE saga_id = :id AND name = 'create_appointment'",
        id=booked[1],
    )
    shown = [["sagas", "show", saga_id, *options] for saga_id in booked[:2] for options in ((), ("--json",))]
    for done in shell.at_once(*shown, ["sagas", "list", "--json"]):
        assert done.status == 0
        assert "secret" not in (done.out + done.err).lower()
    for done in shell.at_once(*([*command, "--private"] for command in shown[2:])):
        assert "mia.secret1@example.org" in done.out
        assert "no time for mia.secret1" in done.out


def test_a_shown_saga_as_json(shell, booked):
    saga = shell.sagajobs("sagas", "show", booked[0], "--json").json
    assert saga["state"] == "completed"
    assert saga["public_status"] == "confirmed"
    assert [step["name"] for step in saga["steps"]] == [
        "create_customer",
        "create_appointment",
        "book_calcom",
        "assign_staff",
    ]
    assert [event["event"] for event in saga["events"]][:2] == ["saga_created", "step_completed"]
    assert saga["events"][-1]["event"] == "saga_completed"
    assert "idempotency_key" not in saga
    assert saga["input"]["customer"] == dict.fromkeys(("name", "email", "phone", "time_zone"), "…")
    assert saga["input"]["event_type_id"] == 1


def test_ids_that_name_no_saga(shell, booked, one_line):
    unknown, short, odd, before = shell.at_once(
        ["sagas", "show", "ffffffff"],
        ["sagas", "show", booked[0][:7]],
        ["sagas", "show", "'; DROP TABLE"],
        ["sagas", "list", "--before", "ffffffff"],
    )
    one_line(unknown, "there is no saga ffffffff in this database; `sagajobs list` shows which there are\n")
    one_line(short, "first 8 characters")
    one_line(odd, "is no id of a saga")
    one_line(before, "there is no saga ffffffff")


def test_a_beginning_that_several_ids_have(shell, database, one_line, sql):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    assert there.sagajobs("db", "upgrade").status == 0
    for ending in ("1", "2"):
        sql(
            "INSERT INTO sagas (id, name, version, definition, state, input, next_at) "
            "VALUES (CAST(:id AS uuid), 'n', 1, 'd', 'pending', '{}', saga_now())",
            database,
            id=f"abcdef12-0000-0000-0000-00000000000{ending}",
        )
    one_line(there.sagajobs("sagas", "show", "abcdef12"), "several sagas")
    assert there.sagajobs("sagas", "show", "abcdef12-0000-0000-0000-000000000002", "--json").json["name"] == "n"
