"""What is deployed, as it stands in the repository: the compose file, the image, the units, and their commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))

OURS = ("migrate", "worker", "beat", "flower", "webhooks", "simulator")
"""Services that run our image."""

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?P<how>:?[-?])?(?P<other>[^}]*)\}|\$")


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Put variables in as Compose does, as far as the file makes use of it; one without a value is an error."""

    def put(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        assert found["name"], f"a bare $ at {text[max(found.start() - 20, 0) : found.end() + 20]!r}"
        value = environment.get(found["name"], "")
        assert value or found["how"] in {":-", "-"}, f"{found['name']} has no default"
        given = found["name"] in environment if found["how"] == "-" else value
        return value if given else found["other"]

    return _VARIABLE.sub(put, text)


def variables() -> dict[str, str]:
    """Return the variables that the compose file puts in, with their defaults."""
    return {found["name"]: found["other"] for found in _VARIABLE.finditer(COMPOSE) if found["name"]}


def compose(**environment: str) -> dict[str, Any]:
    """Return the compose file, parsed, its variables put in."""
    # First parsed, then put in, as Compose does it: a value cannot become structure.
    return _put_in(yaml.safe_load(COMPOSE), environment)


def _put_in(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _put_in(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [_put_in(value, environment) for value in node]
    return interpolated(node, environment) if isinstance(node, str) else node


def example() -> dict[str, str]:
    """Return the variables of `.env.example`, those in comments, too."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))


def unit(path: Path) -> list[tuple[str, str]]:
    """Return the settings of a unit, in order; some come more than once. `%%` is a per cent sign."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(key, value) for key, equals, value in (line.partition("=") for line in lines) if equals and key[0] != "#"]


def exec_start(path: Path) -> list[str]:
    """Return the command of a unit, as its first instance runs it."""
    (start,) = (value for key, value in unit(path) if key == "ExecStart")
    return shlex.split(start.replace("%i", "1").replace("%%", "%"))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Return each command of ours that is deployed, and where."""
    for name, service in compose()["services"].items():
        if name in OURS:
            yield f"compose: {name}", service["command"]
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["sagajobs"]:
            yield f"compose: health of {name}", test[1:]
    for path in UNITS:
        program, *arguments = exec_start(path)
        yield path.name, [Path(program).name, *arguments]
