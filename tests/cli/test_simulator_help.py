"""What `sagajobs simulator --help` says of faults and hosts works as it stands."""

from __future__ import annotations

import re

import requests


def test_the_fault_that_the_help_shows_can_be_set(shell):
    helped = shell.sagajobs("simulator", "--help").out
    body = re.search(r"-d '(.*)'", helped)[1]
    faults = f"{shell.simulator}/_simulator/faults"
    try:
        made = requests.post(faults, data=body, timeout=60)
        assert made.status_code == 201, made.text
        answer = requests.get(faults, timeout=60).json()
    finally:
        requests.delete(faults, timeout=60)
    assert answer["faults"][-1].items() >= {"operation": "create", "kind": "timeout", "when": "after"}.items()
    act = re.search(r"PORT(/_simulator/host/\w+)", helped)[1]
    done = requests.post(f"{shell.simulator}{act}", data=re.findall(r"-d '(.*)'", helped)[1], timeout=60)
    assert (done.status_code, "UID" in done.text) == (404, True), "it is asked for a booking, which there is not"
    kinds = re.search(r"kind +(.*?)when", helped, re.DOTALL)[1]
    assert re.findall(r"\w+", kinds) == answer["rule"]["kind"]["enum"], "the help names every kind there is"
