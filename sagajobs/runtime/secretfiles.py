"""Secrets by file: `SAGAJOBS_DATABASE_URL_FILE=/run/secrets/database_url` in place of the value itself.

So Docker, Kubernetes and systemd hand secrets over: a file is in no list of a container's variables, and in no child's
environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FILE_SUFFIX = "_FILE"
"""What a variable's name ends in that names the file which holds the value; the images of Docker's own library began
with it."""


def read_files(variables: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Read the values that the environment gives by file.

    Args:
        variables: names of those that may be given so, without the suffix, in capitals.

    Returns:
        The values, by variable, without the white space around them; and what is wrong, a line each, which begins with
        the name of what was set and quotes no value.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    values: dict[str, str] = {}
    problems: list[str] = []
    for variable in variables:
        named = f"{variable}{FILE_SUFFIX}"
        path = environment.get(named, "").strip()
        if not path:
            continue  # an empty one counts as unset: a compose file passes it on so
        if environment.get(variable, "").strip():
            problems.append(f"{named}: is set, and so is {variable}; remove one of them")
            continue
        try:
            values[variable] = _read(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(f"{named}: {path} cannot be used ({reason}); name a file that holds the value alone")
    return values, problems


def _read(path: Path) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    if not value:
        raise ValueError("it is empty")
    return value
