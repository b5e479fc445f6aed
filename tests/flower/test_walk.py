"""Somebody new on duty meets five problems with nothing but Flower, and goes by what its pages say.

He opens the tab, and from there follows links and presses buttons, found by their names.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from sagajobs.testing.waiting import wait_for
from tests.support.fixtures import NOTICED
from tests.support.pages import shot

LOGIN = {"username": "ann", "password": "a password"}

REFRESHED = 5_000
"""Milliseconds after which a page asks for itself again."""


class Duty:
    """A person at the pages."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url + "/workers")
        self.follow("Sagas")

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def health(self) -> None:
        self.follow("Health")

    def told(self, words: str) -> None:
        expect(self.page.get_by_role("region", name="What is wrong")).to_contain_text(words)

    def open_case(self, reason: str) -> None:
        """Go from Health, by what it says is to be done, to the queue, and open the one case in it."""
        self.follow("Flower's review queue")
        row = self.page.get_by_role("row").filter(has_text=reason)
        expect(row).to_have_count(1)
        row.get_by_role("link").first.click()
        expect(self.page.get_by_role("heading", name=reason)).to_be_visible()

    def settle(self, remedy: str, *would: str) -> None:
        """Read what a remedy would do, and have it done."""
        region = self.page.get_by_role("region", name=remedy, exact=True)
        for words in would:
            expect(region).to_contain_text(words)
        region.get_by_label("Why").fill("seen to it")
        region.get_by_role("button", name=remedy).click()

    def sees(self, state: str) -> None:
        """See the saga in a state, without doing anything for it."""
        self.page.clock.fast_forward(REFRESHED)
        expect(self.page.get_by_role("definition").filter(has_text=state).first).to_be_visible()

    def sees_tasks(self) -> bool:
        """Whether the saga's page has Celery tasks by now."""
        self.page.clock.fast_forward(REFRESHED)
        return self.page.locator("#sagas-tasks a").count() > 0


@pytest.fixture
def duty(browser, flower, problems):
    """Make somebody who opens the tab when something has gone wrong."""
    contexts = []

    def come() -> Duty:
        context = browser.new_context(http_credentials=LOGIN, viewport={"width": 1200, "height": 900})
        context.set_default_timeout(NOTICED)
        contexts.append(context)
        page = context.new_page()
        page.clock.install()
        problems.all_swept()
        return Duty(page, flower.url)

    yield come
    for context in contexts:
        context.close()


def calm(duty: Duty, problems) -> None:
    """Assert that Health has nothing left to say, but that this test's process is no worker."""
    problems.all_swept()
    duty.health()
    advice = duty.page.get_by_role("region", name="What is wrong")
    expect(advice).to_be_visible()
    # A worker that was too busy to answer is told, too, until the page asks again.
    wait_for(lambda: _left(advice.inner_text()) in ([], ["All is well."]), what="a Health without advice")
    expect(duty.page.locator("#health-cases")).to_have_text("0")


def _left(advice: str) -> list[str]:
    return [line for line in advice.splitlines() if line and not line.startswith("no worker answers")]


def test_a_compensation_that_failed(duty, problems):
    handle = problems.failed_compensation()
    ann = duty()
    ann.health()
    ann.told("1 case waits for a person")
    ann.open_case("an undo failed")
    problems.calcom_is_well()
    ann.settle("Retry", "undo_failed", "POST /v2/bookings/")
    ann.sees("compensating")
    shown = ann.page.content()
    assert "ValueError" in shown
    assert "required, and fails" not in shown, "what an error says may quote a customer"
    problems.go_on(handle)
    ann.sees("compensated")
    undone = ann.page.get_by_role("row", name="book_calcom undone")
    expect(undone).to_contain_text("1 since retry")
    expect(undone).not_to_contain_text("Error")
    assert problems.simulator.standing() == []
    calm(ann, problems)


def test_attempts_that_are_used_up(duty, problems):
    handle = problems.tried_in_vain()
    ann = duty()
    ann.health()
    ann.told("1 case waits for a person")
    ann.open_case("tried again in vain")
    problems.calcom_is_well()
    ann.settle("Retry", "failed", "waiting", "PATCH /v2/bookings/")
    ann.sees("running")
    problems.go_on(handle)
    ann.sees("completed")
    calm(ann, problems)


def test_the_only_worker_is_dead(duty, problems):
    handle = problems.dead_worker()
    ann = duty()
    ann.health()
    ann.told("no worker answers: start one: celery -A sagajobs worker")
    ann.page.locator("#health-oldest").click()
    expect(ann.page.get_by_text("its worker is gone").first).to_be_visible()
    problems.start_worker()
    assert handle.wait(90) == "completed"
    ann.sees("completed")
    wait_for(ann.sees_tasks)
    shot(ann.page, "saga")
    assert len(problems.simulator.standing()) == 1
    calm(ann, problems)
    shot(ann.page, "health")


def test_cal_com_is_away(duty, problems):
    handle = problems.circuit_open()
    ann = duty()
    ann.health()
    ann.told("Cal.com fails, and is left alone")
    ann.told("go on by themselves when it answers")
    expect(ann.page.locator("#health-drain")).to_contain_text("time to drain: not known, as they wait for Cal.com")
    ann.page.locator("#health-oldest").click()
    ann.sees("running")
    problems.calcom_is_well()
    problems.go_on(handle)
    ann.sees("completed")
    calm(ann, problems)


def test_a_host_has_cancelled_what_we_are_not_sure_of(duty, problems):
    handle = problems.changed_behind_our_back()
    ann = duty()
    ann.health()
    ann.told("1 case waits for a person")
    ann.open_case("nothing can tell whether it happened")
    ann.settle("Retry", "it was done, and is gone")
    problems.go_on(handle)
    ann.sees("compensated")
    calm(ann, problems)
