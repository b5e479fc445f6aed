"""The dashboard is one that Grafana understands: its own types read every part of it, and lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

WRITTEN = Path(__file__).parents[2] / "deploy" / "grafana" / "sagajobs.json"

OF_THE_DATA_SOURCE = {".annotations.list[0].titleFormat", ".annotations.list[0].textFormat"}
"""What Prometheus' plug-in reads, of which Grafana's own types know nothing."""


def test_grafanas_own_types_read_it_and_lose_nothing():
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    understood = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))
    assert _lost(written, understood) == OF_THE_DATA_SOURCE
    assert _lost({**written, "panelz": []}, understood) - OF_THE_DATA_SOURCE == {".panelz"}, "a slip would be seen"


def _lost(written: Any, understood: Any, where: str = "") -> set[str]:
    """Return which parts of a document are not in another one, or differ there."""
    if isinstance(written, dict) and isinstance(understood, dict):
        inner = [(f"{where}.{key}", value, understood.get(key, _lost)) for key, value in written.items()]
    elif isinstance(written, list) and isinstance(understood, list) and len(written) == len(understood):
        pairs = zip(written, understood, strict=True)
        inner = [(f"{where}[{n}]", one, other) for n, (one, other) in enumerate(pairs)]
    else:
        return set() if written == understood else {where}
    return set().union(*(_lost(one, other, path) for path, one, other in inner))
