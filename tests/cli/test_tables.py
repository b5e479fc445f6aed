"""Who makes the tables: of an embedded database whoever comes first, of one given by URL nobody but `db upgrade`."""

from __future__ import annotations

_TRY = """
from datetime import UTC, datetime, timedelta
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sagajobs import *
from sagajobs import create_appointment, find_appointment, sync_appointment_to_calcom
from sagajobs.root import engine, settings
request = {
    "customer": {"name": "A", "email": "a@example.org", "time_zone": "UTC"}, "event_type_id": 1,
    "start": (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0), "duration_minutes": 30}

class Mine(Saga):
    name = "mine"
    Input = type("Input", (BaseModel,), {})

    @step(irreversible=True)
    def first(self, db):
        db.execute(text("SELECT 1 FROM a_table_of_mine"))

engine.register(Mine)

def within_a_session_of_his_own():
    with Session(create_engine(settings().database_url.replace("postgresql:", "postgresql+psycopg2:"))) as session:
        Mine.enqueue({}, session=session)

for call in (lambda: Mine.run({}), lambda: Mine.enqueue({}), within_a_session_of_his_own,
             lambda: create_appointment(request), lambda: AppointmentCreationSaga.enqueue(request),
             lambda: sync_appointment_to_calcom(1, "cancel", {}), lambda: find_appointment(1),
             lambda: SagaHandle("00000000-0000-0000-0000-000000000000").status()):
    try:
        call()
        print("nothing")
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
"""

_FIRST = """
from sagajobs import SagaHandle
from sagajobs.root import engine
print(engine.review.cases())
"""

TOLD = "ConfigurationError the database has no tables of sagajobs yet; run: sagajobs db upgrade"


def test_a_database_by_url_without_tables_is_one_clear_error_in_python(shell, database):
    there = shell.with_env(
        SAGAJOBS_DATABASE_URL=database,
        SAGAJOBS_CALCOM_URL=shell.simulator,
        SAGAJOBS_CALCOM_API_KEY="cal_test_simulator",
    )
    done = there.run("python", "-W", "ignore", "-c", _TRY)
    assert done.out.splitlines() == [TOLD] * 8, done.err
    swept = there.run("python", "-c", "from sagajobs import app; app.tasks['saga.review']()")
    assert swept.status == 0
    assert "sweep review: the database has no tables of sagajobs yet; run: sagajobs db upgrade" in swept.err
    assert "Traceback" not in swept.err

    assert there.sagajobs("db", "upgrade").status == 0
    own = there.run("python", "-W", "ignore", "-c", _TRY).out.splitlines()
    assert own[0].startswith("SagaException saga mine"), "a missing table of the author's own is his step's failure"
    assert TOLD not in own


def test_an_embedded_database_gets_its_tables_from_whoever_comes_first(shell, make_home):
    there = shell.with_env(SAGAJOBS_HOME=str(make_home()))
    assert there.run("python", "-c", _FIRST).out == "[]\n"
