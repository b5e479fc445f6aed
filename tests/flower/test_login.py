"""deploy/flowerconfig.py: a Flower that others can reach has the login of the settings, or does not start."""

from __future__ import annotations

import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.deploy.files import compose

CONFIGURATION = Path(__file__).parent.parent.parent / "deploy" / "flowerconfig.py"


def test_the_login_comes_by_file_and_health_needs_none(start_flower, tmp_path):
    secret = tmp_path / "login"
    secret.write_text("ann:a,password:of hers\n")
    flower = start_flower(f"--conf={CONFIGURATION}", auth=None, SAGAJOBS_FLOWER_LOGIN_FILE=str(secret))
    assert flower.get("/sagas").status_code == HTTPStatus.UNAUTHORIZED
    assert flower.get("/sagas", auth=("ann", "another")).status_code == HTTPStatus.UNAUTHORIZED
    assert flower.get("/sagas", auth=("ann", "a,password:of hers")).status_code == HTTPStatus.OK

    program, *check = compose()["services"]["flower"]["healthcheck"]["test"][1:]
    assert program == "python"
    check[-1] = check[-1].replace("127.0.0.1:5555", flower.url.removeprefix("http://"))
    assert subprocess.run([sys.executable, *check], check=False).returncode == 0


@pytest.mark.parametrize("address", ["", "0.0.0.0"])  # noqa: S104 - that is what it refuses
def test_open_to_others_without_one_it_does_not_start(address, tmp_path):
    done = Shell(tmp_path, {}).celery("flower", f"--address={address}", "--port=0", f"--conf={CONFIGURATION}")
    assert done.status == 1
    assert done.err.startswith("Error: SAGAJOBS_FLOWER_LOGIN: is missing")
    assert done.err.count("\n") == 1
