"""The keeper of one embedded server: starts it, revives it, and stops it when its last user is gone.

It waits for one of three events, whichever thread or signal handler they come from: the server died, nobody
uses it any more, somebody asked the keeper to end (SIGTERM). If the keeper itself is SIGKILLed, the kernel
stops its server (see `lifeline`) and takes back its locks; the next `acquire` starts another keeper, which
clears up what is left.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import signal
import threading
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import psutil

from sagajobs.errors import ConfigurationError
from sagajobs.runtime.child import Child, ChildError, RestartBudget, describe_exit
from sagajobs.runtime.embedded.locks import lock, open_lock, unlock
from sagajobs.runtime.embedded.state import ServerState, end_process

if TYPE_CHECKING:
    from sagajobs.runtime.embedded.component import Component

_logger = logging.getLogger(__name__)

_COMPLAINT = re.compile(r"fatal|error", re.IGNORECASE)
"""What tells the reason of a failed start from the rest of a server's log."""

_LARGEST_LOG = 4_000_000
"""Bytes that a server's log may have before a start puts it aside."""


class _Event(Enum):
    UNUSED = auto()
    ASKED_TO_END = auto()


@dataclass
class Inheritance:
    """Descriptors from the process that started the keeper.

    Attributes:
        start: the start lock, held for both of us.
        keeper: the keeper's lock, held for both of us.
        report: write end of the pipe on which the starter waits.
    """

    start: int
    keeper: int
    report: int


class Keeper:
    """Runs one component's server until nobody needs it.

    Args:
        component: the server to run.
        inheritance: what the starter passed on; the keeper closes it.
    """

    def __init__(self, component: Component, inheritance: Inheritance) -> None:
        self._component = component
        self._place = component.place
        self._inherited = inheritance
        # A SimpleQueue, because only its put() may be called from a signal handler.
        # A child on it is a server that has died.
        self._events: queue.SimpleQueue[_Event | Child] = queue.SimpleQueue()
        self._budget = RestartBudget()
        self._server: Child | None = None
        # Opened now: the folder may be gone when the server is to be stopped.
        self._start_lock = open_lock(self._place.start_lock)
        self._users_lock = open_lock(self._place.users_lock)

    def run(self) -> int:
        """Keep the server; return the exit status for this process."""
        signal.signal(signal.SIGTERM, lambda *_: self._events.put(_Event.ASKED_TO_END))
        try:
            self._end_leftover()
            self._put_log_aside()
            url = self._start_server()
        except (ConfigurationError, ChildError, OSError) as error:
            _logger.exception("cannot start")
            self._stop_server()
            self._report({"error": self._one_line(error)})
            return 1
        self._report({"url": url})
        os.close(self._inherited.start)  # the starter holds it until it has read the report
        threading.Thread(target=self._await_last_user, name="users", daemon=True).start()
        return self._keep()

    def _keep(self) -> int:
        status = 0
        while True:
            event = self._events.get()
            if isinstance(event, _Event):
                _logger.info("stopping: %s", event.name)
                break
            if event is not self._server:  # a server whose start had failed
                continue
            # Newcomers wait at this lock until the server is back; the kernel frees it if we are killed here.
            lock(self._start_lock)
            if not self._revive():
                status = 1
                break
            unlock(self._start_lock)
        # From here on newcomers wait until we are gone, then find the keeper's lock free and start afresh.
        lock(self._start_lock)
        self._place.state.unlink(missing_ok=True)
        self._stop_server()
        # Before the process ends, which closes descriptors in no particular order: whoever gets the start
        # lock must find this one free.
        os.close(self._inherited.keeper)
        return status

    def _start_server(self) -> str:
        command = self._component.prepare()
        child = Child(self._component.name, command, self._place.server_log, on_death=self._events.put)
        self._server = child
        try:
            # Before it is ready: if we are killed now, the next keeper must know whom to wait for.
            ServerState.of(child.pid, None).write(self._place.state)
        except psutil.NoSuchProcess:
            child.wait()
        url = child.await_ready(lambda: self._component.address(child), self._component.start_timeout)
        ServerState.of(child.pid, url).write(self._place.state)
        return url

    def _revive(self) -> bool:
        """Start the server again, on the same address; False if that is hopeless."""
        while self._budget.spend():
            _logger.warning("the server ended with %s: starting it again", describe_exit(self._exit_status()))
            try:
                self._start_server()
            except (ConfigurationError, ChildError, OSError):
                _logger.exception("cannot start again")
                self._stop_server()
                continue
            return True
        _logger.error("the server died too often: giving up")
        return False

    def _exit_status(self) -> int:
        return (self._server.returncode if self._server else None) or 0

    def _stop_server(self) -> None:
        if self._server:
            self._server.stop(self._component.stop_signal, self._component.stop_grace)
        self._place.state.unlink(missing_ok=True)
        self._component.clean()

    def _end_leftover(self) -> None:
        """End the server of a SIGKILLed keeper: on Linux it is ending already, elsewhere it runs on."""
        leftover = ServerState.read(self._place.state)
        if leftover is None:
            return
        process = leftover.process()
        if process:
            end_process(process, self._component.stop_signal, self._component.stop_grace)
        self._place.state.unlink()

    def _put_log_aside(self) -> None:
        log = self._place.server_log
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))

    def _await_last_user(self) -> None:
        lock(self._users_lock)
        self._events.put(_Event.UNUSED)

    def _report(self, answer: dict[str, str]) -> None:
        try:
            with open(self._inherited.report, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
                json.dump(answer, stream)
        except BrokenPipeError:
            _logger.warning("the process that wanted the server is gone; nobody to tell %s", answer)

    def _one_line(self, error: Exception) -> str:
        if isinstance(error, ConfigurationError):
            return str(error)
        if isinstance(error, ChildError):
            complaints = [line for line in error.tail if _COMPLAINT.search(line)]
            said = (*complaints, *error.tail[-1:], "it said nothing")[0]
            return f"the embedded {self._component.name} server does not start: {said} (log: {error.log})"
        log = self._place.keeper_log
        return f"the embedded {self._component.name} server does not start: {error} (log: {log})"
