"""The report of a siege: figures as text and JSON, and a picture of how the work went on under the blows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.chaos.campaign import Outcome
from tests.chaos.setting import Setting

WIDTH, HEIGHT, LEFT, LANE = 1000, 220, 190, 14
STEP = 2.0
"""Seconds of one bar of the picture."""


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that `share` of the sorted values do not exceed, None of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def figures(setting: Setting, outcome: Outcome) -> dict[str, Any]:
    """Return all that was counted and measured."""
    verdict = outcome.verdict
    dealt = Counter(blow.what for blow in outcome.blows)
    return {
        "seed": setting.seed,
        "seconds": setting.seconds,
        "broker": setting.broker_name,
        "sagas": sum(sum(states.values()) for states in verdict.states.values()),
        "states": verdict.states,
        "blows": dict(sorted(dealt.items())),
        "wrong": dict(verdict.wrong),
        "cases": verdict.cases,
        "events": verdict.events,
        "sagas hit by a death": len(verdict.recoveries),
        "seconds until a saga that was hit went on": {
            name: None if value is None else round(value, 2)
            for name, value in (
                ("p50", quantile(verdict.recoveries, 0.5)),
                ("p99", quantile(verdict.recoveries, 0.99)),
                ("max", verdict.recoveries[-1] if verdict.recoveries else None),
            )
        },
        "seconds of calm until all were at rest": round(outcome.calm, 1),
    }


def write(folder: Path, found: dict[str, Any], outcome: Outcome) -> None:
    """Write `figures.json` and `timeline.svg` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    picture = ET.ElementTree(_picture(outcome, found))
    ET.indent(picture)
    picture.write(folder / "timeline.svg", encoding="unicode")


def lines(found: dict[str, Any]) -> list[str]:
    """Return the figures as a person reads them."""
    rows: list[tuple[str, Any]] = [("seed", found["seed"]), ("broker", found["broker"]), ("sagas", found["sagas"])]
    for name, states in found["states"].items():
        rows.append((f"  {name}", ", ".join(f"{n} {state}" for state, n in states.items())))
    rows += [("blows", sum(found["blows"].values())), *((f"  {what}", n) for what, n in found["blows"].items())]
    rows += [("sagas hit by a death", found["sagas hit by a death"])]
    went_on = found["seconds until a saga that was hit went on"]
    rows += [("  seconds until it went on", ", ".join(f"{name} {value}" for name, value in went_on.items()))]
    rows += [("seconds of calm until all were at rest", found["seconds of calm until all were at rest"])]
    rows += [
        ("cases for a person", sum(found["cases"].values())),
        *((f"  {why}", n) for why, n in found["cases"].items()),
    ]
    rows += list(found["wrong"].items())
    return [f"{name:48} {value}" for name, value in rows]


def _picture(outcome: Outcome, found: dict[str, Any]) -> ET.Element:
    ends = [end - outcome.began for end in outcome.verdict.ends]
    dealt = [(blow.what, blow.when - outcome.began) for blow in outcome.blows]
    last = max([*ends, *(at for _, at in dealt), 1.0])
    kinds = sorted({what for what, _ in dealt})
    tall = HEIGHT + LANE * len(kinds) + 40
    root = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {tall}", style="font: 11px sans-serif"
    )
    ET.SubElement(root, "rect", width=str(WIDTH), height=str(tall), fill="white")

    def x(seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 10) * seconds / last, 1)

    bars = Counter(int(end / STEP) for end in ends)
    most = max(bars.values(), default=1)
    title = f"sagas that ended in {STEP:g} s (most: {most}); seed {found['seed']}, {found['broker']}"
    _text(root, 10, 16, title)
    for bar, n in bars.items():
        height = round((HEIGHT - 40) * n / most, 1)
        wide = max(x((bar + 1) * STEP) - x(bar * STEP) - 0.5, 0.5)
        ET.SubElement(
            root,
            "rect",
            x=str(x(bar * STEP)),
            y=str(HEIGHT - height),
            width=f"{wide:.1f}",
            height=str(height),
            fill="#4878a8",
        )
    for lane, kind in enumerate(kinds):
        y = HEIGHT + 18 + LANE * lane
        _text(root, 10, y, kind)
        for what, at in dealt:
            if what == kind:
                ET.SubElement(root, "circle", cx=str(x(at)), cy=str(y - 4), r="3", fill="#b03030")
    _text(root, LEFT, tall - 8, "0 s")
    _text(root, WIDTH - 60, tall - 8, f"{last:.0f} s")
    return root


def _text(parent: ET.Element, x: float, y: float, what: str) -> None:
    ET.SubElement(parent, "text", x=str(x), y=str(y)).text = what
