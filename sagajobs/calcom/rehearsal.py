"""A Cal.com client that reads, and writes down what it would change instead of changing it."""

from __future__ import annotations

import copy
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sagajobs.calcom.gate import Gate
from sagajobs.errors import RehearsalOver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sagajobs.calcom.client import CalcomClient
    from sagajobs.calcom.operations import Operation
    from sagajobs.calcom.priority import Priority
    from sagajobs.calcom.transport import Answer, Transport


class RehearsalTransport:
    """Passes reads on, and keeps changes.

    Args:
        transport: what carries the reads.
        calls: the list that changes are put on, each with `method`, `path`, `body`, and `masked`: the body without what
            is about a person.
    """

    def __init__(self, transport: Transport, calls: list[Mapping[str, Any]]) -> None:
        self._transport = transport
        self._calls = calls

    @property
    def base_url(self) -> str:
        """As of the transport."""
        return self._transport.base_url

    def close(self) -> None:
        """Close the calling thread's connections."""
        self._transport.close()

    def call(
        self,
        operation: Operation,
        *,
        ref: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        personal: tuple[str, ...] = (),
        at_most: float | None = None,
    ) -> Answer:
        """Send a read; raise `RehearsalOver` for a change, which is on the list then."""
        if not operation.changes:
            return self._transport.call(operation, ref=ref, query=query, personal=personal, at_most=at_most)
        path = operation.path.format(ref)
        call = {"method": operation.method, "path": path, "body": body, "masked": masked(body, personal)}
        self._calls.append(call)
        raise RehearsalOver


class _RehearsalGate(Gate):
    """Lets through what is not sent, at no cost to the quota and whatever the circuit breaker says."""

    @contextmanager
    def passing(self, operation: Operation, priority: Priority) -> Iterator[None]:
        if operation.changes:
            yield
        else:
            with super().passing(operation, priority):
                yield


def masked(value: Any, personal: tuple[str, ...]) -> Any:
    """Return JSON with every text of `personal` replaced, wherever it stands."""
    if isinstance(value, dict):
        return {key: masked(inner, personal) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, personal) for inner in value]
    if isinstance(value, str):
        for text in sorted(filter(None, personal), key=len, reverse=True):
            value = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "***", value, flags=re.IGNORECASE)
    return value


def rehearsing(client: CalcomClient, calls: list[Mapping[str, Any]]) -> CalcomClient:
    """Return a client that reads like `client` and puts on a list what it would change."""
    view = copy.copy(client)
    gate, transport = client._gate, client._transport  # noqa: SLF001 - a view of the client, as its own `at` makes one
    vars(view).update(
        _gate=_RehearsalGate(circuit=gate.circuit, quota=gate.quota), _transport=RehearsalTransport(transport, calls)
    )
    return view
