"""`python -m tests.recorded [STORY …]`: make recordings with the present code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    recording = f"{Path(__file__).parent / 'recording.py'}::test_record"
    stories = sys.argv[1:]
    os.environ["ANEW"] = " ".join(stories)
    chosen = [f"{recording}[{story}]" for story in stories] or [recording]
    sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", *chosen]))
