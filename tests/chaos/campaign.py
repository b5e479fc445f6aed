"""A campaign: the siege, the calm after it, and what is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sqlalchemy import text

from sagajobs.cli.demo.scenario import hire
from sagajobs.root import settings
from sagajobs.testing.simulator import Simulator
from sagajobs.testing.stack import Stack, running
from tests.chaos.garrison import Garrison
from tests.chaos.load import Load
from tests.chaos.setting import Setting
from tests.chaos.siege import Blow, Siege
from tests.chaos.verdict import Verdict, judge
from tests.support import given
from tests.support.patience import patiently

PATIENCE = 300.0
"""Seconds that the calm may take: some of what failed often is tried again after minutes."""

HURRY = 20.0
"""Seconds between two turns of what waits for longer than that."""

_ITS_TURN = text("""
    WITH waiting AS (
        UPDATE saga_steps SET due_at = saga_now()
        WHERE state = 'waiting' AND due_at > saga_now() + make_interval(secs => :soon) RETURNING saga_id
    )
    UPDATE sagas SET next_at = saga_now() WHERE next_at IS NOT NULL AND id IN (SELECT saga_id FROM waiting)
""")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a campaign came to.

    Attributes:
        verdict: what is wrong, and what was counted.
        blows: all that fell.
        began: when, seconds since the epoch.
        calm: seconds that it took until all were at rest.
    """

    verdict: Verdict
    blows: list[Blow]
    began: float
    calm: float


def besiege(setting: Setting, progress: Callable[[float, str], None]) -> Outcome:
    """Lay siege, let it heal, judge; raises what ended the load before its time."""
    dice = Random(setting.seed)
    stack = running()
    with stack.engine.database.transaction() as connection:
        hire(connection)
    simulator = Simulator(stack.calcom)
    garrison = Garrison(setting.home, Random(dice.random()))
    load = Load(stack.engine, setting.rate, Random(dice.random()))
    siege = Siege(
        garrison=garrison,
        engine=stack.engine,
        simulator=simulator,
        home=setting.home,
        wipe=lambda: _wipe(stack),
        embedded=("postgres", "redis") if setting.broker is None else ("postgres",),
        dice=Random(dice.random()),
    )
    began = time.time()
    try:
        load.begin()
        siege.lay(setting.seconds, progress)
        load.end()
        calm = _await_rest(stack)
    finally:
        load.stop()
        garrison.stop()
        if setting.broker is not None:
            given.leave_broker(stack.app, settings().queue_prefix)
    with stack.engine.database.reading() as connection:
        verdict = judge(connection, simulator.ledger(), load.keys, siege.blows)
    stack.engine.database.close()
    simulator.close()
    return Outcome(verdict=verdict, blows=siege.blows, began=began, calm=calm)


def _wipe(stack: Stack) -> None:
    """Empty every queue; on Redis, forget everything else, too: what is not acknowledged, the quota, the circuit."""
    with stack.app.connection_for_write() as connection:
        if connection.transport.driver_type == "redis":
            connection.default_channel.client.flushall()
            return
    stack.purge()


def _await_rest(stack: Stack) -> float:
    """Wait until no saga is under way, or the patience is over: the verdict then says how many are.

    What is marked for retry waits for hours by its own policy; its turn comes every `HURRY` seconds here.
    """
    began = hurried = time.monotonic()
    pause = threading.Event()
    while time.monotonic() < began + PATIENCE and patiently(lambda: _under_way(stack)):
        pause.wait(0.5)
        if time.monotonic() > hurried + HURRY:
            hurried = time.monotonic()
            with stack.engine.database.transaction() as connection:
                connection.execute(_ITS_TURN, {"soon": HURRY})
    return time.monotonic() - began


def _under_way(stack: Stack) -> int:
    with stack.engine.database.reading() as connection:
        return int(connection.execute(text("SELECT count(*) FROM sagas WHERE next_at IS NOT NULL")).scalar_one())
