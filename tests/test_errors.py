"""The exception tree: complete in its drawing, and able to travel between processes."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
import traceback

import pytest

import sagajobs
import sagajobs.errors
from sagajobs.errors import SagajobsError

for module in pkgutil.walk_packages(sagajobs.__path__, "sagajobs."):
    if module.name.endswith(".errors"):
        importlib.import_module(module.name)


def whole_tree(kind=SagajobsError):
    yield kind
    for child in kind.__subclasses__():
        yield from whole_tree(child)


TREE = [kind for kind in dict.fromkeys(whole_tree()) if kind.__module__.startswith("sagajobs.")]


def built(kind):
    """Make an exception with something in every argument that its constructor knows."""
    names = [one.name for one in inspect.signature(kind.__init__).parameters.values() if one.kind is one.KEYWORD_ONLY]
    values = {"failed_compensations": {"step": "why"}}
    return kind("what happened", **{name: values.get(name, f"<{name}>") for name in names})


@pytest.mark.parametrize("kind", TREE)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])  # noqa: S301
def test_every_exception_survives_a_journey(kind, travel):
    error = built(kind)
    error.add_note("seen on the way")

    arrived = travel(error)

    assert type(arrived) is kind
    assert str(arrived) == "what happened"
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)
    assert traceback.format_exception(arrived) == traceback.format_exception(error)


def test_the_tree_has_more_than_the_base():
    assert {kind.__name__ for kind in TREE} >= {"SagaCompensationException", "SlotTaken", "CalcomRateLimited"}


def test_the_drawing_shows_every_exception():
    drawn = set(re.findall(r"^ {4}(?:[│├└─ ]*)(\w+)", sagajobs.errors.__doc__, flags=re.MULTILINE))

    assert drawn >= {kind.__name__ for kind in TREE}
