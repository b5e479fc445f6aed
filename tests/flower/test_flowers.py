"""Other Flowers: without a login, below a prefix, without a database, of another project, of another version."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from inspect import iscoroutinefunction
from pathlib import Path

import requests
import sqlalchemy
from sqlalchemy import text

from sagajobs import AppointmentCreationSaga
from sagajobs.testing.waiting import wait_for
from tests.support.flowers import NOWHERE, known_servers
from tests.support.tables import dump


def test_without_a_login_nothing_is_changed_and_a_prefix_is_kept(start_flower, app_engine, text_of, in_doubt, db):
    flower = start_flower("--url-prefix=ops", auth=None)
    for path in ("/sagas", "/sagas/review", "/sagas/health"):
        page = flower.get(path)
        assert "no login, so nothing can be changed here" in text_of(page)
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
        assert all(link.startswith("/ops/") for link in links if "/static/" not in link), links
    number = app_engine.review.of(in_doubt.id).number
    case = flower.get(f"/sagas/review/{number}").text
    assert "<form" not in case
    before = dump(db)
    for address in (f"/sagas/review/{number}/abandon", f"/sagas/{in_doubt.id}/cancel"):
        answer = flower.post(address, who="Ann", why="because")
        assert answer.status_code == 403
        assert "no login" in answer.text
    assert dump(db) == before
    assert flower.get("/sagas/static/sagas.js").status_code == 200


def test_a_flower_that_only_reads_changes_nothing(start_flower, app_engine, in_doubt, db):
    flower = start_flower("--read-only")
    answer = flower.post(f"/sagas/review/{app_engine.review.of(in_doubt.id).number}/abandon", who="Ann", why="so")
    assert (answer.status_code, "--read-only" in answer.text) == (403, True)


def test_a_database_that_is_away_or_empty_is_one_line_and_flower_goes_on(start_flower, app_engine):
    from sagajobs.root import servers

    url = sqlalchemy.make_url(servers().database)
    name = f"empty{uuid.uuid4().hex[:8]}"
    admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    try:
        for database, line in (
            (url.set(database=name).render_as_string(hide_password=False), "run: sagajobs db upgrade"),
            (NOWHERE, "The database does not answer (OperationalError)"),
        ):
            flower = start_flower(SAGAJOBS_DATABASE_URL=database, **known_servers())
            for path in ("/sagas", "/sagas/health", "/sagas/12345678"):
                answer = flower.get(path)
                assert answer.status_code == 503
                assert line in answer.text
                assert "Traceback" not in answer.text
            assert flower.get("/workers").status_code == 200
            told = flower.get("/metrics")
            assert told.status_code == 200
            assert re.findall("^saga_.*", told.text, re.MULTILINE) == ["saga_database_up 0.0", "saga_workers 0.0"]
            assert "# TYPE flower_events_total counter" in told.text
    finally:
        with admin.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_the_names_of_flower_that_the_tab_stands_on():
    from flower import urls
    from flower.app import Flower
    from flower.views import BaseHandler
    from flower.views.error import NotFoundErrorHandler
    from flower.views.monitor import Metrics

    catch_all = urls.handlers[-1]
    assert iscoroutinefunction(Metrics.get)
    assert tuple(catch_all) == (r".*", NotFoundErrorHandler)
    assert isinstance(urls.settings, dict)
    assert callable(BaseHandler.check_xsrf_cookie)
    assert callable(Flower.start_http_server)
    templates = Path(urls.settings["template_path"])
    assert "</ul>" in (templates / "navbar.html").read_text()
    assert '{% module Template("navbar.html", active_tab=' in (templates / "base.html").read_text()
    assert {"navbar", "container", "extra_scripts"} <= set(
        re.findall(r"{% block (\w+) %}", (templates / "base.html").read_text())
    )


_OTHER = """
import sys
{change}
import sagajobs.plugin
import sagajobs.flower.install
sagajobs.flower.install.install()
from flower import urls
print([rule.name for rule in urls.handlers if getattr(rule, "name", None) and rule.name.startswith("sagas")])
"""


def _installed(change: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-c", _OTHER.format(change=change)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_installed_once_and_another_flower_goes_without():
    assert _installed("").stdout.count("'sagas_health'") == 1
    changed = _installed("from flower import urls; urls.handlers = ()")
    assert changed.stdout == "[]\n"
    assert "Flower goes without its Sagas tab" in changed.stderr


_OTHERS = """
from celery import Celery
app = Celery("other", broker="memory://")
"""


def test_the_flower_of_another_project_has_no_tab(start_flower, tmp_path):
    (tmp_path / "other.py").write_text(_OTHERS)
    flower = start_flower(app="other", PYTHONPATH=str(tmp_path))
    for path in ("/workers", "/tasks"):
        page = flower.get(path)
        assert page.status_code == 200
        assert "Sagas" not in page.text
    for path in ("/sagas", "/sagas/health", "/sagas/12345678"):
        assert flower.get(path).status_code == 404
    told = flower.get("/metrics")
    assert (told.status_code, "flower_events" in told.text, "saga_" in told.text) == (200, True, False)


def test_a_database_that_hangs_or_comes_back_holds_up_nobody(start_flower, app_engine, clean):
    database = app_engine.database
    before = _connections(database)
    flower = start_flower()
    assert flower.get("/sagas").status_code == 200
    theirs = _connections(database) - before
    assert theirs
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM unnest(:pids) pid"), {"pids": list(theirs)})
    assert flower.get("/sagas").status_code == 200, "asked once more, on a new connection"

    with database.transaction() as connection, ThreadPoolExecutor(8) as pool:
        connection.execute(text("LOCK TABLE sagas IN ACCESS EXCLUSIVE MODE"))

        def overtaken() -> bool:
            waiting = [pool.submit(flower.get, "/sagas") for _ in range(4)]
            wait_for(lambda: _blocked() >= 4 or all(answer.done() for answer in waiting))
            scraped.extend(pool.submit(flower.get, "/metrics") for _ in range(2))
            assert flower.get("/workers").ok
            held = not any(answer.done() for answer in waiting)
            for answer in waiting:
                assert answer.result().status_code == 503
                assert "The database took longer than 5 s to answer." in answer.result().text
            return held

        scraped: list[Future] = []
        wait_for(overtaken, 5)  # at once, unless all stands still for the five seconds
        for told in scraped:
            assert told.result().status_code == 200
            assert "saga_database_up 0.0" in told.result().text.splitlines()
    assert flower.get("/sagas").status_code == 200
    # Whoever asks while a scrape is under way gets that one's answer, here one that waited for the lock.
    wait_for(lambda: "saga_database_up 1.0" in flower.get("/metrics").text.splitlines())


def _connections(database) -> set[int]:
    with database.reading() as connection:
        mine = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        return set(connection.scalars(text(mine)))


def _blocked() -> int:
    from sagajobs.root import database

    with database.reading() as connection:
        return connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"))


def test_the_celery_tasks_that_flower_has_seen_are_linked(start_flower, app_engine, booking, clean):
    from sagajobs.root import app

    flower = start_flower()
    AppointmentCreationSaga.run(booking())
    saga_id = re.search(r"/sagas/([0-9a-f-]{36})", flower.get("/sagas").text)[1]
    task_id = str(uuid.uuid4())

    def linked() -> bool:
        with app.events.default_dispatcher() as tell:
            name, arguments = "appointment_creation.book_calcom", repr({"saga_id": saga_id})
            tell.send("task-received", uuid=task_id, name=name, args="()", kwargs=arguments)
        return f'href="/task/{task_id}"' in flower.get(f"/sagas/{saga_id}").text

    wait_for(linked)
    assert flower.get(f"/task/{task_id}").status_code == 200


def test_a_flower_that_checks_no_forms_has_nothing_done_for_other_sites_either(start_flower, tmp_path, in_doubt, db):
    conf = tmp_path / "flowerconfig.py"
    conf.write_text("from flower import urls\nurls.settings.pop('xsrf_cookies')\n")  # as before 2.2
    address = f"/sagas/{in_doubt.id}/cancel"
    before = dump(db)
    flower, open_to_all = start_flower(f"--conf={conf}"), start_flower(f"--conf={conf}", auth=None)
    forged = requests.post(flower.url + address, data={"who": "x", "why": "y"}, auth=flower.auth, timeout=60)
    assert forged.status_code == 403
    answer = open_to_all.post(address, who="x", why="y")
    assert (answer.status_code, "no login" in answer.text) == (403, True)
    assert dump(db) == before
