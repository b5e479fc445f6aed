"""The small commands, and how errors are told."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import requests
from celery import Celery
from sqlalchemy import text

from sagajobs.saga.sweeps import Sweep
from sagajobs.testing.simulator import Simulator
from tests.cli.inprocess import sagajobs
from tests.support.ownredis import OwnRedis


def test_version(shell):
    assert re.fullmatch(r"sagajobs, version \d+\.\d+\.\d+\n", shell.sagajobs("--version").out)


def test_an_unknown_command_is_a_usage_error(shell):
    done = shell.sagajobs("sgas")
    assert done.status == 2
    assert "No such command 'sgas'" in done.err


def test_a_wrong_setting_is_one_line_without_its_value(shell, one_line):
    commands = [["settings"], ["sagas", "list"], ["db", "current"], ["sweep"], ["up"], ["demo"]]
    for done in shell.with_env(SAGAJOBS_STALL_AFTER="hunter2").at_once(*commands):
        one_line(done, "SAGAJOBS_STALL_AFTER")
        assert "hunter2" not in done.err


def test_a_server_that_is_not_there_is_one_line(shell, one_line):
    there = shell.with_env(
        SAGAJOBS_DATABASE_URL="postgresql://someone:hunter2@127.0.0.1:9/nothing",
        SAGAJOBS_CALCOM_URL="http://127.0.0.1:9",
        SAGAJOBS_CALCOM_API_KEY="k",
    )
    for done in there.at_once(["sagas", "list"], ["invariants"], ["db", "upgrade"], ["sweep"], ["up"]):
        one_line(done, "SAGAJOBS_DATABASE_URL", "127.0.0.1:9")
        assert "hunter2" not in done.err


def test_a_sweep_needs_its_broker(shell, one_line):
    there = shell.with_env(SAGAJOBS_BROKER_URL="redis://127.0.0.1:9/0")
    one_line(there.sagajobs("sweep"), "SAGAJOBS_BROKER_URL")
    assert "the broker does not answer" in there.sagajobs("health").out


def test_a_broker_that_goes_away_while_health_asks_is_said_with_all_the_rest(nobody_told, monkeypatch, tmp_path):
    with OwnRedis(tmp_path) as broker, Celery(broker=broker.url.replace("unix://", "redis+socket://")) as app:
        app.control.ping(timeout=0.01)  # over a connection that is kept
        broker.kill()
        monkeypatch.setattr("sagajobs.cli.application.celery_app", lambda: app)
        done = sagajobs("health")
    assert (done.status, done.err) == (0, "")
    assert "the broker does not answer" in done.out
    assert re.search("^quota of Cal.com ", done.out, re.MULTILINE)


def test_settings_are_listed_without_secrets(shell):
    there = shell.with_env(
        SAGAJOBS_DATABASE_URL="postgresql://u:hunter2@h/d", SAGAJOBS_SENTRY_DSN="https://hunter2@s/1"
    )
    rows = {row["variable"]: row for row in there.sagajobs("settings", "--json").json}
    assert rows["SAGAJOBS_DATABASE_URL"]["source"] == "environment"
    assert rows["SAGAJOBS_HOME"]["value"] == str(shell.home)
    assert set(rows["SAGAJOBS_HOME"]) == {"variable", "value", "source", "meaning"}
    plain = there.sagajobs("settings")
    assert plain.status == 0
    assert "hunter2" not in plain.out + json.dumps(rows)
    assert [line.split()[0] for line in plain.out.splitlines()] == ["setting", *rows]
    assert "SAGAJOBS_STALL_AFTER" in there.in_terminal("settings")


def test_an_embedded_database_is_brought_up_to_date_on_the_way(shell, sql):
    assert shell.sagajobs("invariants").status == 0
    assert sql("SELECT count(*) FROM alembic_version")[0][0] == 1


def test_a_database_by_url_is_upgraded_when_somebody_says_so(shell, database, one_line):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    one_line(there.sagajobs("sagas", "list"), "no tables", "sagajobs db upgrade")
    assert "no tables" in there.sagajobs("db", "current").out
    first, second = there.sagajobs("db", "upgrade"), there.sagajobs("db", "upgrade")
    assert first.out.startswith("upgraded to ")
    assert second.out.startswith("already up to date: ")
    assert "up to date" in there.sagajobs("db", "current").out
    assert there.sagajobs("sagas", "list", "--json").json == []


def test_a_database_of_a_newer_version_is_one_line(shell, database, sql, one_line):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    there.sagajobs("db", "upgrade")
    sql("UPDATE alembic_version SET version_num = '9999'", database)
    one_line(there.sagajobs("db", "upgrade"), "9999")
    one_line(there.sagajobs("invariants"), "is at revision 9999")


def test_what_the_database_says_is_one_line(shell, database, sql, one_line):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    there.sagajobs("db", "upgrade")
    sql("DROP TABLE saga_steps", database)
    one_line(there.sagajobs("sagas", "list"), "the database failed", "saga_steps")


def test_invariants_that_hold(shell):
    done = shell.sagajobs("invariants", "--json")
    assert done.status == 0
    assert [(one["number"], one["rows"], one["examples"]) for one in done.json] == [(1, 0, []), (2, 0, []), (3, 0, [])]
    assert "no orphaned Cal.com bookings" in shell.sagajobs("invariants").out


def test_an_invariant_that_is_broken(shell, database, sql):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    there.sagajobs("db", "upgrade")
    sql("ALTER TABLE appointments DROP CONSTRAINT ck_appointments_no_orphaned_appointment", database)
    sql("INSERT INTO customers (name, email, time_zone) VALUES ('n', 'e@example.org', 'UTC')", database)
    sql(
        "INSERT INTO appointments (customer_id, event_type_id, starts_at, ends_at, status) "
        "SELECT id, 1, now(), now() + interval '1 hour', 'scheduled' FROM customers",
        database,
    )
    done = there.sagajobs("invariants", "--json")
    assert done.status == 2
    assert [one["rows"] for one in done.json] == [0, 1, 0]
    assert done.json[1]["examples"] == [1]
    plain = there.sagajobs("invariants")
    assert plain.status == 2
    assert re.search(r"^2 no orphaned local appointments +no +1 +1$", plain.out, re.MULTILINE)


def test_a_sweep_hints_at_what_stands_still(shell, sql):
    ((saga_id, _),) = shell.book("record", 20)
    sql("UPDATE sagas SET next_at = saga_now() - interval '1 s' WHERE id = CAST(:id AS uuid)", id=saga_id)
    there = shell.with_env(SAGAJOBS_STALL_AFTER="3600")  # it is hinted at once, however late the second sweep comes
    noted = there.sagajobs("sweep", "--json").json
    assert list(noted) == ["recover"]
    assert noted["recover"]["found"] == 1
    assert re.search(r"^recover +sagas hinted at: 0 +\S", there.sagajobs("sweep").out, re.MULTILINE)
    assert sql("SELECT hints FROM sagas WHERE id = CAST(:id AS uuid)", id=saga_id)[0][0] == 1
    sql("DELETE FROM sagas WHERE id = CAST(:id AS uuid)", id=saga_id)


def test_every_sweep_can_be_run_by_name(shell, sql):
    noted = shell.sagajobs("sweep", "--all", "--json").json
    assert set(noted) == {"recover", "review", "purge", "totals", "events", "invariants", "reconcile"}
    assert {name for (name,) in sql("SELECT name FROM sweeps")} == set(noted)
    done = shell.sagajobs("sweep", "invariants", "review", "review")
    assert [line.split()[0] for line in done.out.splitlines()] == ["sweep", "invariants", "review"]


def test_a_sweep_that_breaks_off_is_said_and_the_others_have_their_turn(shell, one_line):
    simulator = Simulator(shell.simulator)
    simulator.fault("list", "http_503", "before", count=1)
    done = shell.sagajobs("sweep", "reconcile", "invariants", "--json")
    simulator.heal()
    simulator.close()
    assert set(done.json) == {"invariants"}
    one_line(done, "reconcile broke off: GET /v2/bookings", "503")


def test_a_database_that_fails_in_a_sweep_leaves_the_others_their_turn(nobody_told, one_line):
    gone = text("SELECT pg_terminate_backend(pg_backend_pid())")

    def lose(engine, _cursor):
        with engine.database.reading() as connection:
            connection.execute(gone)

    def ask_nonsense(engine, _cursor):
        with engine.database.reading() as connection:
            connection.exec_driver_sql("SELECT * FROM there_is_none")

    theirs = [Sweep(name=f"{body.__name__}s", body=body, every=1.0, what="-") for body in (lose, ask_nonsense)]
    nobody_told.schedule(*theirs)
    try:
        done = sagajobs("sweep", "loses", "totals", "ask_nonsenses", "invariants", "--json")
    finally:
        for one in theirs:
            del nobody_told.sweeps[one.name]
    assert set(done.json) == {"totals", "invariants"}
    one_line(done, "loses broke off: the database failed: ", "; type it again when it is back; ")
    one_line(done, "; ask_nonsenses broke off: the database failed: relation ", '"there_is_none" does not exist\n')


def test_a_sweep_that_there_is_not_is_a_usage_error(shell):
    done = shell.sagajobs("sweep", "revue")
    assert done.status == 2
    assert (
        "there is no sweep 'revue': choose from recover, review, purge, totals, events, invariants, reconcile"
        in done.err
    )
    assert shell.sagajobs("sweep", "review", "--all").status == 2


def test_a_purge_counts_first_and_deletes_then(shell, sql):
    sql(
        "INSERT INTO sagas (id, name, version, definition, state, input, ended_at) "
        "SELECT gen_random_uuid(), 'old_kind', 1, '', 'completed', '{}', saga_now() - make_interval(days => n * 50) "
        "FROM generate_series(1, 3) n"
    )
    dry = shell.sagajobs("purge", "--dry-run", "--json").json
    assert dry == {
        "older_than_days": 90,
        "dry_run": True,
        "purged": [{"name": "old_kind", "state": "completed", "sagas": 2}],
    }
    assert "give your reason with --why" in shell.sagajobs("purge", "--older-than", "120").err
    done = shell.sagajobs("purge", "--older-than", "120", "--who", "Ann", "--why", "the disk is full")
    assert re.search(r"^old_kind +completed +1$", done.out, re.MULTILINE)
    assert done.out.endswith("1 saga that ended more than 120 days ago deleted\n")
    assert sql("SELECT count(*) FROM sagas WHERE name = 'old_kind'")[0][0] == 2
    record = sql("SELECT actor, detail FROM audit_log WHERE action = 'sagas.purged'")
    assert record == [("Ann", {"older_than_days": 120, "sagas": 1, "why": "the disk is full"})]
    keep = shell.with_env(SAGAJOBS_RETENTION_DAYS="0").sagajobs("purge")
    assert keep.status == 2
    assert "--older-than" in keep.err
    sql("DELETE FROM sagas WHERE name = 'old_kind'")
    sql("DELETE FROM audit_log WHERE action = 'sagas.purged'")


def test_the_simulator_runs_until_it_is_told_to_stop(shell):
    argv = [str(shell.program), "simulator", "--port", "0"]
    with subprocess.Popen(argv, env=shell.env, stdout=subprocess.PIPE, text=True) as simulator:
        url = re.match(r"sagajobs simulator listening on (http://127\.0\.0\.1:\d+) ", simulator.stdout.readline())[1]
        assert requests.get(f"{url}/_simulator/ledger", timeout=60).json() == {"bookings": []}
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(60) == 0


def test_a_port_that_is_taken_is_one_line(shell, one_line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(shell.sagajobs("simulator", "--port", str(port)), f"cannot listen on 127.0.0.1:{port}")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_as_if_nobody_were_there(shell, closed):
    done = shell.run("/bin/sh", "-c", f"exec {shell.program} settings {closed}")
    assert (done.status, done.err) == (0, "")


def test_a_full_disk_is_one_line(nobody_told, monkeypatch):
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("sagajobs.cli.output.click.echo", lambda line, **_: full.write(line.encode()))
        done = sagajobs("invariants", "--json")
    assert (done.status, done.err) == (1, "Error: what was to be shown cannot be written: No space left on device\n")
