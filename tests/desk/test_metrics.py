"""What Prometheus is told: from real sagas, in its own format, each metric documented, and nothing about customers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sagajobs import AppointmentCreationSaga
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.quota import Quota
from sagajobs.calcom.shared import Shared
from sagajobs.desk.metrics import REASONS, exposition, read
from sagajobs.errors import SagaException
from sagajobs.saga.sweeps import run
from sagajobs.saga.totals import add_up
from sagajobs.testing.broker import HandBroker
from tests.support import promtool
from tests.support.creating import saga
from tests.support.tables import change

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "sagajobs.json"


@pytest.fixture
def scrape(app_engine, monkeypatch):
    """Return what is told now, by name and labels."""
    from sagajobs.root import servers

    monkeypatch.setattr(app_engine, "publisher", HandBroker(app_engine))
    shared = Shared(lambda: servers().redis, "a key of these tests")

    def tell(**parts) -> dict[tuple, float]:
        kept = {
            "circuit": Circuit(shared, failures=3, reset=30, longest_call=1),
            "quota": Quota(shared, 120, delay=0.5),
            **parts,
        }
        told = exposition(read(app_engine, **kept), workers=2).decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items(), key=_saga_first))): sample.value
            for family in text_string_to_metric_families(told)
            for sample in family.samples
        }

    return tell


def _saga_first(label: tuple[str, str]) -> bool:
    return label[0] != "saga"


def names(told) -> set[str]:
    """Return the metrics' names, a histogram's without what makes it three."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name, *_ in told}


def test_bookings_are_told_of_by_kind_and_nobody_is_named(
    app_engine, db, booking, simulator, scrape, impatient_creation
):
    for sweep in app_engine.sweeps.values():
        run(app_engine, sweep)
    before = scrape()
    assert {value for (name, *_), value in before.items() if name.endswith(("_total", "_count", "_sum"))} == {0.0}
    AppointmentCreationSaga.run(booking(notes="Secret note"))
    simulator.fault("create", "http_503", "before", count=1)
    AppointmentCreationSaga.run(booking())
    taken = booking()
    AppointmentCreationSaga.run(taken)
    with pytest.raises(SagaException):
        AppointmentCreationSaga.run(taken | {"customer": taken["customer"] | {"email": "other@secret.example"}})
    told = scrape()
    kind = "appointment_creation"
    rose = {key: value - before[key] for key, value in told.items() if key[0].endswith(("_total", "_count"))}
    assert {key: value for key, value in rose.items() if value} == {
        ("saga_execution_time_ms_count", kind, "completed"): 3,
        ("saga_execution_time_ms_count", kind, "compensated"): 1,
        ("saga_compensation_time_ms_count", kind): 1,
        ("saga_lock_wait_ms_count", kind): 4,
        ("saga_failed_sagas_total", kind): 1,
        ("saga_compensated_sagas_total", kind): 1,
        ("saga_retry_attempts_total", kind, "step"): 1,
    }
    buckets = [value for key, value in told.items() if key[:3] == ("saga_execution_time_ms_bucket", kind, "completed")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 3
    assert told["saga_execution_time_ms_sum", kind, "completed"] > 0
    assert (told["saga_workers",], told["saga_database_up",], told["saga_redis_up",]) == (2, 1, 1)
    private = ("Private", "secret.example", "Secret note", saga(db).id)
    assert not [key for key in told for word in private if word in str(key)]
    add_up(app_engine.database)
    counted = {key: value for key, value in told.items() if key[0].endswith(("_total", "_count", "_sum", "_bucket"))}
    later = scrape()
    assert {key: pytest.approx(later[key]) for key in counted} == counted


def test_what_is_unfinished_is_told_by_kind_and_state(app_engine, db, scrape):
    change(
        app_engine,
        "INSERT INTO sagas (id, name, version, definition, kind, state, input, next_at, hints, created_at) SELECT "
        "gen_random_uuid(), v.*, '{}', saga_now() - interval '2 min', 3, saga_now() - interval '1 h' FROM (VALUES "
        "('one', 1, 'd', 'declared', 'running'), ('one', 1, 'd', 'declared', 'pending'), "
        "('a caller''s own', 1, 'orchestrated', 'orchestrated', 'running')) v",
    )
    change(
        app_engine,
        "WITH g AS (INSERT INTO sagas (id, name, version, definition, state, input) SELECT gen_random_uuid(), 'one', "
        "1, 'd', 'manual_review_required', '{}' FROM generate_series(1, 2) RETURNING id) "
        "INSERT INTO review_cases (saga_id, reason, evidence, urgent_at) "
        "SELECT id, 'about ' || id, '{}', saga_now() + interval '59 min' FROM g",
    )
    change(app_engine, "INSERT INTO saga_locks (resource, saga_id, held) SELECT 'a', id, false FROM sagas LIMIT 1")
    told = scrape()
    assert {key[1:]: value for key, value in told.items() if key[0] == "saga_backlog" and value} == {
        ("one", "running"): 1,
        ("one", "pending"): 1,
        ("one", "manual_review_required"): 2,
        ("orchestrated", "running"): 1,
    }
    # An undo that failed waits for its time, so that hints at its saga come to nothing: it was taken up all the same.
    change(
        app_engine,
        "WITH g AS (INSERT INTO sagas (id, name, version, definition, state, input, next_at, hints) SELECT "
        "gen_random_uuid(), 'one', 1, 'd', 'compensating', '{}', saga_now(), 4 RETURNING id) "
        "INSERT INTO saga_steps (saga_id, name, position, stage, external, state, due_at) "
        "SELECT id, 'a', 0, 0, true, 'undoing', saga_now() + interval '1 min' FROM g",
    )
    told = scrape()
    for name, ours in (("saga_overdue", 2), ("saga_unanswered", 2), ("saga_review_urgent_cases", 2)):
        assert (told[name, "one"], told[name, "appointment_sync"]) == (ours, 0), name
    assert told["saga_oldest_unfinished_seconds", "one"] >= 3600
    assert told["saga_review_cases", "one", "other"] == 2, "a reason that the engine does not give is no label"
    assert told["saga_lock_waiting",] == 1
    assert told["saga_sweep_age_seconds", "recover"] == float("inf")
    change(app_engine, "DELETE FROM sagas")


def test_what_is_not_kept_or_not_known_is_not_told(clean, scrape):
    without = names(scrape(circuit=None, quota=None))
    assert not without & {"saga_redis_up", "saga_calcom_circuit", "saga_calcom_quota_left", "saga_calcom_drain_seconds"}
    away = Shared(lambda: "redis://127.0.0.1:1/0", "a key")
    told = scrape(circuit=Circuit(away, failures=3, reset=30, longest_call=1), quota=None)
    assert (told["saga_redis_up",], "saga_calcom_circuit" in names(told)) == (0, False)


def test_each_reason_is_one_that_the_engine_gives():
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "sagajobs" / "saga").rglob("*.py"))
    assert [reason for reason in REASONS if f'"{reason}"' not in sources] == []


