"""Commands in the test's own process, on its database: most of a process of their own would be importing libraries."""

from __future__ import annotations

import json
from dataclasses import dataclass

from click.testing import CliRunner


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    out: str
    err: str
    status: int

    @property
    def json(self):
        return json.loads(self.out)


def sagajobs(*argv: str, **environment: str) -> Done:
    """Run `sagajobs` as in a pipe."""
    from sagajobs.cli import main

    result = CliRunner().invoke(main, argv, prog_name="sagajobs", env=environment, catch_exceptions=False)
    return Done(result.stdout, result.stderr, result.exit_code)
