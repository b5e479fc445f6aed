"""What the documents say is true: each test that they name exists, each of the seed's public names, each sweep."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sagajobs
from sagajobs.monitoring.sentry import monitor_of
from sagajobs.root import engine

HERE = Path(__file__).parent
SCENARIOS = ("test_creation.py", "test_sync.py", "test_composite.py")
ONLY_COMPOSITE = {"test_all_or_nothing"}


def _functions(path: Path) -> set[str]:
    return set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def _named() -> list[tuple[str, str]]:
    seed = (HERE.parent / "docs" / "seed.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", seed)))


@pytest.mark.parametrize(("file", "function"), [one for one in _named() if one[0] != "test_docs.py"])
def test_a_test_that_is_named_as_proof_exists(file, function):
    path = HERE / file
    assert path.is_file()
    assert not function or function in _functions(path)


@pytest.mark.parametrize("file", SCENARIOS)
def test_each_scenario_of_the_seed_has_its_test(file):
    seed = (HERE.parent / "docs" / "seed.md").read_text(encoding="utf-8")
    scenarios = set(re.findall(r"^\| [^|]+ \| `(test_\w+)` \|$", seed, re.MULTILINE))
    assert len(scenarios) == 7
    wanted = scenarios - (ONLY_COMPOSITE if file == "test_sync.py" else set())
    assert wanted <= _functions(HERE / "scenarios" / file)


SERVICES = {
    "SagaOrchestrator": ("execute_step", "execute_optional_step", "compensate", "complete"),
    "CalcomCompensationService": (
        "cancel_calcom_booking",
        "cancel_composite_bookings",
        "restore_booking_metadata",
    ),
    "DatabaseCompensationService": (
        "delete_appointment",
        "revert_appointment_status",
        "delete_composite_appointment",
        "invalidate_cache",
    ),
    "AppointmentCreationSaga": ("run", "enqueue", "create_customer", "create_appointment", "assign_staff"),
    "AppointmentSyncSaga": ("run", "enqueue", "lock_appointment", "call_calcom", "update_local", "invalidate_cache"),
    "CompositeBookingSaga": ("run", "enqueue"),
}
"""The seed's services, and what each of them does."""

FACADES = ("create_appointment", "sync_appointment_to_calcom", "book_composite")


@pytest.mark.parametrize("name", [*SERVICES, "SagaException", "SagaCompensationException", *FACADES])
def test_each_name_of_the_seed_is_public(name):
    seed = (HERE.parent / "docs" / "seed.md").read_text(encoding="utf-8")
    assert f"`{name}" in seed
    assert name in sagajobs.__all__
    public = getattr(sagajobs, name)
    assert [method for method in SERVICES.get(name, ()) if not hasattr(public, method)] == []


def test_each_sweep_is_told_with_its_monitor():
    monitoring, operating = ((HERE.parent / "docs" / f"{page}.md").read_text() for page in ("monitoring", "operating"))
    of_sentry = monitoring.partition("## Sentry")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`(sagajobs-\w+)`", of_sentry)) == sorted(map(monitor_of, engine.sweeps.values()))
    table = operating.partition("## Sweeps")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(engine.sweeps)
