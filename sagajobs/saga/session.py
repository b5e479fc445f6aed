"""A caller's session: whether sagas can be started in it, and what is to be done once it has committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, scoped_session

from sagajobs.errors import InvalidInput

_PENDING = "sagajobs.after_commit"
"""The name under which a session keeps what waits for its commit."""


def checked(session: Any) -> Session:
    """Return the session in which a saga can be started; that of this thread, where there is one for each.

    Raises:
        InvalidInput: it is no session, or one of another database; before a statement with private values fails in it.
    """
    if isinstance(session, scoped_session):
        session = session()  # what listens to the whole would hear of the commits of all threads
    if not isinstance(session, Session):
        raise InvalidInput(f"session: a SQLAlchemy Session is wanted, not {type(session).__name__}")
    if (dialect := session.get_bind().dialect.name) != "postgresql":
        raise InvalidInput(f"session: it is bound to {dialect}; sagas are recorded in PostgreSQL")
    return session


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Call `action` once the session's outermost transaction has committed; forget it if that is rolled back."""
    pending: list[Callable[[], None]] | None = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_rollback", _rolled_back)
    pending.append(action)


def _committed(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a SAVEPOINT was released: the saga is not visible to anybody yet
    pending, session.info[_PENDING][:] = list(session.info[_PENDING]), []
    for action in pending:
        action()


def _rolled_back(session: Session) -> None:
    # A saga whose SAVEPOINT alone was rolled back leaves a hint at nothing behind, which a worker drops.
    if not session.in_nested_transaction():
        session.info[_PENDING].clear()
