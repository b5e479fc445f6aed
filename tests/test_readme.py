"""The README's code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagajobs.root import engine
from tests.support.sagas import forget

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("clean", "simulator", "worker")
def test_use_it(capsys):
    exec(compile(BLOCKS[0], "README.md", "exec"), {"__name__": "readme"})  # noqa: S102 - that is the test
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    # Asked for one after the other, while workers are at it.
    assert re.fullmatch(r"\S{36} (pending|running|completed) (held|confirming|confirmed)", first)
    assert second == "completed"
    assert third.startswith("Appointment(")
    assert "failed at step book_calcom (SlotTaken) and was undone" in fourth


def test_mount_the_receiver():
    names: dict = {"__name__": "readme"}
    exec(compile(BLOCKS[1], "README.md", "exec"), names)  # noqa: S102 - that is the test
    assert all(callable(names[name]) for name in ("handle_webhook", "webhook_asgi", "webhook_wsgi"))


@pytest.mark.usefixtures("clean")
def test_write_a_saga():
    names: dict = {"__name__": "readme"}
    exec(compile(BLOCKS[2], "README.md", "exec"), names)  # noqa: S102 - that is the test
    try:
        results = names["ShippingSaga"].run({"order_id": 1})
    finally:
        forget(engine, "shipping")
    assert results["reserve_stock"] == {"reserved": 1}
    assert results["order_courier"]["order"].endswith("/order_courier")


def test_there_are_no_other_blocks():
    assert len(BLOCKS) == 3