def test_documents_rules_and_dashboard_name_what_is_told(app_engine, clean, scrape, tmp_path):
    for sweep in app_engine.sweeps.values():
        run(app_engine, sweep)
    told = names(scrape())
    documented = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(told | {"saga_review_cases"})

    rules = RULES.read_text(encoding="utf-8")
    recorded = set(re.findall(r"record: (\S+)$", rules, re.MULTILINE))
    panels = [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if "targets" in panel]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    assert asked
    used = set(re.findall(r"\bsaga[_:][\w:]+", " ".join([*asked, *re.findall(r"expr: (.*)", rules)])))
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} - recorded <= told | {"saga_review_cases"}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"\bsaga[_:][\w:]+", " ".join(asked))}
    assert told - shown - {"saga_sweep_interval_seconds"} == set(), "each metric has its panel"

    expressions = [{"record": f"panel:{n}", "expr": _whole(expr)} for n, expr in enumerate(asked)]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": expressions}]}))
    done = promtool.run("check", "rules", file, RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    done = promtool.run("test", "rules", RULES.with_name("alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_its_page_in_the_runbook():
    rules = RULES.read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)$", rules, re.MULTILINE)
    page = "{{ with $externalLabels.sagajobs_runbook }}{{ . }}{{ else }}docs/runbook.md{{ end }}"
    assert re.findall(r"runbook_url: '(.*)'$", rules, re.MULTILINE) == [f"{page}#{alert.lower()}" for alert in alerts]
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (Saga\w+)$", runbook, re.MULTILINE)) == set(alerts)
    assert set(re.findall(r"^severity: (\w+)|severity: (\w+)", rules)) >= {("", "critical"), ("", "warning")}


def _whole(expression: str) -> str:
    """Return a panel's expression with what Grafana puts into it."""
    return expression.replace("$__rate_interval", "5m").replace("$saga", ".*")
