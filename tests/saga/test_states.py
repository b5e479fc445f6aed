"""The state machine, in the code and in the database."""

from __future__ import annotations

import itertools
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sagajobs.errors import IllegalTransition
from sagajobs.saga.states import (
    ENDED,
    RESTING,
    SAGA_ARROWS,
    STEP_ARROWS,
    UNFINISHED,
    SagaState,
    StepState,
    check_saga,
    check_step,
)


def test_every_state_has_its_arrows():
    assert set(SAGA_ARROWS) == set(SagaState)
    assert set(STEP_ARROWS) == set(StepState)


def test_ended_resting_and_unfinished_are_all_states_once():
    assert sorted([*ENDED, *RESTING, *UNFINISHED]) == sorted(SagaState)
    assert all(not SAGA_ARROWS[state] for state in ENDED)


def test_illegal_arrows_are_refused_by_the_code():
    for old, new in itertools.product(SagaState, repeat=2):
        if old == new or new in SAGA_ARROWS[old]:
            check_saga(old, new)
        else:
            with pytest.raises(IllegalTransition):
                check_saga(old, new)
    with pytest.raises(IllegalTransition):
        check_step(StepState.DONE, StepState.RUNNING)


def _columns(state: str) -> dict[str, object]:
    return {
        "ended_at": "2026-01-01" if state in ENDED else None,
        "next_at": "2026-01-01" if state in UNFINISHED else None,
        "paused_from": "running" if state == "paused" else None,
    }


@pytest.mark.usefixtures("clean")
def test_the_database_allows_exactly_the_same_arrows_of_sagas(app_engine):
    for old, new in itertools.permutations(SagaState, 2):
        with app_engine.database.engine.connect() as connection, connection.begin() as transaction:
            saga_id = str(uuid.uuid4())
            connection.execute(
                text(
                    "INSERT INTO sagas (id, name, version, definition, state, input, ended_at, next_at, paused_from) "
                    "VALUES (:id, 'x', 1, 'x', :state, '{}', :ended_at, :next_at, :paused_from)"
                ),
                {"id": saga_id, "state": old, **_columns(old)},
            )
            change = text(
                "UPDATE sagas SET state = :state, ended_at = :ended_at, next_at = :next_at, "
                "paused_from = :paused_from WHERE id = :id"
            )
            values = {"id": saga_id, "state": new, **_columns(new)}
            if new in SAGA_ARROWS[old]:
                connection.execute(change, values)
            else:
                with pytest.raises(IntegrityError, match="illegal transition"):
                    connection.execute(change, values)
            transaction.rollback()


@pytest.mark.usefixtures("clean")
def test_the_database_allows_exactly_the_same_arrows_of_steps(app_engine):
    for old, new in itertools.permutations(StepState, 2):
        with app_engine.database.engine.connect() as connection, connection.begin() as transaction:
            saga_id = str(uuid.uuid4())
            connection.execute(
                text(
                    "INSERT INTO sagas (id, name, version, definition, state, input, next_at) "
                    "VALUES (:id, 'x', 1, 'x', 'running', '{}', now())"
                ),
                {"id": saga_id},
            )
            connection.execute(
                text(
                    "INSERT INTO saga_steps (saga_id, name, position, stage, external, state) "
                    "VALUES (:id, 's', 0, 0, false, :state)"
                ),
                {"id": saga_id, "state": old},
            )
            change = text("UPDATE saga_steps SET state = :state WHERE saga_id = :id")
            if new in STEP_ARROWS[old]:
                connection.execute(change, {"id": saga_id, "state": new})
            else:
                with pytest.raises(IntegrityError, match="illegal transition"):
                    connection.execute(change, {"id": saga_id, "state": new})
            transaction.rollback()
