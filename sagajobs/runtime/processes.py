"""A supervisor of child processes: starts them, notices their deaths, and leaves none of them behind.

One thread does all the work (starting, restarting, stopping), for three reasons: the kernel ties a child's
life to the *thread* that started it (see `lifeline`), so this must be one that lives as long as the
supervisor does; what it does cannot be cut in half by a Ctrl-C, which Python raises in the main thread; and
there is no second opinion on a child's state.

What becomes of the children when the supervisor

* leaves its ``with`` block, by an exception too: SIGTERM in reverse order, a grace, SIGKILL to the group;
* gets SIGTERM, SIGINT or SIGHUP: the same; a second signal cuts the graces short;
* is SIGKILLed: the kernel kills the children, the undertaker kills their groups (see `undertaker`).
"""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sagajobs.errors import SagajobsError
from sagajobs.runtime.child import (
    Child,
    ChildError,
    Command,
    RestartBudget,
    describe_exit,
    python_executable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType, TracebackType

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_UNDERTAKER = Path(__file__).with_name("undertaker.py")

_TICK = 0.05
"""Seconds between two looks at the readiness of children that are starting."""


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came while a supervisor was at work; its exit status is 128 + the signal's number."""


@dataclass(frozen=True)
class Program:
    """A child that a supervisor is to run.

    Attributes:
        name: unique among the supervisor's children.
        argv: the program and its arguments.
        log: file that its output is appended to.
        env: its whole environment, or None for ours.
        cwd: the folder it runs in, or None for ours.
        ready: tells whether it is up; called repeatedly in the supervisor's thread, must not block for long.
            Ready from the start if None.
        ready_timeout: seconds it may take to be ready.
        restarts: how many times within `restart_window` it is started again after a death.
        restart_window: seconds.
        grace: seconds between SIGTERM and SIGKILL.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = field(default=None, repr=False)  # passwords stand in it
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    ready_timeout: float = 60.0
    restarts: int = 0
    restart_window: float = 60.0
    grace: float = 10.0


@dataclass(frozen=True)
class Death:
    """A child ended without having been asked to.

    Attributes:
        name: the child's name.
        pid: its process id.
        returncode: exit status; negative: the signal that killed it.
        successor: the process id of the one that the supervisor has started in its place, None if it has not.
    """

    name: str
    pid: int
    returncode: int
    successor: int | None

    @property
    def restarted(self) -> bool:
        """Whether the supervisor has started it again."""
        return self.successor is not None

    def __str__(self) -> str:
        """Say it in one line."""
        after = f"started again as pid {self.successor}" if self.restarted else "not started again"
        return f"{self.name} (pid {self.pid}) ended with {describe_exit(self.returncode)}: {after}"


@dataclass
class _Ward:
    """What the supervisor knows about one of its children."""

    program: Program
    child: Child
    budget: RestartBudget
    deadline: float
    waiter: Future[int] | None = None
    ready: bool = False


@dataclass
class _Call:
    """Something that the supervisor's thread is to do, and where the answer goes."""

    act: Callable[[Future[Any]], None]
    answer: Future[Any]


class Supervisor:
    """Runs programs as children and ends them when its ``with`` block is left, however that happens.

    In the main thread it takes SIGTERM, SIGINT and SIGHUP over while the block runs: the first of them raises
    (`KeyboardInterrupt` for SIGINT, else `Terminated`), any later one only makes the stopping quicker.

    Args:
        on_death: called in the supervisor's own thread for every child that ends unasked.
    """

    def __init__(self, *, on_death: Callable[[Death], None] | None = None) -> None:
        self._on_death = on_death
        self._inbox: queue.SimpleQueue[_Call | Child | None] = queue.SimpleQueue()
        self._wards: dict[str, _Ward] = {}
        self._lost: queue.SimpleQueue[Death] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._interrupted = False
        self._handlers: dict[signal.Signals, Any] = {}
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._undertaker: subprocess.Popen[str] | None = None

    # -- for the caller's thread --

    def __enter__(self) -> Self:
        # In a session of its own: a Ctrl-C in the terminal must not reach the one who cleans up after us.
        self._undertaker = subprocess.Popen(  # noqa: S603 - our own file
            [python_executable(), "-I", "-S", str(_UNDERTAKER)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup: a lost terminal is to be ignored
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupted = True  # from here on a signal only hastens the end
        self._inbox.put(None)
        self._thread.join()
        assert self._undertaker is not None  # noqa: S101 - set on entry; for the type checker
        self._undertaker.communicate()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def start(self, program: Program) -> int:
        """Start a program and wait until it is ready.

        Returns:
            Its process id.

        Raises:
            ChildError: it ended or was not ready in time; it is gone then.
        """

        def act(answer: Future[int]) -> None:
            self._start(program, answer)

        return self._ask(act)

    def stop(self, name: str) -> None:
        """Stop one child: SIGTERM, its grace, SIGKILL to its group. It is not started again."""

        def act(answer: Future[None]) -> None:
            self._stop(name)
            answer.set_result(None)

        self._ask(act)

    def pids(self) -> dict[str, int]:
        """Return the process id of each child by name, in the order they were started."""

        def act(answer: Future[dict[str, int]]) -> None:
            answer.set_result({name: ward.child.pid for name, ward in self._wards.items()})

        return self._ask(act)

    def wait(self, timeout: float | None = None) -> Death | None:
        """Wait for a death after which the child was not started again.

        Args:
            timeout: seconds to wait at most, or None for ever.

        Returns:
            The death, or None when the time was over first.
        """
        try:
            return self._lost.get(timeout=timeout)
        except queue.Empty:
            return None

    def _ask(self, act: Callable[[Future[_T]], None]) -> _T:
        if not self._thread.is_alive():
            raise SagajobsError("this supervisor is not at work (outside its with block)")
        answer: Future[_T] = Future()
        self._inbox.put(_Call(act, answer))
        return answer.result()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._interrupted:
            self._hurry.set()
            return
        self._interrupted = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(128 + number)

    # -- for the supervisor's own thread --

    def _work(self) -> None:
        while True:
            starting = any(not ward.ready for ward in self._wards.values())
            try:
                event = self._inbox.get(timeout=_TICK if starting else None)
            except queue.Empty:
                self._look_at_starting()
                continue
            if event is None:
                break
            if isinstance(event, Child):
                self._bereaved(event)
            else:
                self._answer(event)
        for name in reversed(list(self._wards)):
            self._stop(name)

    @staticmethod
    def _answer(call: _Call) -> None:
        try:
            call.act(call.answer)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller's thread, which raises it
            call.answer.set_exception(error)

    def _start(self, program: Program, answer: Future[int]) -> None:
        if program.name in self._wards:
            raise SagajobsError(f"a child named {program.name} runs already")
        program.log.parent.mkdir(parents=True, exist_ok=True)
        budget = RestartBudget(program.restarts, program.restart_window)
        self._raise_up(program, budget, answer)

    def _raise_up(self, program: Program, budget: RestartBudget, answer: Future[int] | None) -> int:
        command = Command(program.argv, env=program.env, cwd=program.cwd)
        child = Child(program.name, command, program.log, on_death=self._inbox.put)
        self._tell_undertaker("+", child)
        deadline = time.monotonic() + program.ready_timeout
        self._wards[program.name] = _Ward(program, child, budget, deadline, answer)
        self._look_at_starting()
        return child.pid

    def _look_at_starting(self) -> None:
        for ward in list(self._wards.values()):
            if ward.ready:
                continue
            try:
                ward.child.check_alive()
                if ward.program.ready is None or ward.program.ready():
                    ward.ready = True
                    self._report(ward, None)
                elif time.monotonic() > ward.deadline:
                    raise ward.child.failure(f"was not ready within {ward.program.ready_timeout:g} s")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - a condition that raises is a failed start, too
                self._give_up_start(ward, error)

    def _give_up_start(self, ward: _Ward, error: Exception) -> None:
        if ward.waiter is None:  # a restart: count it as a death, which the budget bounds
            ward.child.stop(grace=0.0)
            return
        self._stop(ward.program.name)
        self._report(ward, error)

    @staticmethod
    def _report(ward: _Ward, error: Exception | None) -> None:
        if ward.waiter is None:
            return
        if error is None:
            ward.waiter.set_result(ward.child.pid)
        else:
            ward.waiter.set_exception(error)
        ward.waiter = None

    def _bereaved(self, child: Child) -> None:
        ward = self._wards.get(child.name)
        if ward is None or ward.child is not child:  # we stopped it ourselves
            return
        del self._wards[child.name]
        self._tell_undertaker("-", child)
        if ward.waiter is not None:
            self._report(ward, self._start_failure(child))
            return
        successor = self._restart(ward) if ward.budget.spend() else None
        self._announce(Death(child.name, child.pid, child.returncode or 0, successor))

    def _restart(self, ward: _Ward) -> int | None:
        try:
            return self._raise_up(ward.program, ward.budget, None)
        except OSError:  # no process or file to be had: it must not end the care for the other children
            _logger.exception("%s cannot be started again", ward.program.name)
            return None

    @staticmethod
    def _start_failure(child: Child) -> ChildError:
        return child.failure(f"ended with {describe_exit(child.returncode or 0)} before it was ready")

    def _announce(self, death: Death) -> None:
        _logger.warning("%s", death)
        if not death.restarted:
            self._lost.put(death)
        if self._on_death:
            try:
                self._on_death(death)
            except Exception:  # the caller's mistake must not end the care for the other children
                _logger.exception("on_death failed for %s", death.name)

    def _stop(self, name: str) -> None:
        ward = self._wards.pop(name, None)
        if ward is None:
            raise SagajobsError(f"no child is named {name}")
        ward.child.stop(grace=ward.program.grace, hurry=self._hurry)
        self._tell_undertaker("-", ward.child)

    def _tell_undertaker(self, sign: str, child: Child) -> None:
        assert self._undertaker is not None  # noqa: S101 - set on entry; for the type checker
        assert self._undertaker.stdin is not None  # noqa: S101 - it was asked for; for the type checker
        try:
            self._undertaker.stdin.write(f"{sign}{child.pid}\n")
        except BrokenPipeError:  # somebody killed it: the kernel's signal still covers the children
            _logger.warning("the undertaker is gone: a SIGKILL of this process may now leave grandchildren")
