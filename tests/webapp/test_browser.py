"""A customer at the web application, in a real browser: books, waits, moves, cancels, while things go wrong.

With SCREENSHOTS set to a folder it leaves pictures there, for the documentation (`make screenshots`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, Route, expect

from examples.webapp.app import create_app
from sagajobs.testing.waiting import wait_for
from tests.support.pages import PHONE, shot, sideways
from tests.webapp.conftest import SECRET, WebApp, ahead

PERSON = "Ada Private"

AWAY = 60
"""Calls that are not answered while Cal.com is away: more than come until it is back."""

pytestmark = pytest.mark.usefixtures("clean", "simulator", "worker")


class Customer:
    """Somebody at the page."""

    def __init__(self, page: Page, webapp: WebApp) -> None:
        self.page = page
        self.url = webapp.url

    def open(self, time: int = 0) -> None:
        """Go to the form and fill it in."""
        self.look()
        self.fill(time)

    def look(self, offer: int = 1) -> None:
        """Go to the form, and wait until its script has asked for the times in the browser's own zone."""
        self.page.goto(f"{self.url}/?offer={offer}&day={ahead()}")
        self.page.wait_for_url("**time_zone=**")

    def fill(self, time: int = 0) -> None:
        """Choose one of the times, and fill in the rest."""
        self.page.get_by_role("radio").nth(time).check()
        self.page.get_by_label("Name", exact=True).fill(PERSON)
        self.page.get_by_label("E-mail").fill("ada@secret.example")

    def book(self) -> None:
        self.page.get_by_role("button", name="Book").click()
        self.page.wait_for_url("**/appointments/*")

    def sees(self, word: str, message: str = "") -> None:
        expect(self.page.locator("#status")).to_have_text(word)
        expect(self.page.locator("#message")).to_contain_text(message)

    def booked(self, time: int = 0) -> str:
        """Book; return when."""
        self.open(time)
        self.book()
        self.sees("confirmed", "We look forward to seeing you.")
        return self.page.locator("#when").inner_text()


@pytest.fixture(scope="module")
def window(browser) -> Iterator[Callable[..., Page]]:
    """Open windows, which stay open for the module: a new one costs a browser more than all that is done in it."""
    contexts = []

    def window(**options) -> Page:
        contexts.append(browser.new_context(**{"timezone_id": "Europe/Berlin", **options}))
        contexts[-1].set_default_timeout(60_000)
        return contexts[-1].new_page()

    yield window
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def desk(window) -> Page:
    """A window of the usual kind."""
    return window()


@contextmanager
def visiting(page: Page, webapp: WebApp) -> Iterator[Customer]:
    """Be at a window; what goes wrong in it fails the test."""
    wrong = []
    page.on("pageerror", failed := lambda error: wrong.append(str(error)))
    page.on("console", said := lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield Customer(page, webapp)
    page.goto("about:blank")  # else it would go on asking
    page.remove_listener("pageerror", failed)
    page.remove_listener("console", said)
    assert wrong == []


@pytest.fixture
def customer(desk, webapp) -> Iterator[Customer]:
    """A customer at his desk."""
    with visiting(desk, webapp) as one:
        yield one


def test_book_move_cancel(customer, simulator):
    page = customer.page
    customer.open()
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")  # the browser's own
    shot(page, "webapp-book")
    customer.book()
    customer.sees("confirmed", "We look forward to seeing you.")
    (made,) = simulator.standing()
    assert made["attendees"][0]["name"] == PERSON
    before = page.locator("#when").inner_text()
    assert before.endswith("(Europe/Berlin)")
    shot(page, "webapp-appointment")

    page.get_by_role("link", name="Move").click()
    page.get_by_role("radio").last.check()
    page.get_by_role("button", name="Move it").click()
    customer.sees("confirmed", "You have moved it.")
    after = page.locator("#when").inner_text()
    assert after != before
    (moved,) = simulator.standing()
    assert moved["uid"] != made["uid"]

    page.get_by_text("Cancel", exact=True).click()
    page.get_by_role("button", name="Yes, cancel it").click()
    customer.sees("cancelled", "does not take place")
    assert simulator.standing() == []
    expect(page.get_by_role("link", name="Move")).to_be_hidden()


def test_a_double_click_books_once(customer, simulator, count):
    customer.open()
    customer.page.get_by_role("button", name="Book").dblclick()
    customer.sees("confirmed")
    assert (len(simulator.standing()), count("sagas")) == (1, 1)


def test_a_form_that_is_sent_many_times_books_once(visitor, simulator, count, webapp):
    form = visitor.form()
    with ThreadPoolExecutor(6) as threads:
        sent = list(threads.map(lambda _: visitor.post("/appointments", form), range(12)))
    assert {answer.status_code for answer in sent} == {303}
    (page,) = {answer.headers["Location"] for answer in sent}
    other = visitor.post("/appointments", form | {"name": "Somebody Else"})
    assert "This form was sent before, with other details." in other.text
    wait_for(lambda: visitor.get(f"{page}/status").json()["settled"])
    assert visitor.get(f"{page}/status").json()["status"] == "confirmed"

    # Of a change, too, only one is made.
    cancel = {"csrf_token": form["csrf_token"]}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: visitor.post(f"{page}/cancel", cancel), range(4)))
    wait_for(lambda: visitor.get(f"{page}/status").json()["status"] == "cancelled")
    assert simulator.standing() == []
    assert count("sagas") == 2
    said = webapp.log.read_text()
    assert page.rpartition("/")[2] not in said
    assert form["email"] not in said


