"""The tab over HTTP: what its pages show, to whom, and what they have done."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
import requests

from sagajobs import AppointmentCreationSaga, SagaNotFound
from sagajobs.desk import queries
from sagajobs.desk.documents import saga_document
from sagajobs.errors import CaseClosed
from sagajobs.flower import looking, pages
from tests.support.asked import ask, left_to_a_person
from tests.support.sagas import record
from tests.support.tables import change, dump

SIGNED = {"who": "Ann", "why": "it stands at Cal.com"}

HOSTILE = "<script>alert(1)</script>"


def case_of(app_engine, handle) -> int:
    return app_engine.review.of(handle.id).number


def test_the_tab_stands_on_every_page(flower):
    for path in ("/workers", "/tasks", "/broker", "/sagas", "/sagas/review", "/sagas/health", "/nowhere"):
        page = flower.get(path).text
        assert '<a class="nav-link' in page, path
        assert re.search(r'href="/sagas"[^>]*>Sagas</a>', page), path
        assert ('nav-link active" aria-current="page" href="/sagas"' in page) == path.startswith("/sagas"), path


@pytest.mark.parametrize("path", ["/sagas", "/sagas/review", "/sagas/health", "/sagas/12345678"])
def test_nobody_sees_anything_without_the_login(flower, path):
    for auth in (None, ("ann", "guessed")):
        answer = flower.get(path, auth=auth)
        assert (answer.status_code, answer.text) == (401, "Access denied")


def test_a_saga_from_the_list_to_its_history(flower, text_of, booking, clean):
    made = AppointmentCreationSaga.run(booking(notes="Private note"))
    page = flower.get("/sagas")
    assert page.headers["Cache-Control"] == "no-store"
    assert re.search(r"appointment_creation completed confirmed - [\d.]+ s 1$", text_of(page))
    (saga_id,) = set(re.findall(r"/sagas/([0-9a-f-]{36})", page.text))
    for given in (saga_id, saga_id[:8], saga_id.upper()):
        shown = text_of(flower.get(f"/sagas/{given}"))
        assert "Customer sees confirmed" in shown
        assert "step_executing book_calcom 1" in shown
        assert "rivate" not in shown.replace("--private", ""), "no name, no address, no note"
        assert "@" not in shown
        assert "Input notes=…, start=" in shown
        assert "customer=(name=…, email=…, phone=…, time_zone=…)" in shown
        assert f"appointment_id={made.id}" in shown
        assert f"Result of book_calcom uid={made.calcom_v2_booking_id}, host=(id=…, email=…), status=accepted" in shown
    drawn = flower.get(f"/sagas/{saga_id}").text
    assert 'aria-label="book_calcom: attempt 1, ' in drawn
    assert re.search(r'<span class="sagas-bar sagas-attempt sagas-done" style="left:[\d.]+%;width:[\d.]+%"', drawn)


def test_filters_searches_and_pages(flower, text_of, booking, clean, app_engine):
    AppointmentCreationSaga.run(booking())
    found = "completed confirmed"
    for query in (
        "state=completed",
        "name=appointment_creation",
        "told=confirmed",
        "q=1",
        "told=confirmed&state=completed",
    ):
        assert found in text_of(flower.get(f"/sagas?{query}")), query
    for query in ("state=paused", "name=other", "told=held", "older=3600", "q=no+such+uid"):
        assert "No sagas." in text_of(flower.get(f"/sagas?{query}")), query
    for query in ("state=nonsense", "older=12", "told=happy", "before=xyz", "before=" + "0" * 32, f"q={'x' * 201}"):
        answer = flower.get(f"/sagas?{query}")
        assert answer.status_code in (400, 404), query
        assert 'id="sagas-message"' in answer.text
    assert 'id="sagas-next"' not in flower.get("/sagas").text
    change(
        app_engine,
        "INSERT INTO sagas (id, name, version, definition, state, input, created_at, ended_at)"
        " SELECT gen_random_uuid(), 'other', 1, '', 'completed', '{}', saga_now() - n * interval '1 min', saga_now()"
        " FROM generate_series(1, 60) n",
    )
    (following,) = re.findall(r'id="sagas-next" rel="next" href="([^"]+)"', flower.get("/sagas?name=other").text)
    following = following.replace("&amp;", "&")
    assert "name=other" in following
    second = flower.get(following).text
    assert second.count('<a id="saga-') == 10
    assert 'id="sagas-next"' not in second


def test_the_case_is_shown_with_its_remedies_and_settled_once(flower, text_of, app_engine, in_doubt, db):
    number = case_of(app_engine, in_doubt)
    assert f"{number} " in text_of(flower.get("/sagas/review"))
    before = dump(db)
    page = flower.get(f"/sagas/review/{number}")
    shown = text_of(page)
    assert "Not here: step book_calcom may have happened" in shown
    assert re.search(r"Retry Try again.*it finds it now", shown)
    assert f"sagajobs sagas explain {number} --private" in shown, "where the error's message is"
    assert "Result of create_appointment appointment_id=" in shown
    assert 'value="ann"' in page.text, "who has logged in"
    assert "ecret" not in page.text
    assert dump(db) == before, "looking changes nothing"

    refused = flower.post(f"/sagas/review/{number}/skip", **SIGNED)
    assert (refused.status_code, "takes no skip" in refused.text) == (409, True)
    unsigned = flower.post(f"/sagas/review/{number}/retry", who="Ann", why=" ")
    assert (unsigned.status_code, "why: give the reason" in unsigned.text) == (400, True)
    assert f'id="sagas-back" href="/sagas/review/{number}"' in unsigned.text
    assert dump(db) == before

    done = flower.post(f"/sagas/review/{number}/retry", **SIGNED)
    assert (done.status_code, done.headers["Location"]) == (303, f"/sagas/{in_doubt.id}")
    late = flower.post(f"/sagas/review/{number}/abandon", who="Bob", why="too")
    assert (late.status_code, "settled by Ann at" in late.text) == (409, True)
    assert flower.get(f"/sagas/review/{number}").status_code == 409
    app_engine.drive(AppointmentCreationSaga, in_doubt.id)
    assert in_doubt.status() == "completed"
    assert app_engine.review.case(number).why == SIGNED["why"]


def test_the_queue_goes_on_behind_a_case_whatever_has_become_of_it(flower, text_of, app_engine, db):
    soonest = [ask(app_engine, hours=1 + number).case for number in range(53)]
    first = flower.get("/sagas/review")
    shown = [int(number) for number in re.findall(r'id="case-(\d+)"', first.text)]
    assert shown == soonest[:50]
    assert "CalcomUnavailable" in text_of(first)
    assert "ecret" not in first.text
    app_engine.review.abandon(soonest[49], **SIGNED)
    further = flower.get(re.search(r'id="sagas-next"[^>]*href="([^"]*)"', first.text)[1])
    assert [int(number) for number in re.findall(r'id="case-(\d+)"', further.text)] == soonest[50:]
    assert 'id="sagas-next"' not in further.text
    assert "Nothing waits behind these" in text_of(flower.get(f"/sagas/review?after={soonest[-1]}"))
    for wrong, status in (("x", 400), ("²", 400), ("-1", 400), ("999999999", 404), ("9" * 30, 404)):
        assert flower.get(f"/sagas/review?after={wrong}").status_code == status


def test_done_by_hand_needs_what_was_done(flower, app_engine, in_doubt, simulator):
    number = case_of(app_engine, in_doubt)
    for reference in ("", "no such booking"):
        answer = flower.post(f"/sagas/review/{number}/mark_done", reference=reference, **SIGNED)
        assert answer.status_code in (400, 409)
        assert 'id="sagas-message"' in answer.text
    (booking,) = simulator.standing()
    done = flower.post(f"/sagas/review/{number}/mark_done", reference=booking["uid"], **SIGNED)
    assert done.status_code == 303
    app_engine.drive(AppointmentCreationSaga, in_doubt.id)
    assert in_doubt.status() == "completed"


def test_a_saga_is_paused_resumed_and_cancelled(flower, text_of, app_engine, booking, impatient, clean):
    handle = record(AppointmentCreationSaga, booking())
    address = f"/sagas/{handle.id}"
    assert f'href="{address}/pause"' in flower.get(address).text
    assert "saga: pending → paused" in text_of(flower.get(f"{address}/pause"))
    assert flower.post(f"{address}/pause", **SIGNED).status_code == 303
    assert "State paused (was pending)" in text_of(flower.get(address))
    again = flower.post(f"{address}/pause", **SIGNED)
    assert (again.status_code, f'id="sagas-back" href="{address}"' in again.text) == (409, True)
    assert flower.post(f"{address}/resume", **SIGNED).status_code == 303
    assert flower.post(f"{address}/cancel", **SIGNED).status_code == 303
    app_engine.drive(AppointmentCreationSaga, handle.id)
    assert handle.status() == "compensated"
    refused = flower.get(f"{address}/cancel")
    assert (refused.status_code, 'id="sagas-message"' in refused.text) == (409, True)


def test_another_site_has_nothing_done(flower, app_engine, in_doubt, db):
    address = f"{flower.url}/sagas/review/{case_of(app_engine, in_doubt)}/abandon"
    before = dump(db)
    with requests.Session() as session:
        session.auth = flower.auth
        session.get(f"{flower.url}/sagas", timeout=60)
        token = {"_xsrf": session.cookies["_xsrf"]}
        for form, headers in (
            (SIGNED, {}),  # no token: Flower itself asks for none with such a login
            (SIGNED | {"_xsrf": "guessed"}, {}),
            (SIGNED | token, {"Origin": "https://elsewhere.example"}),
            (SIGNED | token, {"Sec-Fetch-Site": "cross-site"}),
        ):
            answer = session.post(address, data=form, headers=headers, timeout=60)
            assert answer.status_code == 403
        assert session.get(address, params=SIGNED | token, timeout=60).status_code == 200, "shows the case"
    assert dump(db) == before
    assert flower.post(f"/sagas/review/{case_of(app_engine, in_doubt)}/abandon", **SIGNED).status_code == 303


def test_hostile_text_is_shown_as_it_is(flower, app_engine, clean):
    assert HOSTILE not in flower.get("/sagas", params={"q": HOSTILE}).text
    change(
        app_engine,
        "INSERT INTO sagas (id, name, version, definition, state, input, ended_at, error)"
        " VALUES (gen_random_uuid(), :name, 1, '', 'manual_review_required', '{}', NULL,"
        " jsonb_build_object('step', CAST(:name AS text), 'class', CAST(:name AS text)))",
        name=HOSTILE,
    )
    change(
        app_engine,
        "INSERT INTO review_cases (saga_id, step, reason, evidence, look_at, alert_at)"
        " SELECT id, :name, :name, '{}', saga_now(), saga_now() FROM sagas",
        name=HOSTILE,
    )
    change(
        app_engine,
        "INSERT INTO saga_events (saga_id, event, step, detail)"
        " SELECT id, :name, :name, jsonb_build_object(CAST(:name AS text), CAST(:name AS text)) FROM sagas",
        name=HOSTILE,
    )
    change(
        app_engine,
        "INSERT INTO saga_steps (saga_id, name, position, stage, external, state, output)"
        " SELECT id, :name, 0, 0, false, 'done', '{}' FROM sagas",
        name=HOSTILE,
    )
    listed = flower.get("/sagas").text
    (saga_id,) = set(re.findall(r"/sagas/([0-9a-f-]{36})", listed))
    pages = [
        listed,
        flower.get("/sagas/review").text,
        flower.get(f"/sagas/{saga_id}").text,
        flower.get("/sagas/review/1").text,
    ]
    for page in pages:
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
    for page in pages[2:]:
        assert "Result of &lt;script&gt;alert" in page


def test_what_reconciling_leaves_to_a_person_stands_below_the_queue_and_is_settled(flower, text_of, app_engine, clean):
    assert "Nothing: what differed is followed by sagas." in text_of(flower.get("/sagas/review"))
    number = left_to_a_person(app_engine)
    address = f"/sagas/findings/{number}"
    assert f'href="{address}"' in flower.get("/sagas/review").text
    assert "1 booking at Cal.com that no appointment has" in text_of(flower.get("/sagas/health"))
    shown = text_of(flower.get(address))
    assert re.search(r"Begins 2040-05-01 09:00.* Booking's uid u17 What to do see at Cal.com", shown)

    unsigned = flower.post(address, who="Ann", why=" ")
    assert (unsigned.status_code, 'id="sagas-back" href="/sagas/review"' in unsigned.text) == (400, True)
    done = flower.post(address, who="Ann", why="cancelled there")
    assert (done.status_code, done.headers["Location"]) == (303, "/sagas/review")
    late = flower.post(address, who="Bob", why="too")
    assert (late.status_code, f"finding {number} was settled by Ann" in late.text) == (400, True)
    assert flower.get("/sagas/findings/4711").status_code == 400
    assert address not in flower.get("/sagas/review").text


def test_health_says_what_is_late(flower, text_of, clean):
    shown = text_of(flower.get("/sagas/health"))
    assert "Unfinished 0" in shown
    assert "recover never, late" in shown
    assert "no quota slows them down" in shown
    assert "Circuit of Cal.com closed" in shown


def test_a_saga_of_which_its_class_cannot_say_anything_takes_nothing_from_the_others(
    flower, text_of, app_engine, clean
):
    change(
        app_engine,
        "INSERT INTO sagas (id, name, version, definition, state, input, ended_at)"
        " VALUES (gen_random_uuid(), 'appointment_creation', 1, '', 'completed', '{}', saga_now())",
    )
    assert "appointment_creation completed completed" in text_of(flower.get("/sagas"))
    assert "No sagas." in text_of(flower.get("/sagas?told=confirmed"))


def test_a_name_other_than_the_logins_goes_on_record_with_the_login(flower, app_engine, in_doubt):
    number = case_of(app_engine, in_doubt)
    flower.post(f"/sagas/review/{number}/abandon", who="Bob", why="to see")
    with pytest.raises(CaseClosed, match=r"was settled by Bob \(logged in as ann\) at"):
        app_engine.review.open(number)


def test_of_a_long_history_the_latest_is_shown(flower, text_of, app_engine, booking, impatient, clean):
    handle = record(AppointmentCreationSaga, booking())
    many = """
        INSERT INTO saga_events (saga_id, event, step, attempt)
        SELECT CAST(:id AS uuid), event, 'book_calcom', 1
        FROM generate_series(1, 1000) n, unnest(ARRAY['step_executing', 'step_retry']) WITH ORDINALITY e (event, o)
        ORDER BY n, o
    """
    change(app_engine, many, id=handle.id)
    page = flower.get(f"/sagas/{handle.id}")
    assert "1501 before these; on a server: sagajobs sagas show" in text_of(page)
    assert (page.text.count(">step_<wbr>retry"), page.text.count('<span class="sagas-bar')) == (250, looking.SHOWN_BARS)
    app_engine.drive(AppointmentCreationSaga, handle.id)


def test_a_saga_that_is_purged_while_its_page_is_made_is_one_line(app_engine, booking, impatient, clean):
    """Between two queries of one page, so by the queries themselves."""
    handle = record(AppointmentCreationSaga, booking())
    with app_engine.database.reading() as connection:
        full = queries.full_id(connection, handle.id[:8])
        change(app_engine, "DELETE FROM sagas")
        with pytest.raises(SagaNotFound, match=f"there is no saga {full} in this database"):
            saga_document(connection, app_engine, full, private=False)


def test_a_server_that_does_not_answer_at_all_is_one_line():
    thawed = threading.Event()

    async def ask(*, acts: bool) -> pages.Answer:
        request = pages.Request("list", (), {}, acts=acts, user="ann", refusal=None, workers=0)
        return await pages.in_time(request, lambda _: pages.Answer(str(thawed.wait(60))), patience=0.05)

    for acts in (False, True):
        answer = asyncio.run(ask(acts=acts))
        assert (answer.status, "no answer within 0.05 s" in answer.values["line"]) == (503, True)
        assert ("may be done all the same" in answer.values["line"]) is acts
    thawed.set()
