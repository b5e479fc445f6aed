"""`sagas graph`: a definition drawn."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from pydantic import BaseModel

from sagajobs.desk.diagram import diagram, mermaid, svg
from sagajobs.saga import Saga, step
from tests.cli.inprocess import sagajobs

SVG = "{http://www.w3.org/2000/svg}"


class Trip(Saga):
    """Everything that a step may be."""

    name = "trip"
    Input = type("Input", (BaseModel,), {})

    @step
    def plan(self, db): ...

    @plan.compensation(when=lambda saga: True)
    def forget(self, db): ...

    @step(external=True, each=lambda saga: 2)
    def fly(self, key, number): ...

    @fly.probe
    def find_flight(self, key, number): ...

    @fly.compensation
    def stay(self, result, number): ...

    @step(parallel=True, when=lambda saga: False)
    def sleep(self, db): ...

    @sleep.compensation
    def wake(self, db): ...

    @step(pivot=True)
    def pay(self, db): ...

    @step(optional=True)
    def tell(self, db): ...


def test_mermaid_has_every_step_and_the_way_back():
    assert mermaid(diagram(Trip.definition)).splitlines() == [
        "flowchart TD",
        '    begin(["trip"])',
        '    step_plan["<b>plan</b><br/>local"]',
        '    subgraph stage_1["side by side"]',
        '    step_fly["<b>fly</b><br/>external, once for each item, side by side, probe find_flight"]',
        '    step_sleep["<b>sleep</b><br/>local, conditional"]',
        "    end",
        '    step_pay{{"<b>pay</b><br/>local, pivot"}}',
        '    step_tell("<b>tell</b><br/>local, optional")',
        '    done(["completed"])',
        "    begin --> step_plan",
        "    step_plan --> step_fly & step_sleep",
        "    step_fly & step_sleep --> step_pay",
        "    step_pay --> step_tell",
        "    step_tell --> done",
        '    undo_fly["<b>stay</b>"]',
        "    step_fly -. undo .-> undo_fly",
        '    undo_sleep["<b>wake</b>"]',
        "    step_sleep -. undo .-> undo_sleep",
        '    undo_plan["<b>forget</b><br/>conditional"]',
        "    step_plan -. undo .-> undo_plan",
        '    undone(["compensated"])',
        "    undo_fly & undo_sleep -.-> undo_plan",
        "    undo_plan -.-> undone",
        "    style undo_fly,undo_sleep,undo_plan stroke-dasharray: 4",
    ]


def test_the_picture_has_a_box_for_each_and_none_upon_another():
    root = ET.fromstring(svg(diagram(Trip.definition)))  # noqa: S314 - our own
    names = [one.text for one in root.iter(f"{SVG}text") if one.get("class") == "name"]
    assert sorted(names) == sorted(
        ["trip", "plan", "fly", "sleep", "pay", "tell", "completed", "forget", "stay", "wake", "compensated"]
    )
    boxes = [one for one in root.iter(f"{SVG}rect") if one.get("class")]
    assert len(boxes) == len(names)
    corners = {(float(box.get("x")), float(box.get("y"))) for box in boxes}
    assert len(corners) == len(boxes)
    width, height = float(root.get("width")), float(root.get("height"))
    assert all(x + 270 < width and y + 66 < height for x, y in corners)
    assert {box.get("class") for box in boxes} == {"step", "pivot", "optional", "undo", "end"}
    arrows = [one.get("class") for one in root.iter(f"{SVG}path") if not one.get("style")]
    assert (arrows.count(None), arrows.count("back")) == (7, 5)


def test_a_long_name_stays_in_its_box():
    drawn = replace(diagram(Trip.definition), name="n" * 60)
    (long,) = (one for one in ET.fromstring(svg(drawn)).iter(f"{SVG}text") if one.text == "n" * 60)  # noqa: S314
    assert float(long.get("textLength")) < 270


@pytest.mark.usefixtures("app_engine")
def test_a_kind_is_drawn_printed_and_written(tmp_path):
    assert sagajobs("graph", "appointment_sync").out.startswith('flowchart TD\n    begin(["appointment_sync"])\n')
    steps = sagajobs("graph", "composite_booking", "--json").json["stages"]
    assert [stage[0]["undo"] for stage in steps] == [None, "delete_appointments", "cancel_segment", None]
    out = tmp_path / "one.svg"
    done = sagajobs("graph", "composite_booking", "--format", "svg", "--out", str(out))
    assert (done.status, done.out) == (0, "")
    assert out.read_text() == sagajobs("graph", "composite_booking", "--format", "svg").out
    unknown = sagajobs("graph", "weddings")
    assert unknown.status == 2
    assert "choose from appointment_creation, " in unknown.err
    nowhere = sagajobs("graph", "composite_booking", "--out", str(tmp_path / "no" / "where.svg"))
    assert (nowhere.status, nowhere.err.count("\n")) == (1, 1)
    assert "cannot write" in nowhere.err
