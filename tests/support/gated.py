"""Sagas behind a quota and a circuit of a test's own: one run's calls must not be counted with another's."""

from __future__ import annotations

import uuid
from dataclasses import replace

from sagajobs import root
from sagajobs.calcom.circuit import Circuit
from sagajobs.calcom.client import CalcomClient
from sagajobs.calcom.gate import Gate
from sagajobs.calcom.shared import Shared

FAILURES, RESET = 5, 30.0
"""What the application sets by default."""


def gate(monkeypatch, kind, *, per_minute: int) -> tuple[Circuit, Shared]:
    """Put the calls of a kind of saga behind a gate; return its circuit, and where it is kept."""
    servers = root.servers()
    shared = Shared(lambda: servers.redis, f"cal_test_{uuid.uuid4().hex}")
    circuit = Circuit(shared, failures=FAILURES, reset=RESET, longest_call=5)
    quota = root.Quota(shared, per_minute, delay=0.5)
    client = CalcomClient(
        servers.calcom,
        servers.calcom_api_key,
        connect_timeout=60,  # faults answer, or drop the connection; a machine that stands still is none
        read_timeout=60,
        gate=Gate(circuit=circuit, quota=quota),
    )
    monkeypatch.setattr(kind, "services", replace(kind.services, client=lambda: client, circuit=lambda: circuit))
    return circuit, shared
