"""`python -m tests.chaos`: a siege, the calm after it, and the verdict. Exit code 1 if anything is wrong."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.chaos.setting import Setting


def main() -> int:
    """Lay siege, and judge."""
    setting = _setting()
    setting.prepare()
    from tests.chaos import report  # now: they import the application, which reads the environment
    from tests.chaos.campaign import besiege

    print(f"chaos: {setting.seconds:g} s on {setting.broker_name}, seed {setting.seed}", flush=True)
    try:
        outcome = besiege(setting, lambda at, what: print(f"{at:7.1f} s  {what}", flush=True))
    finally:
        setting.clear()
    found = report.figures(setting, outcome)
    report.write(setting.report, found, outcome)
    print("\n".join(report.lines(found)))
    print(f"written: {setting.report / 'figures.json'} and timeline.svg beside it")
    good = outcome.verdict.good
    print("Nothing is wrong." if good else f"WRONG. The same blows again: CHAOS_SEED={setting.seed}")
    return 0 if good else 1


def _setting() -> Setting:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the siege lasts")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; a new one if not given")
    parser.add_argument("--rate", type=float, default=8.0, help="sagas started a second, at most")
    parser.add_argument("--broker", default=None, help="URL of a broker; an embedded Redis if not given")
    parser.add_argument("--report", type=Path, default=Path("build/chaos"), help="folder for the report")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    return Setting(seconds=given.seconds, seed=seed, rate=given.rate, broker=given.broker, report=given.report)


if __name__ == "__main__":
    sys.exit(main())