def test_one_who_goes_back_and_sends_it_again_is_told_that_his_booking_stands(customer, simulator):
    page = customer.page
    customer.look(offer=8)  # several hosts, so that the time is still offered
    customer.fill()
    customer.book()
    customer.sees("confirmed")
    first = page.url
    page.go_back()
    customer.fill()
    customer.book()
    customer.sees("cancelled", "What you had booked before stands.")
    page.goto(first)
    customer.sees("confirmed")
    assert len(simulator.standing()) == 1


def test_while_the_calendar_is_away_it_is_confirming(customer, simulator):
    customer.open()
    simulator.fault("any", "http_503", count=AWAY)
    customer.book()
    customer.sees("confirming", "you need not wait here")
    expect(customer.page.get_by_role("link", name="Move")).to_be_hidden()
    simulator.heal()
    customer.sees("confirmed")
    assert len(simulator.standing()) == 1


def test_a_time_that_is_taken_meanwhile_is_said_in_words(customer, simulator):
    customer.open()
    start = customer.page.get_by_role("radio").first.get_attribute("value")
    taken = simulator.book(event_type_id=1, start=start)
    customer.book()
    customer.sees("cancelled", "somebody else was faster, and the time is taken by now. What you had")
    shown = customer.page.content()
    assert "SlotTaken" not in shown
    assert taken["uid"] not in shown

    # Likewise of a move: the appointment stands where it was.
    before = customer.booked(2)
    customer.page.get_by_role("link", name="Move").click()
    wanted = customer.page.get_by_role("radio").last
    simulator.book(event_type_id=1, start=wanted.get_attribute("value"))
    wanted.check()
    customer.page.get_by_role("button", name="Move it").click()
    customer.sees("confirmed", "could not be moved: somebody else was faster")
    assert customer.page.locator("#when").inner_text() == before


def test_what_the_host_does_comes_by_itself(customer, simulator, webapp):
    simulator.subscribe(f"{webapp.url}/webhooks/calcom", secret=SECRET)
    customer.booked()
    (booking,) = simulator.standing()
    simulator.host("cancel", booking["uid"])
    customer.sees("cancelled", "does not take place")


def test_behind_https_forms_are_taken(window, app_engine):
    # Flask-WTF wants to know there from which page a form comes, and only a browser tells what ours lets it say.
    page, shop = window(), create_app().test_client(use_cookies=False)
    posted = []

    def answer(route: Route) -> None:
        sent = route.request
        said = list(sent.all_headers().items())
        with shop.open(sent.url, method=sent.method, headers=said, data=sent.post_data_buffer) as got:
            if sent.method == "POST":
                posted.append(got.status_code)
            route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.data)

    page.route("https://shop.example/**", answer)
    page.goto(f"https://shop.example/?time_zone=Europe/Berlin&day={ahead()}")
    page.get_by_role("radio").first.check()
    page.get_by_label("Name", exact=True).fill("")  # refused: the form is taken, no saga begun
    page.locator("form[method=post]").evaluate("form => form.submit()")
    page.wait_for_url("**/appointments")
    assert posted == [422]


@pytest.fixture
def phone(window, webapp) -> Iterator[Customer]:
    """A customer with a phone, at night."""
    with visiting(window(viewport=PHONE, color_scheme="dark"), webapp) as one:
        yield one


def test_by_keyboard_alone_on_a_phone_in_the_dark(phone):
    customer, page = phone, phone.page
    customer.look()
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    assert not sideways(page)
    expect(page.get_by_role("button", name="Book")).to_be_in_viewport(ratio=1)
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", shade)[:3])) < 384
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show free times").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("radio").first).to_be_checked()
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type(PERSON)
    page.keyboard.press("Tab")
    page.keyboard.type("nobody")
    page.keyboard.press("Enter")
    assert page.get_by_label("E-mail").evaluate("field => !field.validity.valid")
    page.keyboard.type("@secret.example")
    page.keyboard.press("Enter")
    customer.sees("confirmed")
    assert not sideways(page)
    shot(page, "webapp-phone")
    page.get_by_role("link", name="Move").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Yes, cancel it")).to_be_focused()
    page.keyboard.press("Enter")
    customer.sees("cancelled")


@pytest.fixture
def plain(window, webapp) -> Iterator[Customer]:
    """A customer whose browser runs no scripts."""
    with visiting(window(java_script_enabled=False), webapp) as one:
        yield one


def test_without_scripts(plain, webapp):
    customer, page = plain, plain.page
    page.goto(webapp.url)
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    page.get_by_label("From").fill(ahead())
    page.get_by_role("button", name="Show free times").click()
    expect(page.get_by_text("Times are those of Asia/Tokyo.")).to_be_visible()
    page.get_by_role("radio").first.check()
    page.get_by_label("Name", exact=True).fill(PERSON)
    page.get_by_label("E-mail").fill("ada@secret.example")
    customer.book()
    customer.sees("confirmed")  # the page asks for itself again
    assert page.locator("#when").inner_text().endswith("(Asia/Tokyo)")
