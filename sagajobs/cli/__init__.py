"""The command line: what a person types and reads.

`main` is the program `sagajobs`; `sagas.sagas` is its group of saga commands, which `celery -A … sagas` offers too.
"""

from sagajobs.cli.program import main

__all__ = ["main"]
