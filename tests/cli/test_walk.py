"""`sagas review` and many cases at once, at a terminal: nothing is done that is not confirmed."""

from __future__ import annotations

from sqlalchemy import text

from tests.cli.inprocess import sagajobs
from tests.cli.terminal import at_terminal
from tests.support.asked import ask


def open_cases(engine) -> set[int]:
    return {case.number for case in engine.review.cases()}


def test_cases_are_walked_through_and_only_what_is_confirmed_is_done(nobody_told, db):
    third, first, second = (ask(nobody_told, hours=hours) for hours in (72, 24, 48))
    with at_terminal("sagas", "review", "--who", "Ann") as walk:
        walk.says("3 wait for a person", "1 of 3", first.saga, "retry:", "skip: not here", "resolve --undone:")
        walk.says("retry, undone, abandon, next, back, private, quit [next]: ")
        assert "ecret" not in walk.text, "only on demand"
        walk.type("skip")
        walk.says("choose one of retry, undone")
        walk.type("p")
        walk.says("evidence", "mia.secret", "[next]: ")
        walk.type("r")
        walk.says("Who you are [Ann]: ")
        walk.type("")
        walk.says("Your reason, for the record: ")
        walk.type("wait")
        walk.says(f"retry, case {first.case}: do it? [y/N]: ")
        walk.type("")
        walk.says("nothing was done", "1 of 3", "[next]: ")
        assert open_cases(nobody_told) == {first.case, second.case, third.case}

        walk.type("undone")
        for said, typed in (("[Ann]: ", "Eve"), ("record: ", "it never came about"), ("[y/N]: ", "y")):
            walk.says(said)
            walk.type(typed)
        walk.says(f"case {first.case} settled by Eve: resolve --undone; saga {first.saga} is compensating")
        walk.says("2 of 3", second.saga, "[next]: ")
        nobody_told.review.abandon(third.case, who="Bob", why="was faster")
        walk.type("")
        walk.says(f"passed over: case {third.case} was settled by Bob", "these were all")
        assert walk.ends() == 0
    assert open_cases(nobody_told) == {second.case}
    noted = text("SELECT detail FROM saga_events WHERE saga_id = :id AND event = 'review_closed'")
    detail = db.execute(noted, {"id": first.saga}).scalar_one()
    assert (detail["who"], detail["why"]) == ("Eve", "it never came about")


def test_somebody_goes_back_loses_a_race_and_quits(nobody_told):
    first, second = (ask(nobody_told, hours=hours) for hours in (24, 48))
    with at_terminal("sagas", "review") as walk:
        walk.says("1 of 2", "[next]: ")
        walk.type("b")
        walk.says("1 of 2", "[next]: ")
        walk.type("n")
        walk.says("2 of 2", "[next]: ")
        walk.type("b")
        walk.says("1 of 2", first.saga, "[next]: ")
        walk.type("a")
        walk.says("Who you are")
        walk.type("")
        walk.says("Your reason")
        walk.type("too late")
        walk.says("do it?")
        nobody_told.review.retry(first.case, who="Bob", why="was faster")
        walk.type("y")
        walk.says("passed over: ", "settled by Bob", "2 of 2", second.saga, "[next]: ")
        walk.interrupt()
        walk.says("the others are left as they are")
        assert walk.ends() == 0
    assert open_cases(nobody_told) == {second.case}


def test_what_cannot_be_done_is_told_and_asked_anew(nobody_told, calcom_simulator):
    case = ask(nobody_told, step="book_calcom")
    with at_terminal("sagas", "review") as walk:
        walk.says("resolve --done REFERENCE:", "retry, done, undone, abandon, next, back, private, quit [next]: ")
        walk.type("done")
        walk.says("reference outside")
        walk.type("nobody")
        walk.says("nothing was done: Cal.com has no booking nobody", "1 of 1", "[next]: ")
        walk.type("q")
        assert walk.ends() == 0
    assert open_cases(nobody_told) == {case.case}


def test_many_are_settled_once_that_is_confirmed_and_until_somebody_ends_it(nobody_told):
    cases = [ask(nobody_told, hours=hours) for hours in (1, 2, 3)]
    with at_terminal("sagas", "retry", "--cause", "ConnectTimeout", "--why", "x", "--rate", "1/h") as many:
        many.says("retry: 3 cases of appointment_creation, one after the other? [y/N]: ")
        assert len(open_cases(nobody_told)) == 3
        many.type("y")
        many.says(f"case {cases[0].case} settled by", "1/3")
        many.interrupt()
        many.says("1 case settled, interrupted with 2 left")
        assert many.ends() == 6
    assert open_cases(nobody_told) == {case.case for case in cases[1:]}


def test_a_pipe_only_lists(nobody_told):
    case = ask(nobody_told)
    listed = sagajobs("sagas", "review")
    assert listed.status == 0
    assert listed.out.splitlines()[1].split()[:2] == [str(case.case), case.saga]
