"""The migrations and the description of the tables say the same."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from sagajobs import migrations
from sagajobs.booking import schema as booking
from sagajobs.saga import schema as saga
from tests.support.totalling import ends

BY_INPUT = ("ix_sagas_calcom_booking_uid", "ix_sagas_appointment_id", "ix_audit_log_findings")
"""Indexes of the booking domain on the engine's tables."""


@pytest.mark.usefixtures("clean")
def test_the_migrated_tables_are_the_described_ones(app_engine):
    with app_engine.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert migrations.current(app_engine.database.engine) == migrations.head()
        unknown = {"alembic_version", "test_world", "test_local", "test_held"}
        found = [
            change
            for change in compare_metadata(context, [saga.metadata, booking.metadata])
            if not (change[0] == "remove_table" and change[1].name in unknown)
            and not (change[0] == "remove_index" and change[1].name in BY_INPUT)
        ]
        assert found == []
        checks = connection.execute(text("SELECT conname FROM pg_constraint WHERE contype IN ('c', 'x')"))
        named = {row.conname for row in checks}
    described = {
        constraint.name
        for metadata in (saga.metadata, booking.metadata)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if type(constraint).__name__ in ("CheckConstraint", "ExcludeConstraint")
    }
    assert described <= named


@pytest.mark.usefixtures("clean")
def test_an_upgrade_of_what_is_up_to_date_changes_nothing(app_engine):
    assert migrations.upgrade(app_engine.database.engine) == migrations.head()


@pytest.mark.usefixtures("clean")
def test_the_totals_can_be_taken_away_and_come_back_with_what_has_ended(app_engine, db):
    engine = app_engine.database.engine
    ended = (
        "INSERT INTO sagas (id, name, version, definition, state, input, ended_at) "
        "VALUES (gen_random_uuid(), 'one', 1, 'd', 'completed', '{}', saga_now())"
    )
    with engine.begin() as connection:
        command.downgrade(migrations._config(connection), "0006")
        connection.execute(text(ended))
        functions = "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%lock_acquired%' OR proname = 'saga_ended'"
        assert connection.execute(text(functions)).scalar_one() == 0
        assert connection.execute(text("SELECT to_regclass('saga_totals')")).scalar_one() is None
        command.upgrade(migrations._config(connection), "head")
    assert ends(app_engine) == {("one", "completed"): 1}
