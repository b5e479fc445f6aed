"""A recorded history: of which saga, by which version, and what was on record at each point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.recorded.snapshot import State, changes

FOLDER = Path(__file__).parent / "histories"


@dataclass
class History:
    """What was on record of one saga, the first prefix first.

    Attributes:
        saga: the id.
        kind, version: as on record.
        prefixes: where it had come to, and everything that was on record there.
    """

    saga: str
    kind: str
    version: int
    prefixes: list[tuple[str, State]] = field(default_factory=list)

    def add(self, place: str, state: State) -> None:
        """Add a prefix, unless nothing has changed."""
        if not self.prefixes or self.prefixes[-1][1] != state:
            self.prefixes.append((place, state))

    def state(self, number: int = -1) -> str:
        """Return the saga's state at a prefix, by default the last."""
        (row,) = self.prefixes[number][1]["sagas"]
        return row["state"]

    def write(self, story: str) -> None:
        """Write it into its file, one prefix a line: only what has changed since the one before."""
        lines = [json.dumps({"saga": self.saga, "kind": self.kind, "version": self.version})]
        before: State | None = None
        for place, state in self.prefixes:
            lines.append(json.dumps({"place": place, "changed": changes(before, state)}, sort_keys=True))
            before = state
        path(story, self.version).write_text("\n".join(lines) + "\n", encoding="utf-8")


def path(story: str, version: int) -> Path:
    """Return the file of a story as a version of its saga has told it: other versions' stay."""
    return FOLDER / f"{story}-v{version}.jsonl"


def read(path: Path) -> History:
    """Read a file."""
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    history = History(**json.loads(first))
    history.prefixes = list(_unfolded(lines))
    return history


def _unfolded(lines: list[str]) -> Iterator[tuple[str, State]]:
    state: State = {}
    for line in lines:
        said = json.loads(line)
        state = state | said["changed"]
        yield said["place"], state
