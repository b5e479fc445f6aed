"""A Flower that hears no worker: none is there, or the broker is away for it, or it waits before it connects again."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from sqlalchemy import event

from sagajobs.flower import pages
from sagajobs.testing.waiting import wait_for
from tests.support.flowers import known_servers
from tests.support.ownredis import OwnRedis

NONE = "no worker answers"

AWAY = "the broker does not answer here"


@pytest.fixture
def own_broker(tmp_path):
    """A broker that tests may stop."""
    with OwnRedis(tmp_path) as broker:
        yield broker


def test_health_tells_a_broker_that_is_away_from_workers_that_are(start_flower, app_engine, clean, text_of, own_broker):
    from sagajobs.root import servers

    known = known_servers() | {"SAGAJOBS_BROKER_URL": own_broker.url}
    flower = start_flower(SAGAJOBS_DATABASE_URL=servers().database, **known)

    def says(this: str, other: str, workers: str) -> bool:
        shown = text_of(flower.get("/sagas/health"))
        return this in shown and other not in shown and f"Workers {workers}" in shown

    wait_for(lambda: says(NONE, AWAY, "0"))
    own_broker.freeze()
    assert says(AWAY, NONE, "not known")
    own_broker.thaw()
    wait_for(lambda: says(NONE, AWAY, "0"))
    own_broker.kill()
    assert says(AWAY, NONE, "not known")
    assert flower.get("/sagas").status_code == HTTPStatus.OK
    own_broker.start()
    wait_for(lambda: says(NONE, AWAY, "0"))


@pytest.fixture
def patient_again(app_engine):
    """Pages made in this process leave it as they found it: with connections on which a statement may take its time."""
    yield
    pages.check_database.cache_clear()
    pages._impatient.cache_clear()
    event.remove(app_engine.database.engine, "connect", pages.limit)
    app_engine.database.engine.dispose()


def test_a_flower_that_hears_none_asks_them(worker, app_engine, clean, patient_again):
    heard_none = pages.Request("health", (), {}, acts=False, user="ann", refusal=None, workers=0)

    def answered() -> dict:
        values = pages.answer(heard_none).values
        return values if values["workers"] == "1" else {}

    values = wait_for(answered)  # within a second, which a machine that stands still may take for itself
    assert not values["nobody_works"]
    assert not [one for one in values["advice"] if "worker" in one.wrong or "broker" in one.wrong]
