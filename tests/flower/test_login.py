"""A Flower that others can reach has a login, of the settings or of its own, or does not start."""

from __future__ import annotations

import subprocess
import sys
from http import HTTPStatus
from socket import create_connection

import pytest

from tests.cli.conftest import Shell
from tests.deploy.files import compose


def test_the_login_comes_by_file_and_health_needs_none(start_flower, tmp_path):
    secret = tmp_path / "login"
    secret.write_text("ann:a,password:of hers\n")
    flower = start_flower("--address=0.0.0.0", auth=None, SAGAJOBS_FLOWER_LOGIN_FILE=str(secret))
    assert flower.get("/sagas").status_code == HTTPStatus.UNAUTHORIZED
    assert flower.get("/sagas", auth=("ann", "another")).status_code == HTTPStatus.UNAUTHORIZED
    assert flower.get("/sagas", auth=("ann", "a,password:of hers")).status_code == HTTPStatus.OK

    program, *check = compose()["services"]["flower"]["healthcheck"]["test"][1:]
    assert program == "python"
    check[-1] = check[-1].replace("127.0.0.1:5555", flower.url.removeprefix("http://"))
    assert subprocess.run([sys.executable, *check], check=False).returncode == 0


def test_without_one_and_told_no_address_it_listens_for_this_machine_only(start_flower):
    flower = start_flower("--address=", auth=None)  # what Flower itself takes for: for everybody
    assert "Flower has no login, and listens on 127.0.0.1 only" in flower.log.read_text()
    assert flower.get("/sagas").status_code == HTTPStatus.OK
    port = int(flower.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        create_connection(("127.0.0.2", port), timeout=60)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "a-name.example"])  # noqa: S104 - that is what it refuses
def test_open_to_others_without_one_it_does_not_start(address, tmp_path):
    done = Shell(tmp_path, {}).celery("flower", f"--address={address}", "--port=0")
    assert done.status == 1
    assert done.err.startswith(f"Error: SAGAJOBS_FLOWER_LOGIN: is missing, and Flower at {address} would be open")
    assert done.err.count("\n") == 1
