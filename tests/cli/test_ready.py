"""`ready`, as a health check asks it; of a real worker see tests/deploy/test_health.py."""

from __future__ import annotations

import re

AWAY = "://someone:hunter2@127.0.0.1:9/0"


def test_what_is_away_is_one_line(shell, one_line):
    for name, scheme in (("DATABASE_URL", "postgresql"), ("BROKER_URL", "redis"), ("REDIS_URL", "redis")):
        variable = f"SAGAJOBS_{name}"
        done = shell.with_env(**{variable: f"{scheme}{AWAY}"}).sagajobs("ready")
        one_line(done, variable, "127.0.0.1:9")
        assert "hunter2" not in done.out + done.err


def test_tables_and_sweeps(shell, database, sql, one_line):
    there = shell.with_env(SAGAJOBS_DATABASE_URL=database)
    one_line(there.sagajobs("ready"), "no tables", "sagajobs db upgrade")
    there.sagajobs("db", "upgrade")
    done = there.sagajobs("ready")
    assert done.status == 0
    assert re.fullmatch(r"ready: PostgreSQL \S+, broker Valkey \S+, Valkey \S+\n", done.out)

    one_line(there.sagajobs("ready", "--beat"), "the sweep recover", "has not run yet; does beat run")
    there.sagajobs("sweep")
    assert there.sagajobs("ready", "--beat").status == 0
    sql("UPDATE sweeps SET ran_at = saga_now() - interval '93 s'", database)
    late = there.sagajobs("ready", "--beat")
    one_line(late, "the sweep recover", "does beat run")
    assert re.search(r"last ran (1 min \d+ s|[2-9] min( \d+ s)?) ago", late.err)
    assert there.sagajobs("ready").status == 0
