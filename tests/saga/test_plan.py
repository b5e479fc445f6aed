"""What a delivery finds to do, for every state that the table can be in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import BaseModel

from sagajobs.saga import RetryPolicy, Saga, SagaState, StepState, step
from sagajobs.saga.plan import Do, Plan, forward, next_undo
from sagajobs.saga.records import Look, SagaRecord, StepGlance, StepRecord


class Input(BaseModel):
    pass


class Sample(Saga):
    name = "plan_sample"
    Input = Input

    @step(retry=RetryPolicy(max_attempts=3))
    def local(self, db): ...

    @local.compensation
    def undo_local(self, db): ...

    @step(external=True, retry=RetryPolicy(max_attempts=3))
    def external(self, key): ...

    @external.probe
    def find(self, key): ...

    @external.compensation
    def undo_external(self, result): ...

    @step(irreversible=True)
    def last(self, db): ...


LOCAL, EXTERNAL, LAST = Sample.definition.steps


def look(step, state=StepState.WAITING, *, saga=SagaState.RUNNING, stage=None, late=False, hints=0, others=None, **row):
    states = {one.name: StepState.WAITING for one in Sample.definition.steps} | {step.name: state} | (others or {})
    record = SagaRecord(
        id="id",
        name=Sample.name,
        version=1,
        definition="x",
        kind="declared",
        state=saga,
        stage=step.stage if stage is None else stage,
        input={},
        hints=hints,
        error=None,
        useful_until=None,
        late=late,
        steps={
            one.name: StepGlance(name=one.name, state=states[one.name], stage=one.stage, position=one.stage)
            for one in Sample.definition.steps
        },
    )
    values = {
        "attempts": 0,
        "undo_attempts": 0,
        "probes": 0,
        "absences": 0,
        "absent_for": 0.0,
        "fence": 0,
        "output": None,
        "error": None,
        "leased": False,
        "early": False,
        "wait": 0.0,
        "landing": 0.0,
    } | row
    return Look(record, StepRecord(name=step.name, state=state, stage=step.stage, **values))


def test_a_first_delivery_of_a_local_step_counts_itself_at_its_end():
    assert forward(look(LOCAL), LOCAL, redelivered=False) == Plan(Do.RUN, attempt=1, counted=False)


def test_an_external_step_is_counted_before_the_call():
    assert forward(look(EXTERNAL), EXTERNAL, redelivered=False) == Plan(Do.RUN, attempt=1, counted=True)


@pytest.mark.parametrize(("redelivered", "hints"), [(True, 0), (False, 1)])
def test_a_later_delivery_of_a_local_step_counts_the_one_that_left_no_trace_too(redelivered, hints):
    plan = forward(look(LOCAL, hints=hints), LOCAL, redelivered=redelivered)
    assert plan == Plan(Do.RUN, attempt=2, counted=True)


def test_where_one_attempt_is_all_a_lost_message_does_not_use_it_up():
    once = replace(LOCAL, retry=RetryPolicy(max_attempts=1))
    assert forward(look(LOCAL, hints=3), once, redelivered=False) == Plan(Do.RUN, attempt=1, counted=True)
    assert forward(look(LOCAL), once, redelivered=True).do is Do.EXHAUSTED


def test_a_delivery_beyond_the_last_attempt_finds_them_used_up():
    dead = look(LOCAL, StepState.RUNNING, attempts=3)
    assert forward(dead, LOCAL, redelivered=True).do is Do.EXHAUSTED
    assert forward(look(LOCAL, StepState.RUNNING, attempts=2), LOCAL, redelivered=True).attempt == 3


@pytest.mark.parametrize("step", [LOCAL, EXTERNAL])
@pytest.mark.parametrize("held", [{"leased": True}, {"early": True}])
def test_what_is_leased_or_not_due_is_left_alone(step, held):
    plan = forward(look(step, wait=7.0, **held), step, redelivered=True)
    assert plan == Plan(Do.NOTHING, wait=7.0)


def test_a_row_that_another_transaction_holds_is_left_alone():
    assert forward(Look(look(LOCAL).saga, None), LOCAL, redelivered=True).do is Do.NOTHING


@pytest.mark.parametrize("state", [StepState.UNKNOWN, StepState.RUNNING])
def test_an_unknown_outcome_is_settled_before_anything_is_repeated(state):
    assert forward(look(EXTERNAL, state, attempts=1), EXTERNAL, redelivered=False).do is Do.SETTLE


def test_a_local_step_whose_worker_died_is_repeated_as_it_was_rolled_back():
    plan = forward(look(LOCAL, StepState.RUNNING, attempts=1), LOCAL, redelivered=False)
    assert plan == Plan(Do.RUN, attempt=2, counted=True)


def test_past_its_time_a_saga_is_not_begun_but_settled():
    assert forward(look(EXTERNAL, late=True), EXTERNAL, redelivered=False).do is Do.TOO_LATE
    unknown = look(EXTERNAL, StepState.UNKNOWN, late=True)
    assert forward(unknown, EXTERNAL, redelivered=False).do is Do.SETTLE


def test_a_duplicate_ends_and_its_chain_with_it():
    done = look(LOCAL, StepState.DONE, stage=1)
    assert forward(done, LOCAL, redelivered=False).do is Do.NOTHING


def test_a_redelivered_message_carries_the_chain_on_only_onto_an_untouched_step():
    done = look(LOCAL, StepState.DONE, stage=1)
    assert forward(done, LOCAL, redelivered=True).do is Do.CARRY_ON
    begun = look(LOCAL, StepState.DONE, stage=1, others={"external": StepState.RUNNING})
    assert forward(begun, LOCAL, redelivered=True).do is Do.NOTHING
    further = look(LOCAL, StepState.DONE, stage=2)
    assert forward(further, LOCAL, redelivered=True).do is Do.NOTHING


@pytest.mark.parametrize(
    "saga", [SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.PAUSED, SagaState.MANUAL_REVIEW_REQUIRED]
)
def test_a_saga_at_rest_has_nothing_to_do(saga):
    assert forward(look(LOCAL, saga=saga), LOCAL, redelivered=True).do is Do.NOTHING


def test_a_failure_that_celery_never_heard_of_is_raised_again():
    failed = look(EXTERNAL, StepState.FAILED, saga=SagaState.COMPENSATING)
    assert forward(failed, EXTERNAL, redelivered=True).do is Do.FAIL_AGAIN
    assert forward(failed, EXTERNAL, redelivered=False).do is Do.NOTHING


def undo(**states):
    saga = look(
        LOCAL, saga=SagaState.COMPENSATING, others={name: StepState(state) for name, state in states.items()}
    ).saga
    finished = {name: replace(one, finished=float(one.stage)) for name, one in saga.steps.items()}
    found = next_undo(replace(saga, steps=finished), Sample.definition, lambda step: step.undo is not None)
    return found and found.name


def test_undo_goes_from_the_newest_to_the_oldest():
    assert undo(local="done", external="done", last="failed") == "external"
    assert undo(local="done", external="undone", last="failed") == "local"
    assert undo(local="undone", external="undone", last="failed") is None


def test_what_may_still_happen_comes_first():
    assert undo(local="done", external="unknown") == "external"
    assert undo(local="done", external="running") == "external"


def test_an_undo_that_was_begun_is_finished_before_what_lies_below_it():
    assert undo(local="done", external="undoing") == "external"
    assert undo(local="done", external="undo_failed") == "external"


def test_what_has_no_undo_is_passed_by():
    assert undo(local="undone", external="failed", last="done") is None
