"""`python -m tests.recorded [NAME …]`: make recordings with the present code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    here = Path(__file__).parent / "recording.py"
    chosen = " or ".join(sys.argv[1:])
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *(["-k", chosen] if chosen else []), str(here)]))
