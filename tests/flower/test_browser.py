"""A person at the tab, in a real browser: by mouse and keyboard, on a phone, in the dark, without scripts.

With SCREENSHOTS set to a folder it leaves pictures there, for the documentation (`make screenshots`).
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from sagajobs import AppointmentCreationSaga, AppointmentSyncSaga, SagaException
from tests.support.asked import ask, left_to_a_person
from tests.support.fixtures import NOTICED
from tests.support.pages import PHONE, shot, sideways, tabbed, unreadable
from tests.support.sagas import record
from tests.support.tables import change

LOGIN = {"username": "ann", "password": "a password"}

DESK = {"width": 1200, "height": 800}

REFRESHED = 5_000
"""Milliseconds after which a page asks for itself again."""

AWAY = ("503 (Service Unavailable)", "404 (Not Found)")
"""What a browser says of answers that are none of its pages."""


@pytest.fixture
def visit(browser, flower):
    """Open pages as somebody who has logged in; what goes wrong in one fails the test."""
    contexts, wrong = [], []

    def visit(path: str, **options) -> Page:
        context = browser.new_context(http_credentials=LOGIN, viewport=DESK, **options)
        context.set_default_timeout(NOTICED)
        contexts.append(context)
        page = context.new_page()
        page.clock.install()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(flower.url + path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [one for one in wrong if not any(answer in one for answer in AWAY)] == []


def some_sagas(booking) -> None:
    """Carry some out: booked, moved, cancelled, and undone as the slot was taken."""
    taken = booking()
    first, second = AppointmentCreationSaga.run(taken), AppointmentCreationSaga.run(booking())
    moved = taken["start"] + timedelta(days=1)
    AppointmentSyncSaga.run(first.id, "reschedule", {"start": moved})
    AppointmentSyncSaga.run(second.id, "cancel", {})
    AppointmentCreationSaga.run(booking())
    with pytest.raises(SagaException):
        AppointmentCreationSaga.run(taken | {"start": moved})


def test_from_the_tab_to_a_settled_case(visit, app_engine, booking, in_doubt):
    some_sagas(booking)
    page = visit("/workers")
    page.get_by_role("link", name="Sagas", exact=True).click()
    expect(page).to_have_title("Sagas · Flower")
    shot(page, "sagas")
    page.get_by_label("State").select_option("manual_review_required")
    page.get_by_role("button", name="Show").click()
    rows = page.locator("#sagas-list tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()
    track = page.get_by_role("img", name="book_calcom:")
    expect(track).to_be_visible()
    box = track.bounding_box()
    for bar in track.locator(".sagas-bar").all():
        drawn = bar.bounding_box()
        assert drawn["width"] >= 1
        assert box["x"] - 5 <= drawn["x"] <= box["x"] + box["width"] + 1
    page.get_by_role("link", name="Review queue").click()
    page.locator("#sagas-queue tbody a").first.click()
    retry = page.get_by_role("region", name="Retry")
    expect(retry).to_contain_text("it finds it now")
    shot(page, "case")
    expect(retry.get_by_label("Who")).to_have_value("ann")
    retry.get_by_role("button").click()
    for nothing in ("", "  "):
        retry.get_by_label("Why").fill(nothing)
        assert retry.get_by_label("Why").evaluate("field => !field.validity.valid"), "it asks for the reason first"
    retry.get_by_label("Why").fill("it stands at Cal.com")
    retry.get_by_label("Why").press("Enter")
    expect(page.locator("#sagas-state")).to_have_text("running")
    expect(page.locator("#act-cancel")).to_be_visible()
    # What follows comes by itself, and does not move the page.
    page.evaluate("window.scrollTo(0, 100)")
    app_engine.drive(AppointmentCreationSaga, in_doubt.id)
    page.clock.fast_forward(REFRESHED)
    expect(page.locator("#sagas-state")).to_have_text("completed")
    expect(page.locator("#act-cancel")).to_have_count(0)
    assert page.evaluate("window.scrollY") == 100
    expect(page.locator("#sagas-live")).to_have_text("live")


def test_by_keyboard_alone(visit, booking, clean):
    AppointmentCreationSaga.run(booking())
    page = visit("/sagas")
    page.get_by_label("Search").focus()
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    expect(page.locator("#sagas-list tbody tr")).to_have_count(1)
    button = page.get_by_role("link", name="Clear")
    button.focus()
    page.keyboard.press("Tab")
    row = page.locator("#sagas-list tbody a")
    expect(row).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(button).to_be_focused()
    for link in (button, row):
        assert link.evaluate("link => getComputedStyle(link).outlineStyle") != "none", "one sees where one is"
        page.keyboard.press("Tab")
    row.focus()
    chosen = row.get_attribute("id")
    old = row.element_handle()
    page.clock.fast_forward(REFRESHED)
    page.wait_for_function("link => !link.isConnected", arg=old)  # its age has changed, so it is another one
    assert page.evaluate("document.activeElement.id") == chosen
    page.keyboard.press("Enter")
    expect(page.locator("#sagas-state")).to_have_text("completed")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_by_day_and_by_night(visit, app_engine, in_doubt, scheme):
    number = app_engine.review.of(in_doubt.id).number
    page = visit("/sagas", color_scheme=scheme)
    page.set_viewport_size(PHONE)
    found = left_to_a_person(app_engine)
    for path in (
        *("/sagas", f"/sagas/{in_doubt.id}", "/sagas/review", f"/sagas/review/{number}", f"/sagas/findings/{found}"),
        "/sagas/health",
    ):
        page.goto(page.url.partition("/sagas")[0] + path)
        assert not sideways(page), path
        shown = page.evaluate("getComputedStyle(document.querySelector('.detail-card')).backgroundColor")
        assert (sum(map(int, shown.strip("rgb()").split(","))) < 384) == (scheme == "dark"), path
        if path.endswith(in_doubt.id):
            doubted = page.locator("#sagas-steps tr").filter(has_text="book_calcom")
            expect(doubted).to_contain_text("CalcomOutcomeUnknown")
            for told in ("State", "Error"):
                expect(doubted.locator(f"[data-is={told}]")).to_be_visible()
        if scheme == "dark" and path.endswith(in_doubt.id):
            shot(page, "phone-saga")
    expect(page.locator(".sagas-wide").first).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_of_it_can_be_read_and_is_reached_by_keyboard(visit, app_engine, booking, in_doubt, scheme):
    some_sagas(booking)
    urgent = ask(app_engine, hours=0)
    waiting = record(AppointmentCreationSaga, booking())
    page = visit("/sagas", color_scheme=scheme)
    for path in (
        *("/sagas", f"/sagas/{waiting.id}", f"/sagas/{waiting.id}/cancel", f"/sagas/{in_doubt.id}", "/sagas/00000000"),
        *(
            "/sagas/review",
            f"/sagas/review/{urgent.case}",
            f"/sagas/findings/{left_to_a_person(app_engine)}",
            "/sagas/health",
        ),
    ):
        page.goto(page.url.partition("/sagas")[0] + path)
        assert unreadable(page) == [], path
        actions, reached, seen = tabbed(page)
        assert actions == reached == seen > 0, path
    change(app_engine, "DELETE FROM sagas")


def test_without_scripts(visit, booking, clean):
    AppointmentCreationSaga.run(booking())
    page = visit("/sagas", java_script_enabled=False)
    page.get_by_label("State").select_option("completed")
    page.get_by_role("button", name="Show").click()
    page.locator("#sagas-list tbody a").click()
    expect(page.locator("#sagas-state")).to_have_text("completed")


def test_a_flower_that_is_gone_is_told(visit, clean):
    page = visit("/sagas/health")
    expect(page.locator("#sagas-live")).to_have_text("live")
    page.route("**/sagas/health", lambda route: route.fulfill(status=503, body="away"))
    page.clock.fast_forward(REFRESHED)
    expect(page.locator("#sagas-live")).to_have_text("no answer; what is shown is old")
    page.unroute("**/sagas/health")
    page.clock.fast_forward(REFRESHED)
    expect(page.locator("#sagas-live")).to_have_text("live")
